"""The load: a process of its own that asks as fast as it is answered, on 64 kept connections, and then ends.

`run` starts it and reads its report. Requests are made beforehand, as bytes: a template in which only a
number changes, or a list.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import cast

import uvloop

from benchmarks.failing import BenchmarkFailed
from benchmarks.machine import pin
from benchmarks.servers import ROOT
from benchmarks.wire import FIRST_NUMBER, NUMBER, take_answer

CONNECTIONS = 64

_MOST_SILENCE = 20.0

numbers = count(FIRST_NUMBER, 10**7)
"""Where each row of numbers begins, so that no number comes twice in a run."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, and for how long.

    Attributes:
        expected: the status that every answer has to have.
        template: a request in which `wire.NUMBER` stands for another number each time; or
        listed: requests, each to be sent once.
        seconds: how long the template is repeated.
        most: how often the template is repeated at most; 0 for no limit.
    """

    port: int
    expected: int
    template: str = ""
    listed: tuple[str, ...] = ()
    seconds: float = 0.0
    most: int = 0
    first_number: int = field(default_factory=lambda: next(numbers))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        rate: answers per second.
        p50: milliseconds from a request to its answer, the median.
        p99: the same for all but the slowest hundredth.
        wrong: the first answer with another status than expected.
    """

    answers: int
    rate: float
    p50: float
    p99: float
    wrong: str | None


def run(load: Load, core: int | None) -> Report:
    """Run a load in a process of its own.

    Args:
        load: what to ask.
        core: where to run.

    Raises:
        BenchmarkFailed: an answer was not as expected, or none came.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pin(process.pid, core)
    try:
        told, _ = process.communicate(json.dumps(asdict(load)).encode(), load.seconds + 3 * _MOST_SILENCE)
    finally:
        process.kill()
    if process.returncode:
        raise BenchmarkFailed("The load ended without a report; its own words are above.")
    report = Report(**json.loads(told))
    if report.wrong is not None:
        raise BenchmarkFailed(f"The server did not answer {load.expected}, but: {report.wrong}")
    return report


class _Run:
    """One load at work, shared by its connections."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = _requests(load)
        self._until = float("inf")
        self.times: list[float] = []
        self.begun = self.ended = 0.0
        self.wrong: str | None = None
        self.open = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, clients: list[_Client]) -> None:
        """Let every connection ask."""
        self.begun = time.perf_counter()
        if not self._load.listed:
            self._until = self.begun + self._load.seconds
        self.open = len(clients)
        for client in clients:
            client.ask()

    def next_request(self) -> bytes | None:
        """What to ask next; None when it is enough."""
        return None if self.wrong or time.perf_counter() >= self._until else next(self._requests, None)

    def take(self, status: int, body: bytes, asked_at: float) -> None:
        """Count an answer."""
        self.ended = time.perf_counter()
        self.times.append(self.ended - asked_at)
        if status != self._load.expected and self.wrong is None:
            self.wrong = f"{status} {body[:500].decode(errors='replace')}"

    def leave(self) -> None:
        """A connection has nothing more to ask."""
        self.open -= 1
        if not self.open and not self.over.done():
            self.over.set_result(None)

    def report(self) -> Report:
        """What came of it."""
        ordered = sorted(self.times)
        return Report(
            answers=len(ordered),
            rate=len(ordered) / (self.ended - self.begun),
            p50=statistics.median(ordered) * 1000,
            p99=ordered[int(len(ordered) * 0.99)] * 1000,
            wrong=self.wrong,
        )


class _Client(asyncio.Protocol):
    """One connection: asks, waits for the answer, asks again."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = b""
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None

    def ask(self) -> None:
        """Send the next request, or leave."""
        raw = self._run.next_request()
        assert self._transport is not None
        if raw is None:
            self._run.leave()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(raw)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count the answer, once it is whole, and go on."""
        self._received = self._received + data if self._received else data
        answer = take_answer(self._received)
        if answer is not None:
            self._received = b""
            self._run.take(*answer, self._asked_at)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up: a server that closes connections under load is not measured."""
        if not self._run.over.done():
            self._run.wrong = f"nothing, and closed the connection ({exc})"
            self._run.over.set_result(None)


def _requests(load: Load) -> Iterator[bytes]:
    if load.listed:
        yield from [text.encode() for text in load.listed]
        return
    pieces = load.template.encode().split(NUMBER.encode())
    for sent in count():
        if load.most and sent >= load.most:
            return
        yield str(load.first_number + sent).encode().join(pieces)


async def _ask_all(load: Load) -> Report:
    run = _Run(load)
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(run), "127.0.0.1", load.port))[1]
        for _ in range(CONNECTIONS)
    ]
    run.start(clients)
    await asyncio.wait_for(run.over, load.seconds + 2 * _MOST_SILENCE)
    return run.report()


def main() -> None:
    """Read a load from standard input, run it, write its report."""
    load = Load(**json.load(sys.stdin))
    gc.disable()
    sys.stdout.write(json.dumps(asdict(uvloop.run(_ask_all(load)))))


if __name__ == "__main__":
    main()
