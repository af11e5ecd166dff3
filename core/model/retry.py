"""Retrying: how long to wait after an attempt that failed. The house has no other back-off."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits that double from `first` to `longest`, or that a schedule names.

    Attributes:
        first: seconds after the first attempt that failed.
        longest: seconds; no wait is longer, but for the jitter.
        schedule: seconds after each attempt instead of the doubling; after the last one there is no other.
        unclear_tries: how often a job whose outcome is unclear is repeated; 0 for never, None for as often as
            it takes.
        jitter: the part of a wait that is left to chance: 0.2 makes it up to a fifth shorter or longer, 1.0
            anything from nothing to twice as long.
    """

    first: float = 1.0
    longest: float = 60.0
    schedule: tuple[float, ...] = ()
    unclear_tries: int | None = 0
    jitter: float = 0.0

    def delay(self, attempts: int) -> float | None:
        """Seconds to wait after so many attempts that failed, at least one; None when there is no other."""
        if self.schedule:
            if attempts > len(self.schedule):
                return None
            wait = self.schedule[attempts - 1]
        else:
            wait = min(self.longest, self.first * 2.0 ** min(attempts - 1, 30))
        if self.jitter:
            wait *= 1 + self.jitter * random.uniform(-1, 1)  # noqa: S311 - this hides nothing
        return wait

    def repeats_unclear(self, attempts: int) -> bool:
        """Whether a job is repeated after so many attempts whose outcome was unclear."""
        return self.unclear_tries is None or attempts < self.unclear_tries
