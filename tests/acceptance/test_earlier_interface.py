"""The earlier interface: secrets in files, a certificate of its own, and POST /enqueue_command."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.acceptance.contract import Json
from tests.acceptance.gateway import BOT_TOKEN, Gate, Service, environment, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """A server with config/secrets/{bot_api.txt, allowed_user.txt, certificate.pem, key.pem}."""
    folder = tmp_path_factory.mktemp("earlier")
    secrets = folder / "config" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "bot_api.txt").write_text(f"{BOT_TOKEN}\n")
    (secrets / "allowed_user.txt").write_text("815\n")
    _make_certificate(secrets)
    trust = ssl.create_default_context(cafile=secrets / "certificate.pem")
    settings = {
        "BOT_TOKEN": "",
        "BOT_TOKEN_FILE": "config/secrets/bot_api.txt",
        "PERSON_ROLES": "",
        "PERSON_ROLES_FILE": "config/secrets/allowed_user.txt",
        "TLS_CERT_FILE": "config/secrets/certificate.pem",
        "TLS_KEY_FILE": "config/secrets/key.pem",
    }
    async with opened(folder, tls=trust, settings=settings, started=False) as gate:
        await gate.set_webhook((secrets / "certificate.pem").read_bytes())
        await gate.server.start()
        await gate.until_identified()
        yield gate


def _make_certificate(folder: Path) -> None:
    command = (sys.executable, "-m", "infra", "cert", "new", "--host", "127.0.0.1", "--out", str(folder))
    made = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert {path.name for path in folder.glob("*.pem")} == {"certificate.pem", "key.pem"}
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0


def command(name: str, arguments: Json) -> Json:
    return {"command": name, "arguments": arguments}


async def enqueue(service: Service, name: str, arguments: Json) -> Json:
    return (await service.call("POST", "/enqueue_command", command(name, arguments))).task(200)


async def test_both_interfaces_are_served_over_the_server_s_own_certificate(
    gate: Gate, service: Service
) -> None:
    assert gate.server.address.startswith("https://")
    ada = gate.person()
    asking = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    presses = await gate.sandbox.wait_for(
        lambda: [each.status for each in gate.sandbox.updates.attempts if each.kind == "callback_query"],
        what="the webhook's answer to the press",
    )
    assert set(presses) == {200}


async def test_somebody_who_does_not_trust_the_certificate_cannot_speak_to_it(gate: Gate) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{gate.server.address}/healthz")


async def test_plain_http_on_the_tls_port_gets_nothing(gate: Gate) -> None:
    address = gate.server.address.replace("https", "http")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{address}/healthz")


async def test_a_bare_id_in_allowed_user_txt_is_an_operator(gate: Gate) -> None:
    ada = gate.sandbox.person(815)
    await ada.says(-1001234567890, "/help")
    await gate.sandbox.wait_for(
        lambda: any("/deploy" in each.text for each in gate.sandbox.chat(-1001234567890).messages)
    )


async def test_a_message_is_enqueued(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await enqueue(service, "message", message(ada, "Hello"))
    assert (task["kind"], task["state"]) == ("message", "sent")
    assert (await gate.next_message(ada)).text == "Hello"
    assert await service.task(task["id"]) == task


async def test_a_question_is_enqueued_and_held_like_any_other(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = command("question", question(ada))
    asking = gate.begin(service.call("POST", "/enqueue_command", body, prefer="wait=20"))
    await ada.taps(await gate.next_message(ada), "No")
    assert (await asking).task(200)["answer"]["choice"] == "no"


async def test_the_permission_of_the_named_endpoint_decides(gate: Gate, service: Service) -> None:
    notifier = service.with_roles("notifier")
    assert (await enqueue(notifier, "message", message("ops")))["state"] == "sent"
    body = command("question", question("ops", respondents={"anyone": True}))
    (await notifier.call("POST", "/enqueue_command", body)).problem("forbidden")
    body = command("message", message(815))
    (await notifier.call("POST", "/enqueue_command", body)).problem("chat_forbidden")
    (await gate.request("POST", "/enqueue_command", json=body)).problem("unauthenticated")


BAD: list[tuple[Json, set[str]]] = [
    ({"command": "fly", "arguments": {}}, {"/command"}),
    ({"command": "", "arguments": {}}, {"/command"}),
    ({"command": 7, "arguments": []}, {"/command", "/arguments"}),
    ({"arguments": {}}, {"/command"}),
    ({"command": "message"}, {"/arguments"}),
    ({"command": "message", "arguments": {}, "extra": 1}, {"/extra"}),
    ({"command": "message", "arguments": {}}, {"/arguments/chat", "/arguments/text"}),
    (
        {"command": "question", "arguments": {"chat": 1, "text": "?", "options": [{"id": "a"}], "x": 1}},
        {"/arguments/options/0/label", "/arguments/x"},
    ),
    ({"command": "message", "arguments": {"chat": "nowhere", "text": "?"}}, {"/arguments/chat"}),
]


@pytest.mark.parametrize(("body", "pointers"), BAD)
async def test_what_is_wrong_is_told_with_its_place_in_the_whole_body(
    gate: Gate, service: Service, body: Json, pointers: set[str]
) -> None:
    assert (await service.call("POST", "/enqueue_command", body)).pointers() == pointers
