"""A machine whose clocks a test moves: the one that people set, and the one that nobody sets."""

from __future__ import annotations

from infra.observability.clock import SystemClock

NOON = 1_795_348_800_000
"""Milliseconds since 1970: 2026-11-22 12:00:00 UTC."""

TEN_MINUTES = 600.0
HOUR = 3600.0


class Machine:
    """Its two clocks in milliseconds; both go on while it sleeps."""

    def __init__(self, wall: int = NOON, count: int = 5_000_000) -> None:
        self.wall = wall
        self.count = count

    def clock(self) -> SystemClock:
        """The clock of a process that starts now."""
        return SystemClock(lambda: self.wall, lambda: self.count)

    def pass_time(self, seconds: float) -> None:
        """So much time really passes."""
        self.wall += round(seconds * 1000)
        self.count += round(seconds * 1000)

    def set_by(self, seconds: float) -> None:
        """Somebody puts the wall clock forward, or with a negative number back."""
        self.wall += round(seconds * 1000)
