"""Whatever goes wrong, no secret is told: not in the log, not in a response, not in the list of processes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from infra.config.postgres_address import PostgresAddress
from infra.sandbox.faults import Fault
from infra.store.postgres.schema import migrate
from tests import postgres
from tests.acceptance import gateway
from tests.acceptance.blundering import BUG
from tests.acceptance.contract import Json
from tests.acceptance.gateway import BOT_TOKEN, JWT_SECRET, Gate, Service, message, opened, question
from tests.acceptance.gateway import derived_webhook_secret as webhook_secret

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary"
"""Part of every secret that a test can choose, so that a piece of one is noticed too."""

FAULTS: list[tuple[str, Json]] = [
    ("error", {"status": 500}),
    ("error", {"status": 502}),
    ("error", {"status": 400, "description": "CHAT_RESTRICTED"}),
    ("error", {"status": 401}),
    ("error", {"status": 403, "description": "bot was blocked by the user"}),
    ("error", {"status": 404}),
    ("error", {"status": 409, "description": "terminated by other getUpdates request"}),
    ("too_many_requests", {"retry_after": 1}),
    ("reset", {}),
    ("reset", {"effect": True}),
    ("nonsense", {}),
    ("huge", {}),
]


@dataclass(slots=True)
class Told:
    """Everything that the server has told anybody."""

    gate: Gate
    bodies: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, **options: Json) -> int:
        """Make a request, keep all that is answered, and return the status."""
        address = self.gate.server.address + path
        async with self.gate.session.request(method, address, **options) as response:
            self.bodies.append(f"{response.status} {response.reason} {response.headers}")
            self.bodies.append(await response.text())
            return response.status

    async def as_service(self, service: Service, method: str, path: str, body: Json = None) -> int:
        """A request with a token."""
        headers = {"Authorization": f"Bearer {service.token}", "Prefer": "wait=5"}
        return await self.ask(method, path, json=body, headers=headers)

    def look_at_processes(self) -> None:
        """What everybody on the machine can see of the server."""
        process = self.gate.server.process
        assert process is not None
        for number in (process.pid, *self.gate.server.workers):
            folder = Path(f"/proc/{number}")
            self.processes += [(folder / name).read_text() for name in ("cmdline", "comm", "status")]

    def check(self) -> None:
        """No secret anywhere, and no piece of one."""
        secrets = {BOT_TOKEN, JWT_SECRET, webhook_secret(), postgres.PASSWORD, *self.gate.server.tokens}
        for place, text in self.places():
            for secret in (
                CANARY,
                *secrets,
                *(token.rpartition(".")[2] for token in self.gate.server.tokens),
            ):
                at = text.lower().find(secret.lower())
                assert at < 0, f"In {place}: …{text[max(0, at - 300) : at + 300]}…"

    def places(self) -> list[tuple[str, str]]:
        """Where a secret could be, by name."""
        return [
            ("the log", self.gate.server.log),
            ("a response", "\n".join(self.bodies)),
            ("the list of processes", "\n".join(self.processes)),
        ]


@pytest.mark.parametrize("log_format", [pytest.param("text", marks=pytest.mark.slow), "json"])
async def test_after_a_run_of_faults_no_secret_is_in_any_line_any_response_and_any_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.blundering:create_app")
    url = postgres.server().tcp_url(postgres.server().fresh_name())
    await migrate(PostgresAddress.parse(url))
    async with opened(tmp_path, settings={"DATABASE_URL": url, "LOG_FORMAT": log_format}) as gate:
        told, service = Told(gate), gate.service()
        await telegram_fails(told, service)
        await bugs_are_met(told, service)
        await nonsense_is_asked(told, service)
        await the_database_stops(told, service)
        await telegram_has_no_address(told, service)
        await everything_is_asked(told, service)
        told.look_at_processes()
        await gate.end_test()
        await gate.server.stop()
        assert gate.server.log.count("Blunder") >= 2
        assert gate.server.log.count("(hidden)") >= 2
        told.check()
        # The bugs' tracebacks are right here, and in no other test.
        (gate.server.folder / "server.log").write_text("")


async def telegram_fails(told: Told, service: Service) -> None:
    """Each fault in a chat of its own, when something is sent, closed and acknowledged."""
    await asyncio.gather(*(telegram_fails_so(told, service, kind, details) for kind, details in FAULTS))
    told.gate.sandbox.faults.lift()


async def telegram_fails_so(told: Told, service: Service, kind: str, details: Json) -> None:
    gate = told.gate
    ada, grace = gate.person(), gate.person()
    met = [
        gate.sandbox.fault(kind, method="sendMessage", chat=ada.id, **details),
        gate.sandbox.fault(kind, method="editMessageText", chat=grace.id, **details),
        gate.sandbox.fault(kind, method="answerCallbackQuery", **details),
    ]
    await told.as_service(service, "POST", "/v1/messages", message(ada))
    task = await service.asked(question(grace))
    await grace.taps(await gate.next_message(grace), "Yes")
    await service.until(task["id"], "answered")
    await gate.sandbox.wait_for(partial(all_met, met), within=30, what=f"the calls that meet {kind}")


def all_met(faults: Sequence[Fault]) -> bool:
    return all(fault.hits for fault in faults)


async def bugs_are_met(told: Told, service: Service) -> None:
    assert await told.as_service(service, "POST", "/v1/sweep") == 500
    body = message(told.gate.person(), BUG)
    # It may have been sent: the mistake came in the middle of the call.
    assert await told.as_service(service, "POST", "/v1/messages", body) == 504


async def nonsense_is_asked(told: Told, service: Service) -> None:
    refused = {
        "wrong": f"Bearer {service.token[:-3]}abc",
        "secret": f"Bearer {JWT_SECRET}",
        "bot": f"Bearer {BOT_TOKEN}",
        "basic": "Basic Y2FuYXJ5OmNhbmFyeQ==",
        "long": "Bearer " + CANARY * 2000,
    }
    for header in refused.values():
        for path in ("/v1/me", "/v1/tasks", "/telegram/webhook"):
            method = "POST" if path.startswith("/telegram") else "GET"
            status = await told.ask(method, path, headers={"Authorization": header})
            assert status in {400, 401}
    assert await told.ask("GET", f"/v1/tasks?token={service.token}") == 401
    assert await told.ask("GET", f"/bot{BOT_TOKEN}/getMe") == 404
    headers = {"X-Telegram-Bot-Api-Secret-Token": webhook_secret()[:-1], "Content-Type": "application/json"}
    assert await told.ask("POST", "/telegram/webhook", headers=headers, data=b"{}") == 401
    for raw in (b"{", f'{{"chat": "{CANARY}"}}'.encode().replace(CANARY.encode(), b"x"), b"\xff" * 100):
        response = await service.call("POST", "/v1/messages", raw=raw)
        told.bodies.append(response.told())


async def the_database_stops(told: Told, service: Service) -> None:
    postgres.server().stop("immediate")
    try:
        assert await told.as_service(service, "POST", "/v1/messages", message(told.gate.person())) == 503
        assert await told.ask("GET", "/readyz") == 503
    finally:
        postgres.server().start()
    await told.gate.server.until_answered("/readyz", 200)


async def telegram_has_no_address(told: Told, service: Service) -> None:
    server = told.gate.server
    await server.stop()
    server.settings["TELEGRAM_API_URL"] = "http://telegram.invalid"
    await server.start()
    assert await told.as_service(service, "POST", "/v1/messages", message(815)) == 202
    async with asyncio.timeout(30):
        while "The host name could not be looked up" not in server.log:  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.1)


async def everything_is_asked(told: Told, service: Service) -> None:
    paths = ("/readyz", "/healthz", "/openapi.json", "/v1/me", "/v1/capabilities", "/v1/tasks?limit=200")
    for path in (*paths, "/v1/chats", "/metrics", "/nowhere"):
        with contextlib.suppress(UnicodeDecodeError):
            await told.as_service(service, "GET", path)


LEAKS = (BOT_TOKEN, BOT_TOKEN.replace(":", "%3A"), BOT_TOKEN.partition(":")[2], webhook_secret())
WORDS = "Bad Request: POST /bot{}/sendMessage (secret {}, {}, {}) was not understood".format(*LEAKS)


@pytest.mark.parametrize("status", [400, 401, 403, 409])
async def test_a_secret_in_the_words_of_telegram_or_of_a_proxy_is_passed_on_to_nobody(
    gate: Gate, status: int
) -> None:
    service, told = gate.service(), Told(gate)
    ada, grace = gate.person(), gate.person()
    details: Json = {"status": status, "description": WORDS}
    met = [
        gate.sandbox.fault("error", method="sendMessage", chat=ada.id, **details),
        gate.sandbox.fault("error", method="editMessageText", chat=grace.id, **details),
        gate.sandbox.fault("error", method="answerCallbackQuery", **details),
    ]
    await told.as_service(service, "POST", "/v1/messages", message(ada))
    assert "was not understood" in told.bodies[-1]
    task = await service.asked(question(grace))
    await grace.taps(await gate.next_message(grace), "Yes")
    await service.until(task["id"], "answered")
    await gate.sandbox.wait_for(partial(all_met, met), within=30, what="the calls that meet it")
    await everything_is_asked(told, service)
    told.check()
    with contextlib.closing(sqlite3.connect(gate.server.database)) as database:
        rows = str(database.execute("SELECT progress FROM telegate_tasks").fetchall())
    assert "was not understood" in rows
    assert [leak for leak in LEAKS if leak in rows] == []
