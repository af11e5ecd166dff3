"""The row of presence and the list of disarmed questions, in memory, over the tasks of a `MemoryStore`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.cluster.heartbeat import Entry, Outage, Presence
from core.jobs.rearming import Disarmed
from core.model.errors import StorageUnavailable
from core.model.task import Change, Task, TaskState
from tests.fakes.clock import START
from tests.fakes.store import Entry as Step
from tests.fakes.store import MemoryStore


@dataclass(slots=True)
class MemoryPresence:
    """The ports `PresenceStore` and `RearmingStore`.

    Attributes:
        row: the row; None before anybody has given a sign.
        listed: the disarmed questions, and until when nobody gets them.
        down: whether every call raises `StorageUnavailable`.
    """

    tasks: MemoryStore = field(default_factory=MemoryStore)
    row: Presence | None = None
    listed: dict[str, tuple[Disarmed, datetime]] = field(default_factory=dict)
    down: bool = False

    async def attend(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """See `core.cluster.heartbeat.PresenceStore.attend`."""
        await self._turn()
        self.row, outage = entry(self.row)
        if outage is not None:
            self._disarm(outage)
        return self.row, outage

    async def disarm(self, outage: Outage) -> int:
        """See `core.jobs.rearming.RearmingStore.disarm`."""
        await self._turn()
        return self._disarm(outage)

    async def take_disarmed(self, now: datetime, until: datetime) -> Disarmed | None:
        """See `core.jobs.rearming.RearmingStore.take_disarmed`."""
        await self._turn()
        free = sorted((end, task_id) for task_id, (_, end) in self.listed.items() if end <= now)
        if not free:
            return None
        task_id = free[0][1]
        listed, _ = self.listed[task_id]
        taken = replace(listed, task=self.tasks.tasks[task_id], tries=listed.tries + 1)
        self.listed[task_id] = taken, until
        return taken

    async def postpone_disarmed(self, task_id: str, until: datetime) -> None:
        """See `core.jobs.rearming.RearmingStore.postpone_disarmed`."""
        await self._turn()
        if task_id in self.listed:
            self.listed[task_id] = self.listed[task_id][0], until

    async def rearmed(self, task_id: str, shown: bytes) -> Task | None:
        """See `core.jobs.rearming.RearmingStore.rearmed`."""
        await self._turn()
        task = self.tasks.tasks.get(task_id)
        if task is not None and task.state is TaskState.ASKED and task_id in self.listed:
            del self.listed[task_id]
            self.tasks.history.append(Step(task.state, Change(task, "rearmed", shown=shown)))
        return task

    async def strike_off(self, task_id: str) -> None:
        """See `core.jobs.rearming.RearmingStore.strike_off`."""
        await self._turn()
        self.listed.pop(task_id, None)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StorageUnavailable("The database cannot be reached. Nothing was done.", retry_after=3)

    def _disarm(self, outage: Outage) -> int:
        found = [
            task
            for task in self.tasks.tasks.values()
            if task.state is TaskState.ASKED
            and task.message_ids
            and task.expires_at > outage.ended
            and self.tasks.steps_of(task.id)[-1] != "rearmed"
        ]
        for task in found:
            until = (
                self.listed[task.id][1] if task.id in self.listed else START.min.replace(tzinfo=START.tzinfo)
            )
            self.listed[task.id] = Disarmed(task, outage, 0), until
        return len(found)
