"""Deleting: the messages of another task are taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from core.jobs.kinds.edit import Correction, performed
from core.model.job import Done, Outcome
from core.model.task import Task
from core.ports import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteMessage(Correction):
    """Deletes every part of a message."""

    name: ClassVar[str] = "delete"

    async def perform(self, run: Run, task: Task) -> Outcome:
        """See `Operation.perform`."""
        del run
        message = await self.message_of(task)
        if not isinstance(message, Task):
            return message
        for message_id in message.message_ids:
            await self.messenger.delete(task.chat.id, message_id)
        return Done(performed(self.clock.now()), proof=True)
