"""Services whose tokens come from an issuer: its keys change, it is slow, it is gone, and strangers knock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.contract import Response
from tests.acceptance.gateway import Gate, Service, opened
from tests.issuer import TokenIssuer, running_issuer

LIMIT = 20.0
KNOCKS, AT_ONCE = 10_000, 50


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are fetched again after seconds instead of minutes; everything else is as always."""
    monkeypatch.setenv("ACCEPTANCE_APPLICATION", "tests.acceptance.hasty:create_app")


@asynccontextmanager
async def both(folder: Path, **settings: str) -> AsyncIterator[tuple[TokenIssuer, Gate]]:
    """An issuer, and a gateway that trusts it and has no secret of its own."""
    async with (
        running_issuer(folder) as issuer,
        opened(folder, settings={**issuer.settings, "JWT_SECRET": "", **settings}) as gate,
    ):
        yield issuer, gate


def of(issuer: TokenIssuer, gate: Gate, *roles: str, **options: Any) -> Service:
    """The service ci with a token of the issuer."""
    token = issuer.token("ci", *(roles or ("approver",)), **options)
    gate.server.tokens.add(token)
    return Service(gate, "ci", token)


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so."""
    async with asyncio.timeout(LIMIT):
        while not await look():  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.05)


async def checks(gate: Gate) -> dict[str, str]:
    """What /readyz says, which is ready all the time."""
    response = await gate.request("GET", "/readyz")
    assert response.status == 200
    told: dict[str, str] = response.document["checks"]
    return told


async def test_a_token_of_the_issuer_stands_for_its_service_with_the_roles_that_both_name(
    tmp_path: Path,
) -> None:
    async with both(tmp_path) as (issuer, gate):
        me = (await of(issuer, gate, "notifier", "everything").get("/v1/me")).document
        assert (me["service"], me["roles"]) == ("ci", ["notifier"])
        wrong: list[dict[str, Any]] = [
            {"aud": "account"},
            {"sub": "service-account-ci"},
            {"roles": None},
            {"jti": None},
            {"exp": int(time.time()) + 7200},
            {"iss": "https://issuer.example.com"},
        ]
        for claims in wrong:
            (await of(issuer, gate, **claims).get("/v1/me")).problem("unauthenticated")
        assert (await checks(gate))["issuer"] == "ok"
        assert issuer.fetches == 1


async def test_ten_thousand_unknown_kids_cause_two_fetches_a_minute_and_valid_tokens_pass(
    tmp_path: Path,
) -> None:
    async with both(tmp_path, LOG_LEVEL="error") as (issuer, gate):
        known = of(issuer, gate)
        assert (await known.get("/v1/me")).status == 200
        strange = [issuer.token("ci", "approver", kid=f"stranger-{number}") for number in range(AT_ONCE)]
        before, begun = issuer.fetches, time.monotonic()

        async def knock(number: int) -> None:
            for each in range(KNOCKS // AT_ONCE):
                token = strange[number]
                if each % 10 == 0:
                    token = issuer.token("ci", "approver", kid=f"stranger-{number}-{each}")
                headers = {"Authorization": f"Bearer {token}"}
                (await gate.request("GET", "/v1/me", headers=headers)).problem("unauthenticated")

        flood = asyncio.gather(*map(knock, range(AT_ONCE)))
        passed = 0
        while not flood.done():
            assert (await of(issuer, gate).get("/v1/me")).status == 200
            assert (await known.get("/v1/me")).status == 200
            passed += 1
        await flood
        assert passed
        assert issuer.fetches - before <= 1 + (time.monotonic() - begun) // 30


async def test_an_issuer_that_is_down_at_the_start_is_waited_for_and_nothing_else_is(
    tmp_path: Path, hasty: None
) -> None:
    async with both(tmp_path, JWT_SECRET="canary-jwt-secret-0123456789-abcdefghijklmnop") as (issuer, gate):
        await gate.server.stop()
        await issuer.stop()
        await gate.server.start()

        async def refused() -> Response:
            response = await of(issuer, gate).get("/v1/me")
            response.problem("overloaded")
            assert int(response.headers["Retry-After"]) >= 1
            return response

        told = (await refused()).document["detail"]
        assert "issuer" in told
        assert "127.0.0.1" not in told
        assert (await gate.service().get("/v1/me")).status == 200
        assert "cannot be reached" in (await checks(gate))["issuer"]
        await issuer.start()

        async def passes() -> bool:
            return (await of(issuer, gate).get("/v1/me")).status == 200

        await until(passes)
        assert (await checks(gate))["issuer"] == "ok"


async def test_a_new_key_counts_at_once_and_a_removed_one_soon_no_more(tmp_path: Path, hasty: None) -> None:
    async with both(tmp_path) as (issuer, gate):
        old = of(issuer, gate)
        assert (await old.get("/v1/me")).status == 200
        issuer.add_key("second")

        async def new_counts() -> bool:
            return (await of(issuer, gate, kid="second").get("/v1/me")).status == 200

        await until(new_counts)
        assert (await old.get("/v1/me")).status == 200
        del issuer.keys["first"]

        async def old_is_refused() -> bool:
            return (await old.get("/v1/me")).status == 401

        await until(old_is_refused)
        assert await new_counts()


async def test_keys_that_were_fetched_once_count_while_the_issuer_is_gone_and_it_is_told(
    tmp_path: Path, hasty: None
) -> None:
    async with both(tmp_path) as (issuer, gate):
        assert (await of(issuer, gate).get("/v1/me")).status == 200
        await issuer.stop()

        async def is_told() -> bool:
            assert (await of(issuer, gate).get("/v1/me")).status == 200
            return (await checks(gate))["issuer"] != "ok"

        await until(is_told)
        (await of(issuer, gate, kid="stranger").get("/v1/me")).problem("unauthenticated")
        assert (await of(issuer, gate).get("/v1/me")).status == 200
        assert "The keys of the token issuer cannot be fetched" in gate.server.log


async def test_while_the_issuer_hangs_known_tokens_are_answered_and_unknown_ones_in_seconds(
    tmp_path: Path, hasty: None
) -> None:
    async with both(tmp_path) as (issuer, gate):
        known = of(issuer, gate)
        assert (await known.get("/v1/me")).status == 200
        asked = asyncio.Event()

        async def hang(_: web.Request) -> web.StreamResponse:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        issuer.answer = hang

        async def is_asked() -> bool:
            assert (await known.get("/v1/me")).status == 200
            return asked.is_set()

        await until(is_asked)
        strange = gate.begin(of(issuer, gate, kid="stranger").get("/v1/me"))
        (await strange).problem("unauthenticated")
        assert (await known.get("/v1/me")).status == 200
        await gate.end_test()


async def test_a_process_that_nobody_uses_asks_for_no_keys(tmp_path: Path, hasty: None) -> None:
    async with both(tmp_path, JWT_SECRET="canary-jwt-secret-0123456789-abcdefghijklmnop") as (issuer, gate):
        other, begun = gate.service(), time.monotonic()
        while time.monotonic() - begun < 3:  # longer than these keys count for
            assert (await other.get("/v1/me")).status == 200
        assert issuer.fetches == 1
