"""The leader: the one process that does what one does for all. Its lease is part of the row of heartbeats."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from core.model.cluster import Leader

LEASE: Final = timedelta(seconds=50)
"""How long a process leads without a heartbeat: two may get lost."""

CLOCK_PUT_BACK: Final = timedelta(hours=1)
"""A time that lies further ahead was written by a clock that has been put right since."""


def leader_after(before: Leader | None, holder: str, at: datetime) -> Leader:
    """Who leads after a process's heartbeat: that process, unless another one's lease has not run out."""
    if before is not None and before.holder != holder and at < before.until <= at + CLOCK_PUT_BACK:
        return before
    return Leader(holder, at + LEASE)


@dataclass(slots=True, kw_only=True)
class Leadership:
    """Whether this process leads, as far as it knows.

    While the database is away nobody can take over, so the leader goes on.
    """

    holder: str
    _leads: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_leader(self) -> bool:
        """Whether this process does what one does for all."""
        return self._leads.is_set()

    async def until_leader(self) -> None:
        """Return as soon as this process leads."""
        while not self.is_leader:
            await self._leads.wait()

    def learn(self, leader: Leader | None) -> None:
        """The row says who leads."""
        if leader is not None and leader.holder == self.holder:
            self._leads.set()
        else:
            self._leads.clear()
