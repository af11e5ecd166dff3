"""How long a service waits behind a person: from a press that is posted to the answer that is complete."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import uvloop

from benchmarks import budgets, load, postgresql, traffic, wire
from benchmarks.failing import BenchmarkFailed
from benchmarks.plan import Plan
from benchmarks.results import Budget, Finding, Row
from benchmarks.servers import Place, Server
from benchmarks.wire import Answer, Connection

_THINKING = 0.01
"""Seconds between a question that stands in the chat and its press; no person is quicker."""

_WARM_UP = 20
_LIMIT = 30.0

_ON_POSTGRESQL = {"PostgreSQL": 1, "two processes over PostgreSQL": 2}
_HOW_TWO = (
    "Two processes: the question is asked at one server, the press is posted to the other, and the answer "
    "comes from the first; both servers share a core."
)

T = TypeVar("T")


def asking(place: Place, plan: Plan) -> Finding:
    """The round trip, one question after the other: on either database, and between two processes."""
    with _gateways(place, 1) as servers:
        rows = _rows("SQLite", place, servers, plan)
    if postgresql.is_installed():
        with place.postgresql() as database:
            for name, count in _ON_POSTGRESQL.items():
                with _gateways(place, count, DATABASE_URL=database.url) as servers:
                    rows += _rows(name, place, servers, plan)
    note = _HOW_TWO if postgresql.is_installed() else postgresql.NOT_INSTALLED
    notes = (f"{plan.asks} questions each, one after the other.", note)
    return Finding("A question's answer", tuple(rows), notes)


@contextmanager
def _gateways(place: Place, count: int, **settings: str) -> Iterator[list[Server]]:
    """So many servers on one database, that tell each other of answers."""
    with ExitStack() as stack:
        some = [stack.enter_context(place.gateway(MAX_WAIT_SECONDS="60", **settings)) for _ in range(count)]
        for server in some:
            server.wait_for_check("hints")
        yield some


def _rows(name: str, place: Place, servers: Sequence[Server], plan: Plan) -> list[Row]:
    """Asked at the first server, pressed at the last."""
    presses, answers = uvloop.run(_Talk(place, servers[0], servers[-1]).ask_again_and_again(plan.asks))
    p50, p99 = statistics.median(answers), sorted(answers)[int(len(answers) * 0.99)]
    limits = {"p50": (p50, budgets.ANSWER_P50_MS), "p99": (p99, budgets.ANSWER_P99_MS)}
    return [
        *(
            Row(
                f"{name}: press posted → answer complete, {part}",
                f"{value:.2f} ms",
                None,
                (Budget.at_most(limit, value, " ms"),),
            )
            for part, (value, limit) in limits.items()
        ),
        Row(f"{name}: press posted → its 200, p50", f"{statistics.median(presses):.2f} ms"),
    ]


class _Talk:
    """A service that asks and a person who presses, over connections that are kept."""

    def __init__(self, place: Place, asked: Server, told: Server) -> None:
        self._place = place
        self._ports = (asked.port, told.port, place.double)

    async def ask_again_and_again(self, times: int) -> tuple[list[float], list[float]]:
        """Milliseconds from each press to its own `200`, and to the answer of the request that waits."""
        service, webhook, double = [await Connection.open(port) for port in self._ports]
        presses, answers = [], []
        first = next(load.numbers)
        for number in range(first, first + _WARM_UP + times):
            pressed, answered = await self._ask_once(service, webhook, double, number)
            if number >= first + _WARM_UP:
                presses.append(pressed)
                answers.append(answered)
        for connection in (service, webhook, double):
            connection.close()
        return presses, answers

    async def _ask_once(
        self, service: Connection, webhook: Connection, double: Connection, number: int
    ) -> tuple[float, float]:
        who = self._place.credentials
        waiting = service.ask(traffic.question(who.own_key, number, wait=True).encode())
        [button] = (await _within(double.ask(wire.request("GET", "/buttons?count=1")))).json()
        await asyncio.sleep(_THINKING)
        raw = traffic.press("/telegram/webhook", who, number, button).encode()
        begun = time.perf_counter()
        both = asyncio.gather(_timed(webhook.ask(raw), begun), _timed(waiting, begun))
        (acknowledged, pressed), (answer, answered) = await _within(both)
        _check(acknowledged, answer)
        return pressed, answered


async def _timed(future: asyncio.Future[Answer], begun: float) -> tuple[Answer, float]:
    """An answer, and the milliseconds that it took."""
    answer = await future
    return answer, (time.perf_counter() - begun) * 1000


async def _within(future: asyncio.Future[T]) -> T:
    return await asyncio.wait_for(future, _LIMIT)


def _check(acknowledged: Answer, answer: Answer) -> None:
    choice = answer.status == 200 and answer.json()["answer"]["choice"]
    if acknowledged.status != 200 or choice != "deploy":
        raise BenchmarkFailed(f"A press was answered {acknowledged.status}, its question: {answer}")
