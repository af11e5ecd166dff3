"""The gateway's time: it does not jump with the machine's clock, and goes on while the machine sleeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

# What counts since the machine's start, also while it sleeps: https://man7.org/linux/man-pages/man2/clock_gettime.2.html
# Elsewhere CLOCK_MONOTONIC does: macOS counts sleep in it.
_COUNTER: Final = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC


def wall_clock() -> int:
    """What the machine says the time is, in milliseconds since 1970; somebody may set it at any moment."""
    return time.time_ns() // 1_000_000


def counter() -> int:
    """Milliseconds since some moment; nobody can set it, and it counts while the machine sleeps."""
    return time.clock_gettime_ns(_COUNTER) // 1_000_000


class SystemClock:
    """The port `Clock`: the wall clock as it was at the start, and what has been counted since.

    Args:
        wall: the machine's clock, in milliseconds since 1970.
        count: a counter of milliseconds that nobody sets.
    """

    def __init__(self, wall: Callable[[], int] = wall_clock, count: Callable[[], int] = counter) -> None:
        self._wall = wall
        self._count = count
        self._at_zero = wall() - count()

    def now(self) -> datetime:
        """The time in UTC, to the millisecond: what the store keeps, and nothing finer."""
        return datetime.fromtimestamp(self.milliseconds() / 1000, UTC)

    def milliseconds(self) -> int:
        """The time in milliseconds since 1970."""
        return self._at_zero + self._count()

    def machine_is_ahead(self) -> float:
        """By how many seconds the machine's own clock is ahead of this one; negative when it is behind."""
        return (self._wall() - self.milliseconds()) / 1000

    def move(self, milliseconds: int) -> None:
        """Correct it by so much, because a better clock says so."""
        self._at_zero += milliseconds
