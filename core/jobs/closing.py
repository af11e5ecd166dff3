"""Closing: a question that is over shows its outcome and loses its buttons; who presses is told at once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from core.jobs.background import Errands, current_task
from core.jobs.chats import EVERY_CHAT, ChatBook
from core.jobs.limits import Pacer, Urgency
from core.model.errors import TelegateError
from core.model.task import Change, Task
from core.model.update import Notice, Orphan
from core.policy.policy import GATEWAY_SERVICE
from core.ports import Formatter, Messenger, Migrated, NotReached, Part, Rejected, TaskStore, Unclear
from core.presentation.render import closing_part, fingerprint, last_messages
from core.services.factory import Drafter

log = logging.getLogger("telegate.sending")

PRECEDENCE = 0.002
"""Seconds that no person notices, in which a service gets its answer: calls to Telegram would hold it up."""

ACKNOWLEDGEMENT_PAUSES = (0.5, 1.0, 2.0)
"""Seconds between tries to acknowledge a press; later ones nobody would see, the spinner has gone."""

LONGEST_WAIT = 10.0
"""Seconds that a pause of Telegram's is waited for; after a longer one, the sweep closes the question."""

SHORTEST_REST, LONGEST_REST = 5.0, 600.0
"""Seconds until a closing that did not succeed is tried again: the wait doubles from one to the other."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """When a closing that did not succeed is tried again, and the seconds that it waits."""

    until: datetime
    seconds: float


@dataclass(slots=True)
class Closer:
    """Edits the messages of questions that are over, and acknowledges presses.

    Attributes:
        precedence: seconds by which a service is told an answer before the chat is.
    """

    store: TaskStore
    messenger: Messenger
    formatter: Formatter
    drafter: Drafter
    chats: ChatBook
    pacer: Pacer
    errands: Errands
    precedence: float = PRECEDENCE
    _closing: set[str] = field(default_factory=set)
    _resting: dict[str, _Rest] = field(default_factory=dict)
    _stripping: set[Orphan] = field(default_factory=set)

    def close(self, task: Task) -> None:
        """Make a decided question's message tell its outcome, and take its buttons away."""
        if task.message_ids and task.id not in self._closing and not self._rests(task.id):
            self._closing.add(task.id)
            self.errands.run(self._close(task))

    @property
    def resting(self) -> int:
        """How many closings, at most, wait for their next try."""
        return len(self._resting)

    def acknowledge(self, notice: Notice) -> None:
        """Tell the person who pressed a button what became of it."""
        self.errands.run(self._acknowledge(notice))

    def strip(self, orphan: Orphan) -> None:
        """Take away the buttons of a question that nobody remembers."""
        if orphan not in self._stripping:
            self._stripping.add(orphan)
            self.errands.run(self._strip(orphan))

    async def _close(self, task: Task) -> None:
        current_task.set(task.id)
        try:
            await asyncio.sleep(self.precedence)
            shown: tuple[int, ...] = ()
            while shown != task.message_ids:
                shown = task.message_ids
                outcome = await self._show_outcome(task)
                task = await self.store.amend(task.id, partial(_closed, shown, outcome)) or task
            self._resting.pop(task.id, None)
        except TelegateError:
            self._rest(task.id)
            raise
        finally:
            self._closing.discard(task.id)

    def _rests(self, task_id: str) -> bool:
        rest = self._resting.get(task_id)
        return rest is not None and rest.until > self.drafter.clock.now()

    def _rest(self, task_id: str) -> None:
        now, longest = self.drafter.clock.now(), timedelta(seconds=LONGEST_REST)
        # What has not been tried again for so long was closed by another process.
        self._resting = {one: rest for one, rest in self._resting.items() if rest.until > now - longest}
        before = self._resting.get(task_id)
        seconds = SHORTEST_REST if before is None else min(LONGEST_REST, 2 * before.seconds)
        self._resting[task_id] = _Rest(now + timedelta(seconds=seconds), seconds)

    async def _show_outcome(self, task: Task) -> bytes | None:
        """Returns the fingerprint of what stands in the chat now; None when nothing could be edited."""
        part = closing_part(task, self.formatter)
        edited = 0
        for message_id in last_messages(task, self.formatter, self.drafter.identity.keys[-1]):
            await self._wait_for_pause(task.chat.id)
            await self.pacer.turn(task.chat.id, task.service, Urgency.PRESS)
            edited += await self._close_message(task, message_id, part)
        return fingerprint(part) if edited else None

    async def _close_message(self, task: Task, message_id: int, part: Part) -> bool:
        try:
            await self.messenger.edit(task.chat.id, message_id, part)
        except NotReached as error:
            await self._note_pause(task.chat.id, error)
            raise
        except (Rejected, Migrated) as error:
            # The message is gone or too old, or stayed behind in the old group: nothing is left to be closed.
            log.warning(
                "The message of a question that is over could not be edited: %s",
                error.detail,
                extra={"action": "close_refused", "task": task.id},
            )
            return False
        return True

    async def _strip(self, orphan: Orphan) -> None:
        try:
            await self._wait_for_pause(orphan.chat)
            await self.pacer.turn(orphan.chat, GATEWAY_SERVICE, Urgency.PRESS)
            await self.messenger.strip(orphan.chat, orphan.message_id)
        except NotReached as error:
            # The buttons stay until the next press.
            await self._note_pause(orphan.chat, error)
            raise
        finally:
            self._stripping.discard(orphan)

    async def _note_pause(self, chat: int | str, error: NotReached) -> None:
        if error.retry_after is not None:
            await self.chats.pause(chat, self.drafter.clock.now(), error.retry_after)

    async def _acknowledge(self, notice: Notice) -> None:
        await asyncio.sleep(self.precedence)
        for pause in ACKNOWLEDGEMENT_PAUSES:
            try:
                await self._wait_for_pause(EVERY_CHAT)
                await self.messenger.acknowledge(notice.press_id, notice.text, popup=notice.popup)
            except (NotReached, Unclear) as error:
                if (error.retry_after or 0.0) > LONGEST_WAIT:
                    raise
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
            else:
                return
        await self.messenger.acknowledge(notice.press_id, notice.text, popup=notice.popup)

    async def _wait_for_pause(self, chat: int | str) -> None:
        left = await self._pause_left(chat)
        if 0 < left <= LONGEST_WAIT:
            await asyncio.sleep(left)
            left = await self._pause_left(chat)
        if left > 0:
            raise NotReached("Telegram has asked to wait before anything else is sent here.")

    async def _pause_left(self, chat: int | str) -> float:
        now = self.drafter.clock.now()
        end = await self.chats.pause_end(chat, now)
        return 0.0 if end is None else (end - now).total_seconds()


def _closed(shown: tuple[int, ...], outcome: bytes | None, task: Task) -> Change | None:
    """All its messages show the outcome, unless one more has come to light meanwhile."""
    return Change(task.shown(), "closed", shown=outcome) if task.message_ids == shown else None
