"""A clock that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.fakes.purity import refuse_in_decision

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class HandClock:
    """The port `Clock`; stands still until `advance` moves it.

    Args:
        start: the time it shows at first.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        """See `core.ports.Clock.now`; no decision may ask."""
        refuse_in_decision("reads the clock")
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; negative seconds turn the clock back."""
        self._now += timedelta(seconds=seconds)
