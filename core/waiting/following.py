"""Following a task: what its row tells after each of its steps, until it is final."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from core.model.errors import StorageUnavailable
from core.model.task import Task
from core.ports import TaskStore
from core.waiting.room import Seat

log = logging.getLogger("telegate.tasks")


@dataclass(slots=True)
class Following:
    """One who is told of each step of a task. Steps that follow one another closely are told as one.

    Attributes:
        task: as its row told it last.
    """

    task: Task
    _seat: Seat
    _store: TaskStore

    def __post_init__(self) -> None:
        self._seat.seen = self.task.steps

    @property
    def over(self) -> bool:
        """Whether nothing more is told here: the task is final, or the process ends."""
        return self.task.final or self._seat.is_in_closed_room

    async def moved_on(self, deadline: float) -> bool:
        """Wait until the task has made a step.

        Args:
            deadline: when to give up, in the loop's time (seconds).

        Returns:
            Whether `task` is the task after a step; False when the time is up or the process ends.
        """
        while await self._seat.hinted(deadline):
            try:
                found = await self._store.find(self.task.id)
            except StorageUnavailable:
                # Polling finds the step again once the database is back.
                log.debug("A follower could not read its task.", extra={"action": "read_failed"})
                continue
            if found is not None and found.steps != self.task.steps:
                self.task, self._seat.seen = found, found.steps
                return True
        return False
