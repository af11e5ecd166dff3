"""Watches how far clocks are apart: the one that deadlines go by, the machine's own, and Telegram's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from infra.observability.clock import SystemClock

log = logging.getLogger("telegate.clock")

LOOK_EVERY: Final = 60.0
"""Seconds between two looks at the machine's clock; a look costs nothing."""

TOLERANCE: Final = 30.0
"""Seconds: as much as tokens may be off."""

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


class _Difference:
    """How far two clocks are apart; told in the log whenever that changes, and not each time it is seen.

    Args:
        words: a sentence with `seconds` and `direction`.

    Attributes:
        seconds: what was noted last; None before that.
        problem: what is wrong, in words.
    """

    def __init__(self, words: str) -> None:
        self._words = words
        self._told = 0.0
        self.problem: str | None = None
        self.seconds: float | None = None

    def note(self, seconds: float) -> None:
        """One clock is so many seconds ahead of the other; negative when it is behind."""
        self.seconds = seconds
        if abs(seconds) <= TOLERANCE:
            if self.problem is not None:
                log.info("The clocks agree again.", extra={"action": "clock_right"})
            self.problem, self._told = None, 0.0
            return
        direction = "ahead of" if seconds > 0 else "behind"
        self.problem = self._words.format(seconds=f"{abs(seconds):.0f}", direction=direction)
        if abs(seconds - self._told) > TOLERANCE:
            self._told = seconds
            log.warning("%s", self.problem, extra={"action": "clock_wrong", "seconds": round(seconds, 1)})


class SkewWatch:
    """Knows what `/readyz` says about clocks.

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
        """Look at the machine's clock, again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY)

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
