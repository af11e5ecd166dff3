"""How long a service waits behind a person: from a press that is posted to the answer that is complete."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TypeVar

import uvloop

from benchmarks import budgets, traffic, wire
from benchmarks.failing import BenchmarkFailed
from benchmarks.plan import Plan
from benchmarks.results import Budget, Finding, Row
from benchmarks.servers import Place, Server
from benchmarks.wire import Answer, Connection

_THINKING = 0.01
"""Seconds between a question that stands in the chat and its press; no person is quicker."""

_WARM_UP = 20
_LIMIT = 30.0

T = TypeVar("T")


def asking(place: Place, plan: Plan) -> Finding:
    """The round trip, one question after the other."""
    with place.gateway(MAX_WAIT_SECONDS="60") as gateway:
        presses, answers = uvloop.run(_Talk(place, gateway).ask_again_and_again(plan.asks))
    p50, p99 = statistics.median(answers), sorted(answers)[int(len(answers) * 0.99)]
    rows = (
        Row(
            "press posted → answer complete, p50",
            f"{p50:.2f} ms",
            None,
            (_at_most(budgets.ANSWER_P50_MS, p50),),
        ),
        Row(
            "press posted → answer complete, p99",
            f"{p99:.2f} ms",
            None,
            (_at_most(budgets.ANSWER_P99_MS, p99),),
        ),
        Row("press posted → its 200, p50", f"{statistics.median(presses):.2f} ms"),
    )
    return Finding("A question's answer", rows, (f"{plan.asks} questions, one after the other.",))


def _at_most(limit: float, value: float) -> Budget:
    return Budget.at_most(limit, value, " ms")


class _Talk:
    """A service that asks and a person who presses, over connections that are kept."""

    def __init__(self, place: Place, gateway: Server) -> None:
        self._place = place
        self._gateway = gateway

    async def ask_again_and_again(self, times: int) -> tuple[list[float], list[float]]:
        """Milliseconds from each press to its own `200`, and to the answer of the request that waits."""
        ports = (self._gateway.port, self._gateway.port, self._place.double)
        service, webhook, double = [await Connection.open(port) for port in ports]
        presses, answers = [], []
        for number in range(_WARM_UP + times):
            pressed, answered = await self._ask_once(service, webhook, double, wire.FIRST_NUMBER + number)
            if number >= _WARM_UP:
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
