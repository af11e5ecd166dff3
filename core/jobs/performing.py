"""Performing: one task is done in Telegram, part by part, and its row says how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from core.jobs.chats import ChatBook
from core.jobs.limits import Pacer, Urgency
from core.jobs.outcomes import Outcomes
from core.model.message import Deletion, Edit
from core.model.task import Change, Failure, Task, TaskKind, TaskState
from core.ports import Formatter, Messenger, Migrated, NotReached, Part, Rejected, TaskStore, Unclear
from core.presentation.render import edited_parts, fingerprint, misfit_text, parts_of
from core.services.factory import Drafter

_UNDELIVERED = frozenset({TaskState.QUEUED, TaskState.SENDING, TaskState.UNKNOWN})
_IN_A_CIRCLE = Failure("telegram_rejected", "Telegram sends what is meant for this group in a circle.")
_NEVER_SENT = Failure("telegram_rejected", "The message was never sent, or not as a whole.")
_NOT_SENT_YET = Failure("telegram_unavailable", "The message that this is about is not sent yet.")


@dataclass(slots=True)
class Performer:
    """Does what a task asks for; whose turn it is, was decided before."""

    messenger: Messenger
    outcomes: Outcomes
    pacer: Pacer
    store: TaskStore
    chats: ChatBook
    drafter: Drafter
    formatter: Formatter

    async def attempt(self, task: Task, *, has_moved: bool = False) -> None:
        """Call Telegram for a task that this process holds, and store what came of it.

        Args:
            task: as its row tells it.
            has_moved: whether it follows its group to the supergroup that this has become.

        Raises:
            StorageUnavailable: what came of it could not be stored.
        """
        try:
            await self._call(task)
        except Migrated as error:
            if has_moved:
                await self.outcomes.rejected(task, _IN_A_CIRCLE)
            else:
                await self._follow(task, error.chat)
        except NotReached as error:
            await self.outcomes.not_reached(task, error)
        except Rejected as error:
            await self.outcomes.rejected(task, error.failure)
        except Unclear as error:
            await self.outcomes.unclear(task, error)

    async def _call(self, task: Task) -> None:
        match task.content:
            case Edit():
                await self._edit(task, task.content)
            case Deletion():
                await self._delete(task)
            case _:
                await self._say(task)

    async def _follow(self, task: Task, supergroup: int) -> None:
        """The group has become a supergroup: remember it, and do the task there."""
        await self.chats.moved(task.chat.id, supergroup)
        await self.move(task, supergroup)

    async def move(self, task: Task, supergroup: int) -> None:
        """Do a task in the supergroup that its group has become.

        Raises:
            StorageUnavailable: that could not be stored.
        """
        chat = replace(task.chat, id=supergroup)

        def judge(current: Task) -> Change | None:
            return Change(current.in_chat(chat), "migrated") if self.outcomes.is_ours(current) else None

        current = await self.store.advance(task, judge)
        if current is not None and self.outcomes.is_ours(current):
            self.outcomes.stepped(current)
            await self.attempt(current, has_moved=True)

    async def hold(self, task: Task, *, sure: bool) -> Task | None:
        """Make sure that nobody else takes the task during the next call; None when somebody has.

        A row that was written just now, as `sure` says it was, need not be asked.

        Raises:
            StorageUnavailable: that could not be found out.
        """
        now = self.drafter.clock.now()
        lease = self.drafter.lease(now)
        if sure and task.lease is not None and lease.until - task.lease.until < timedelta(seconds=5):
            return task

        def renew(current: Task) -> Change | None:
            return Change(current.leased(lease), "held") if self.outcomes.is_ours(current) else None

        current = await self.store.advance(task, renew)
        return current if current is not None and current.lease == lease else None

    async def _say(self, task: Task) -> None:
        parts = parts_of(task, self.formatter, self.drafter.identity.keys[-1])
        for number, part in enumerate(parts):
            if number < len(task.message_ids):
                continue
            if number > 0:
                # What is half in the chat goes before what is not there yet.
                await self.pacer.rest(task.chat.id)
                await self.pacer.turn(task.chat.id, task.service, Urgency.PRESS)
                held = await self.hold(task, sure=True)
                if held is None:
                    return
                task = held
            message_id = await self.messenger.send(task.chat.id, task.chat.topic, part)
            last = number == len(parts) - 1
            task = await self._delivered(task, message_id, part, last=last) or task

    async def _delivered(self, task: Task, message_id: int, part: Part, *, last: bool) -> Task | None:
        shown = fingerprint(part)
        now = self.drafter.clock.now()
        lease = self.drafter.lease(now)

        def judge(current: Task) -> Change | None:
            grown = current.with_message(now, message_id)
            if grown is current and current.state not in _UNDELIVERED:
                return None
            if not last:
                return Change(grown.leased(lease), "part_sent", shown=shown)
            if current.state not in _UNDELIVERED:
                # Somebody answered, or took the question back, before this process could store it.
                return Change(grown, "delivered", shown=shown)
            sent = grown.asked(now) if task.kind is TaskKind.QUESTION else grown.sent(now)
            return Change.to_state(sent, shown=shown)

        current = await self.outcomes.record(task, judge)
        if current is not None and last:
            self.outcomes.tell(current)
        elif current is not None:
            self.outcomes.stepped(current)
        return current

    async def _edit(self, task: Task, edit: Edit) -> None:
        message = await self._message_of(task)
        if message is None:
            return
        parts = edited_parts(edit, self.formatter)
        if len(parts) != len(message.message_ids):
            misfit = Failure("invalid", misfit_text(len(parts), len(message.message_ids)))
            await self.outcomes.settle(task, lambda current, now: current.failed(now, misfit))
            return
        for message_id, part in zip(message.message_ids, parts, strict=True):
            await self.messenger.edit(task.chat.id, message_id, part)
        await self.outcomes.settle(task, lambda current, now: current.sent(now), fingerprint(*parts))

    async def _delete(self, task: Task) -> None:
        message = await self._message_of(task)
        if message is None:
            return
        for message_id in message.message_ids:
            await self.messenger.delete(task.chat.id, message_id)
        await self.outcomes.settle(task, lambda current, now: current.sent(now))

    async def _message_of(self, task: Task) -> Task | None:
        """The message that an edit or a deletion is about; None when that has to wait, or cannot be."""
        message = await self.store.find(task.of or "")
        if message is not None and (message.state is TaskState.SENT or _can_go(message, task)):
            return message
        if message is not None and not message.final:
            await self.outcomes.again(task, _NOT_SENT_YET, pause=1.0, attempts=task.attempts)
            return None
        await self.outcomes.settle(task, lambda current, now: current.failed(now, _NEVER_SENT))
        return None


def _can_go(message: Task, task: Task) -> bool:
    """Whether a message that did not come as a whole has parts in the chat that this task takes away."""
    return message.final and bool(message.message_ids) and isinstance(task.content, Deletion)
