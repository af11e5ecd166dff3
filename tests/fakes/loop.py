"""An event loop whose time passes only while nobody has anything to do, and then at once.

A wait of an hour takes no time, and two waits end in the order of their deadlines on any machine, however
busy it is. A test that waits for something that nobody will ever do fails instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Everybody waits, and nothing is left that could wake anybody."""


class _LeapingSelector(selectors.DefaultSelector):
    """Never waits: it tells the loop how long it would have waited."""

    leapt = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("Everybody waits, and no timer is set.")
            self.leapt += max(0.0, timeout)
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """Leaps over the time in which nothing happens; `time()` tells the time with all leaps."""

    def __init__(self) -> None:
        self._leaper = _LeapingSelector()
        super().__init__(self._leaper)

    def time(self) -> float:
        """The loop's own time in seconds, from 0."""
        return self._leaper.leapt


LOOPS: Mapping[str, type[LeapingLoop]] = {"leaping": LeapingLoop}
"""For the hook `pytest_asyncio_loop_factories` in a conftest."""


def runner() -> asyncio.Runner:
    """Runs coroutines of one test, one after the other, in one `LeapingLoop`."""
    return asyncio.Runner(loop_factory=LeapingLoop)


def run(work: Coroutine[object, object, T]) -> T:
    """Run one coroutine in a `LeapingLoop` of its own."""
    with runner() as own:
        return own.run(work)
