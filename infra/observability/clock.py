"""The gateway's time: it does not jump with the machine's clock, and says so when other clocks disagree."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from core.incident import Incident
from core.model.errors import StorageUnavailable
from core.model.retry import RetryPolicy

log = logging.getLogger("telegate.clock")

# What counts since the machine's start, also while it sleeps: https://man7.org/linux/man-pages/man2/clock_gettime.2.html
# Elsewhere CLOCK_MONOTONIC does: macOS counts sleep in it.
_COUNTER: Final = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC

CHECK_EVERY: Final = 60.0
"""Seconds between two looks at another clock: after a failover, the database's may be another machine's."""

RETRY: Final = RetryPolicy(first=5.0, longest=5.0)
"""When a database that did not answer is asked for the time again."""

TOLERANCE: Final = 30.0
"""Seconds that clocks may be apart: as much as tokens may be off."""

_WORTH_LOGGING: Final = 1_000
"""Milliseconds; a smaller correction is what two good clocks differ by."""

_SHARED: Final = (
    "The machine's clock is {seconds} s {direction} the database's. Deadlines go by the database's, but "
    "tokens are judged by the machine's: set it right, by NTP."
)
_SET: Final = (
    "The machine's clock is {seconds} s {direction} where it should be since the server's start: it was set, "
    "or the machine was resumed from a snapshot. Deadlines go by the old time, tokens by the new one. When "
    "the new one is right, restart the server."
)
_TELEGRAM_SHARED: Final = (
    "The database's clock, by which deadlines go, is {seconds} s {direction} Telegram's. Set it right, "
    "by NTP. Tokens are judged by the machine's own."
)
_TELEGRAM: Final = (
    "The time by which deadlines go is {seconds} s {direction} Telegram's. Set the machine's clock right, by "
    "NTP, then restart the server."
)


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
        return datetime.fromtimestamp((self._at_zero + self._count()) / 1000, UTC)

    def milliseconds(self) -> int:
        """The time in milliseconds since 1970."""
        return self._at_zero + self._count()

    def machine_is_ahead(self) -> float:
        """By how many seconds the machine's own clock is ahead of this one; negative when it is behind."""
        return (self._wall() - self.milliseconds()) / 1000

    def move(self, milliseconds: int) -> None:
        """Correct it by so much, because a better clock says so."""
        self._at_zero += milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTime:
    """Keeps a clock at the time of the database that several machines share.

    Only for PostgreSQL: SQLite has no other clock than the machine's.

    Attributes:
        clock: is corrected.
        read: asks the database, for milliseconds since 1970; raises `StorageUnavailable`.
    """

    clock: SystemClock
    read: Callable[[], Awaitable[int]]

    async def sync(self) -> None:
        """Ask once.

        The answer was made at some moment between question and answer. As long as this clock can be right
        by that, it is left alone: it would only tremble.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        asked = self.clock.milliseconds()
        told = await self.read()
        answered = self.clock.milliseconds()
        if asked <= told <= answered:
            return
        error = told - (asked + answered) // 2
        self.clock.move(error)
        if abs(error) >= _WORTH_LOGGING:
            log.info(
                "The time is now the database's; it was moved by %+.1f s.",
                error / 1000,
                extra={"action": "clock_moved", "seconds": error / 1000},
            )

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        failures = 0
        while True:
            try:
                await self.sync()
                failures = 0
            except StorageUnavailable as error:
                failures += 1
                # That it is down, others log.
                log.debug(
                    "The database could not be asked for the time: %s",
                    error.detail,
                    extra={"action": "clock_unasked"},
                )
            await asyncio.sleep((RETRY.delay(failures) if failures else None) or CHECK_EVERY)


@dataclass(slots=True)
class _Difference:
    """How far two clocks are apart; logged when it becomes too much, changes by as much again, or ends.

    Attributes:
        words: a sentence with `seconds` and `direction`.
        seconds: what was noted last; None before that.
        problem: what is wrong, in words.
    """

    words: str
    seconds: float | None = None
    problem: str | None = None
    _logged: float = 0.0
    _incident: Incident = field(default_factory=lambda: Incident(log))

    def note(self, seconds: float) -> None:
        """One clock is so many seconds ahead of the other; negative when it is behind."""
        self.seconds = seconds
        if abs(seconds) <= TOLERANCE:
            self.problem = None
            self._incident.end("The clocks agree again.", action="clock_right")
            return
        direction = "ahead of" if seconds > 0 else "behind"
        self.problem = self.words.format(seconds=f"{abs(seconds):.0f}", direction=direction)
        if abs(seconds - self._logged) > TOLERANCE:
            self._incident = Incident(log)
        if self._incident.begin("%s", self.problem, action="clock_wrong", seconds=round(seconds, 1)):
            self._logged = seconds


class SkewWatch:
    """Watches how far the clock of deadlines, the machine's and Telegram's are apart; `/readyz` tells it.

    Args:
        clock: the one that deadlines go by.
        shared: whether that is the database's time, and not this machine's.
    """

    def __init__(self, clock: SystemClock, *, shared: bool) -> None:
        self._clock = clock
        self._machine = _Difference(_SHARED if shared else _SET)
        self._telegram = _Difference(_TELEGRAM_SHARED if shared else _TELEGRAM)

    @property
    def clock(self) -> str:
        """`ok`, or what is wrong."""
        problems = (self._machine.problem, self._telegram.problem)
        return " ".join(problem for problem in problems if problem is not None) or "ok"

    @property
    def seconds(self) -> Mapping[str, float]:
        """How far `machine` is ahead of the clock of deadlines, and that one ahead of `telegram`'s."""
        noted = {"machine": self._machine.seconds, "telegram": self._telegram.seconds}
        return {clock: seconds for clock, seconds in noted.items() if seconds is not None}

    async def run(self) -> None:
        """Look at the machine's clock, again and again, until cancelled. A look costs nothing."""
        while True:
            self.look()
            await asyncio.sleep(CHECK_EVERY)

    def look(self) -> None:
        """Look at the machine's clock once."""
        self._machine.note(self._clock.machine_is_ahead())

    def hear_telegram(self, date: str | None) -> None:
        """Telegram has just answered, with this `Date` header (RFC 9110, section 5.6.7).

        Without one, or with one that is no date, nothing is learnt. It is exact to a second.
        """
        if date is None:
            return
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            return
        aware = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
        self._telegram.note((self._clock.now() - aware).total_seconds())
