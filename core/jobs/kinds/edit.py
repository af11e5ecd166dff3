"""Editing: the messages of another task get another text and other buttons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from core.jobs.kinds.operation import Operation
from core.model.effect import NOTHING, Decision, Effect
from core.model.failure import Failure
from core.model.job import Done, Later, Outcome, Refused
from core.model.message import Deletion, Edit
from core.model.task import Change, Task
from core.model.transition import TRANSITIONS, TaskState
from core.ports import Run, TaskStore
from core.presentation.render import edited_parts, fingerprint, misfit_text

_NEVER_SENT: Final = Failure("telegram_rejected", "The message was never sent, or not as a whole.")
_NOT_SENT_YET: Final = Failure("telegram_unavailable", "The message that this is about is not sent yet.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction(Operation):
    """What editing and deleting have in common: they are about the message of another task."""

    tasks: TaskStore

    async def message_of(self, task: Task) -> Task | Outcome:
        """The message that the task is about; or what that means for the task when it is not in the chat."""
        message = await self.tasks.find(task.of or "")
        if message is None:
            return Refused(_NEVER_SENT)
        if message.state is TaskState.SENT:
            return message
        if not message.final:
            return Later(_NOT_SENT_YET, after=1.0, counts=False)
        # What did not come as a whole can still be taken away.
        removable = message.message_ids and isinstance(task.content, Deletion)
        return message if removable else Refused(_NEVER_SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditMessage(Correction):
    """Edits every part of a message."""

    name: ClassVar[str] = "edit"

    async def perform(self, run: Run, task: Task) -> Outcome:
        """See `Operation.perform`."""
        del run
        message = await self.message_of(task)
        if not isinstance(message, Task):
            return message
        if not isinstance(task.content, Edit):
            raise TypeError(f"Task {task.id} is a {task.kind}, not an edit.")
        parts = edited_parts(task.content, self.formatter)
        if len(parts) != len(message.message_ids):
            return Refused(Failure("invalid", misfit_text(len(parts), len(message.message_ids))))
        for message_id, part in zip(message.message_ids, parts, strict=True):
            await self.messenger.edit(task.chat.id, message_id, part)
        return Done(performed(self.clock.now(), fingerprint(*parts)), proof=True)


def performed(at: datetime, shown: bytes | None = None) -> Decision:
    """Telegram has done it."""

    def decide(task: Task | None) -> Effect:
        if task is None or TaskState.SENT not in TRANSITIONS[task.state]:
            return NOTHING
        return Effect(changes=(Change.to_state(task.sent(at), shown=shown),))

    return decide
