"""The row that all processes share, in memory, and alone: an outage stores no jobs, but is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from core.model.cluster import Entry, Outage, Presence
from core.model.errors import StorageUnavailable


@dataclass(slots=True)
class MemoryHeartbeats:
    """The port `HeartbeatStore`.

    Attributes:
        row: the row; None before the first heartbeat.
        open_questions: how many questions have to ask for another tap after an outage.
        reprompted: the outages after which they had to.
        down: whether every call raises `StorageUnavailable`.
        beats: how many heartbeats came.
    """

    row: Presence | None = None
    open_questions: int = 0
    reprompted: list[Outage] = field(default_factory=list)
    down: bool = False
    beats: int = 0

    async def beat(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """See `core.ports.HeartbeatStore.beat`."""
        self.beats += 1
        await self._turn()
        self.row, outage = entry(self.row)
        if outage is not None:
            self.reprompted.append(outage)
        return self.row, outage

    async def reprompt(self, outage: Outage) -> int:
        """See `core.ports.HeartbeatStore.reprompt`."""
        await self._turn()
        self.reprompted.append(outage)
        return self.open_questions

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StorageUnavailable("The database cannot be reached. Nothing was done.", retry_after=3)
