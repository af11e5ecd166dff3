"""What waiting costs: memory for each held request, other requests meanwhile, and the end of it all."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from benchmarks import budgets, load, traffic, wire
from benchmarks.failing import BenchmarkFailed
from benchmarks.load import Load
from benchmarks.machine import raise_file_limit, resident_bytes, wait_until_idle
from benchmarks.plan import Plan
from benchmarks.results import Budget, Finding, Row
from benchmarks.servers import Place, Server
from benchmarks.wire import Answer, Connection

_AT_ONCE = 64
_LIMIT = 120.0
_OTHER_FILES = 200


@dataclass(frozen=True, slots=True)
class Crowd:
    """What so many waiting requests cost.

    Attributes:
        waiting: bytes of the process for each waiting request, its connection included.
        others_p99: milliseconds of another request meanwhile; None when none was sent.
        drained: seconds from SIGTERM to the last answer.
    """

    size: int
    waiting: float
    others_p99: float | None
    drained: float


def waiting(place: Place, plan: Plan) -> Finding:
    """Crowds of each size before our server, and one before the bare one."""
    crowds = [_before_gateway(place, size, plan.probing) for size in plan.crowds if _is_possible(size)]
    if not crowds:
        raise BenchmarkFailed(f"This machine does not allow {min(plan.crowds)} open files (ulimit -n).")
    rows = [row for crowd in crowds for row in _rows(crowd)]
    with place.bare() as server:
        bare = uvloop.run(_gather(server, [traffic.held_json()] * crowds[0].size, None))
    rows.append(Row(f"bare aiohttp, {bare.size:,} waiting: memory of each", f"{bare.waiting / 1024:.1f} KiB"))
    notes = ("Memory is the server process's; what the kernel keeps for each connection is not in it.",)
    return Finding("Requests that wait", tuple(rows), notes)


def _is_possible(size: int) -> bool:
    return raise_file_limit() >= size + _OTHER_FILES


def _before_gateway(place: Place, size: int, probing: float) -> Crowd:
    token = place.credentials.own_key
    asked = [traffic.question(token, 10**9 + number, wait=True).encode() for number in range(size)]
    with place.gateway(MAX_WAIT_SECONDS="600") as gateway:
        # What is set up once, and what the database keeps in memory, is not to be counted for each waiter.
        warm_up = Load(gateway.port, 202, traffic.question(token, wait=False), seconds=_LIMIT, most=2000)
        load.run(warm_up, place.cores.load)
        wait_until_idle(gateway.worker, _LIMIT)
        return uvloop.run(_gather(gateway, asked, (traffic.message(token), probing)))


async def _gather(server: Server, asked: Sequence[bytes], probe: tuple[str, float] | None) -> Crowd:
    size, worker = len(asked), server.worker
    alone = resident_bytes(worker)
    answers: list[asyncio.Future[Answer]] = []
    for start in range(0, size, _AT_ONCE):
        # A few at a time: what a burst needs for a moment is not what each one needs while it waits.
        answers += [(await Connection.open(server.port)).ask(raw) for raw in asked[start : start + _AT_ONCE]]
        await _all_seated(server, len(answers))
    await asyncio.to_thread(wait_until_idle, worker, _LIMIT)
    seated = resident_bytes(worker)
    others = None if probe is None else await _probe(server, *probe)
    drained = await _drain(server, answers)
    return Crowd(size, (seated - alone) / size, others, drained)


async def _all_seated(server: Server, size: int) -> None:
    """Wait until so many requests wait."""
    until = time.monotonic() + _LIMIT
    while (await asyncio.to_thread(server.ask, "/readyz")).json()["waiters"] < size:
        if time.monotonic() > until:
            raise BenchmarkFailed(f"After {_LIMIT:.0f} seconds not all of {size} requests wait.")
        await asyncio.sleep(0.01)


async def _probe(server: Server, template: str, seconds: float) -> float:
    """The p99 of other requests, one after the other, in milliseconds."""
    times: list[float] = []
    first = next(load.numbers)
    connection = await Connection.open(server.port)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        raw = template.replace(wire.NUMBER, str(first + len(times))).encode()
        begun = time.perf_counter()
        answer = await asyncio.wait_for(connection.ask(raw), _LIMIT)
        if answer.status != 200:
            raise BenchmarkFailed(f"Beside a crowd, a message was answered {answer}")
        times.append((time.perf_counter() - begun) * 1000)
    connection.close()
    return statistics.quantiles(times, n=100)[98]


async def _drain(server: Server, answers: Sequence[asyncio.Future[Answer]]) -> float:
    """Tell the server to stop; returns the seconds until the last request has its 202."""
    begun = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    statuses = Counter(answer.status for answer in await asyncio.wait_for(asyncio.gather(*answers), _LIMIT))
    drained = time.perf_counter() - begun
    if statuses.keys() != {202}:
        raise BenchmarkFailed(f"Of the waiting requests, not all were answered 202: {dict(statuses)}")
    return drained


def _rows(crowd: Crowd) -> list[Row]:
    each, others = crowd.waiting / 1024, crowd.others_p99 or 0.0
    name = f"{crowd.size:,} waiting"
    is_many = crowd.size >= budgets.MANY_WAITERS
    drain = Budget.at_most(budgets.DRAIN_SECONDS, crowd.drained, " s")
    p99 = Budget.at_most(budgets.OTHERS_P99_MS, others, " ms")
    size = Budget.at_most(budgets.KIB_PER_WAITER, each, " KiB")
    return [
        Row(f"{name}: memory of each", f"{each:.1f} KiB", None, (size,)),
        Row(f"{name}: other requests, p99", f"{others:.1f} ms", None, (p99,) if is_many else ()),
        Row(
            f"{name}: SIGTERM → all have their 202",
            f"{crowd.drained:.2f} s",
            None,
            (drain,) if is_many else (),
        ),
    ]
