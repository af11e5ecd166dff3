"""Requests in flight are asked again when something changes; only those end that may not go on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp import web

from core.model.errors import Forbidden, Overloaded, TelegateError, Unauthenticated
from core.policy.policy import Principal
from handlers.in_flight import AT_ONCE, InFlight, refusal_of
from handlers.keys import PRINCIPAL


class Door:
    """What is asked again: counts how often, and says what a test wants."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.refused: dict[str, TelegateError] = {}
        self.forbidden: set[str] = set()
        self.keys = asyncio.Event()
        self.awaited: set[str] = set()

    def authenticate(self, request: web.Request) -> Awaitable[None] | None:
        token = request.headers["Authorization"]
        self.asked[token] += 1
        if token in self.awaited:
            return self._later(request, token)
        if token in self.refused:
            raise self.refused[token]
        request[PRINCIPAL] = Principal(token, frozenset(), "jti")
        return None

    async def _later(self, request: web.Request, token: str) -> None:
        await self.keys.wait()
        if token in self.refused:
            raise self.refused[token]
        request[PRINCIPAL] = Principal(token, frozenset(), "jti")

    def authorize(self, request: web.Request) -> None:
        if request.path in self.forbidden:
            raise Forbidden("No role names it.")


class Asked(dict[Any, Any]):
    """As much of a request as anybody looks at here."""

    def __init__(self, token: str, path: str) -> None:
        super().__init__()
        self.headers = {"Authorization": token}
        self.path = path


class Crowd:
    """Requests that wait, each in a task of its own."""

    def __init__(self) -> None:
        self.door = Door()
        self.everybody = InFlight(self.door.authenticate, self.door.authorize)
        self.tasks: list[asyncio.Task[str]] = []
        self.end = asyncio.Event()

    async def join(self, token: str, count: int = 1, path: str = "/") -> list[asyncio.Task[str]]:
        joined = [asyncio.create_task(self._wait(token, path)) for _ in range(count)]
        self.tasks += joined
        await asyncio.sleep(0)
        return joined

    async def _wait(self, token: str, path: str) -> str:
        request: Any = Asked(token, path)
        with self.everybody.holding(request):
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                if (refusal := refusal_of(request)) is None:
                    raise
                return refusal.code
        return "answered"

    async def all(self) -> Counter[str]:
        self.end.set()
        done = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert len(self.everybody) == 0
        return Counter(one if isinstance(one, str) else type(one).__name__ for one in done)


async def test_only_the_requests_of_what_was_taken_back_end() -> None:
    crowd = Crowd()
    await crowd.join("good", 3)
    await crowd.join("good", 2, "/narrow")
    await crowd.join("stolen", 4)
    crowd.door.refused["stolen"] = Unauthenticated("The token is not valid.")
    crowd.door.forbidden.add("/narrow")
    crowd.everybody.look()
    assert await crowd.all() == {"answered": 3, "forbidden": 2, "unauthenticated": 4}


@pytest.mark.parametrize(
    "error", [Unauthenticated("It is over.", reason="expired"), Overloaded("No keys.", retry_after=1)]
)
async def test_a_token_that_has_expired_or_cannot_be_judged_ends_nothing(error: TelegateError) -> None:
    crowd = Crowd()
    await crowd.join("passing", 3)
    crowd.door.refused["passing"] = error
    crowd.everybody.look()
    assert await crowd.all() == {"answered": 3}


async def test_keys_that_are_on_their_way_are_waited_for_once_for_each_token() -> None:
    crowd = Crowd()
    await crowd.join("foreign", 5)
    await crowd.join("known", 1)
    crowd.door.awaited.add("foreign")
    crowd.everybody.look()
    await asyncio.sleep(0)
    crowd.door.refused["foreign"] = Unauthenticated("The issuer has no such key.")
    crowd.door.keys.set()
    await asyncio.wait(crowd.tasks[:5], timeout=10)
    assert await crowd.all() == {"answered": 1, "unauthenticated": 5}
    assert crowd.door.asked == {"foreign": 1, "known": 1}


async def test_a_client_that_leaves_in_the_same_moment_is_no_refusal() -> None:
    crowd = Crowd()
    [task] = await crowd.join("stolen")
    crowd.door.refused["stolen"] = Unauthenticated("The token is not valid.")
    crowd.everybody.look()
    task.cancel()
    assert await crowd.all() == {"CancelledError": 1}


async def test_ten_thousand_waiting_requests_are_asked_once_for_each_token_and_in_small_turns() -> None:
    crowd = Crowd()
    for number in range(100):
        await crowd.join(f"token-{number}", 100)
    assert len(crowd.everybody) == 10_000
    turns = []
    crowd.door.refused["token-7"] = Unauthenticated("The token is not valid.")
    began = time.thread_time()
    for _ in range(3):
        crowd.everybody.look()
    took = time.thread_time() - began
    for _ in range(2 + 10_000 // AT_ONCE):
        turn = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - turn)
    assert crowd.door.asked == {f"token-{number}": 3 for number in range(100)}
    assert await crowd.all() == {"answered": 9_900, "unauthenticated": 100}
    # To begin costs a list of all, and no turn asks more than a hundredth of them.
    fixed = time.thread_time()
    for number in range(1_000_000):
        number.bit_length()
    fixed = time.thread_time() - fixed
    assert took < 10 * fixed
    assert sorted(turns)[-2] < fixed
