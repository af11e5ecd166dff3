"""The alarm: wakes the scheduler at the earliest time that anybody has set."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from core.ports import Clock


@dataclass(slots=True)
class Alarm:
    """Remembers when something comes due.

    Attributes:
        longest: seconds; nobody sleeps for longer, so that a clock that was put back does no harm.
    """

    clock: Clock
    longest: float = 5.0
    _event: asyncio.Event = field(default_factory=asyncio.Event)
    _soonest: datetime | None = None

    def set(self, at: datetime) -> None:
        """Ring at this time, or earlier."""
        if self._soonest is None or at < self._soonest:
            self._soonest = at
            self._event.set()

    def clear(self) -> None:
        """Forget every time that was set."""
        self._soonest = None

    async def wait(self) -> None:
        """Return at the earliest time that was set, or after `longest`."""
        while self._soonest is not None:
            self._event.clear()
            left = min((self._soonest - self.clock.now()).total_seconds(), self.longest)
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._event.wait()
            except TimeoutError:
                return
