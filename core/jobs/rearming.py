"""Re-arming: after an outage, open questions ask for another press; Telegram keeps one for 150 s only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from core.cluster.heartbeat import Attending, Outage
from core.jobs.background import current_task
from core.jobs.chats import ChatBook
from core.jobs.limits import Pacer, Urgency
from core.model.errors import StorageUnavailable, TelegateError
from core.model.task import DECIDED_STATES, Task, TaskState
from core.ports import Formatter, Messenger, Migrated, NotReached, Part, Rejected, Unclear
from core.presentation.render import closing_part, fingerprint, last_messages, rearmed_part
from core.services.factory import LEASE, Drafter

log = logging.getLogger("telegate.rearming")

MOST_TRIES = 20
"""A quarter of an hour; an edit whose outcome is unclear even then is given up."""

LONGEST_PAUSE = 60.0
"""Seconds: the waits between tries double from one second up to this."""

NAP = 5.0
"""Seconds between two looks for questions that are to be tried again, or that a dead process left."""


@dataclass(frozen=True, slots=True)
class Disarmed:
    """A question whose presses may have been lost.

    Attributes:
        tries: how often it was taken, this time included.
    """

    task: Task
    outage: Outage
    tries: int


class RearmingStore(Protocol):
    """The list of disarmed questions. Every method is one transaction; all raise `StorageUnavailable`."""

    async def disarm(self, outage: Outage) -> int:
        """Put every question that stands in a chat on the list; returns how many.

        One that is on it already stays on it once. One whose last step was to be re-armed is left out: its
        message asks for another press as it stands.
        """

    async def take_disarmed(self, now: datetime, until: datetime) -> Disarmed | None:
        """Take the one that has waited longest; nobody else gets it before `until`."""

    async def postpone_disarmed(self, task_id: str, until: datetime) -> None:
        """Nobody gets this one before `until`."""

    async def rearmed(self, task_id: str, shown: bytes) -> Task | None:
        """An open question's message asks for another press: write that down, and strike it off the list.

        When the question has been decided meanwhile, nothing is changed.

        Args:
            task_id: of the question.
            shown: the fingerprint of what its message says now.

        Returns:
            The task as it stands, or None when there is none.
        """

    async def strike_off(self, task_id: str) -> None:
        """Nothing is left to be done for this one."""


@dataclass(slots=True)
class Rearming:
    """Works off the list of disarmed questions, in one process for all.

    A process that dies in the middle leaves the list behind, and an edit that is done twice does no harm: so
    each question is re-armed at least once, and its history says it exactly once.

    Attributes:
        attending: knows whether this process does it.
    """

    store: RearmingStore
    messenger: Messenger
    formatter: Formatter
    drafter: Drafter
    chats: ChatBook
    pacer: Pacer
    attending: Attending
    _alarm: asyncio.Event = field(default_factory=asyncio.Event)
    _failing: bool = False

    def wake(self) -> None:
        """Look at the list now."""
        self._alarm.set()

    async def disarm(self, outage: Outage) -> None:
        """Let every open question ask for another press.

        Raises:
            StorageUnavailable: that could not be stored.
        """
        count = await self.store.disarm(outage)
        log.warning(
            "No update arrived from %s to %s. Open questions that now ask for another tap: %d.",
            *(f"{at:%Y-%m-%d %H:%M:%S} UTC" for at in (outage.began, outage.ended)),
            count,
            extra={"action": "disarmed", "questions": count},
        )
        self.wake()

    async def run(self) -> None:
        """Work off the list, again and again, for as long as the process lives."""
        while True:
            self._alarm.clear()
            try:
                await self.work_off()
                self._failing = False
            except StorageUnavailable as error:
                self._tell_once(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(NAP):
                    await self._alarm.wait()

    async def work_off(self, *, off_duty: bool = False) -> int:
        """Do whatever can be done now, one question after the other; returns how many were taken.

        Args:
            off_duty: do it even when another process should: that one may be frozen. What one has taken is
                not taken by another.
        """
        taken = 0
        while (off_duty or self.attending.on_duty) and self.attending.is_serving():
            now = self._now()
            disarmed = await self.store.take_disarmed(now, now + LEASE)
            if disarmed is None:
                break
            taken += 1
            await self._try(disarmed)
        return taken

    def _tell_once(self, error: StorageUnavailable) -> None:
        if not self._failing:
            log.warning(
                "Open questions could not be told to ask for another tap; they are told later: %s",
                error.detail,
                extra={"action": "rearming_failed"},
            )
        self._failing = True

    async def _try(self, disarmed: Disarmed) -> None:
        task = disarmed.task
        pause_end = (await self.chats.note(task.chat.id)).pause_end(self._now())
        if pause_end is not None:
            await self.store.postpone_disarmed(task.id, pause_end)
            return
        try:
            await self._rearm(disarmed)
        except NotReached as error:
            await self._not_reached(disarmed, error)
        except Unclear as error:
            if disarmed.tries >= MOST_TRIES:
                await self._give_up(task, error)
            else:
                await self._again(disarmed, _pause(disarmed.tries))

    async def _rearm(self, disarmed: Disarmed) -> None:
        task: Task | None = disarmed.task
        if task is not None and task.state is TaskState.ASKED and task.expires_at > self._now():
            part = rearmed_part(task, self.formatter, self.drafter.identity.keys[-1])
            if not await self._show(task, part):
                await self.store.strike_off(task.id)
                return
            task = await self.store.rearmed(task.id, fingerprint(part))
            if task is not None and task.state is TaskState.ASKED:
                _tell(task, disarmed.outage)
                return
        if task is not None and task.state in DECIDED_STATES:
            # It was decided in between, and our edit may have come after the one that shows the outcome.
            await self._show(task, closing_part(task, self.formatter))
        await self.store.strike_off(disarmed.task.id)

    async def _show(self, task: Task, part: Part) -> int:
        """Edit what carries the question's buttons; returns how many messages there were to be edited."""
        shown = 0
        for message_id in last_messages(task, self.formatter, self.drafter.identity.keys[-1]):
            await self.pacer.rest(task.chat.id)
            await self.pacer.turn(task.chat.id, task.service, Urgency.QUESTION)
            before = current_task.set(task.id)
            try:
                await self.messenger.edit(task.chat.id, message_id, part)
                shown += 1
            except (Rejected, Migrated) as error:
                # It is gone, or stayed behind in the old group: nobody can press its buttons.
                _warn(task, error)
            finally:
                current_task.reset(before)
        return shown

    async def _not_reached(self, disarmed: Disarmed, error: NotReached) -> None:
        chat = disarmed.task.chat.id
        if error.retry_after is not None:
            await self.chats.pause(chat, self._now(), error.retry_after)
        await self._again(disarmed, max(error.retry_after or 0.0, _pause(disarmed.tries)))

    async def _again(self, disarmed: Disarmed, pause: float) -> None:
        await self.store.postpone_disarmed(disarmed.task.id, self._now() + timedelta(seconds=pause))

    async def _give_up(self, task: Task, error: TelegateError) -> None:
        _warn(task, error)
        await self.store.strike_off(task.id)

    def _now(self) -> datetime:
        return self.drafter.clock.now()


def _tell(task: Task, outage: Outage) -> None:
    log.info(
        "An open question asks for another tap.",
        extra={
            "action": "rearmed",
            "task": task.id,
            "service": task.service,
            "outage_began": outage.began.isoformat(),
            "outage_ended": outage.ended.isoformat(),
        },
    )


def _warn(task: Task, error: TelegateError) -> None:
    log.warning(
        "The message of an open question could not be edited to ask for another tap: %s",
        error.detail,
        extra={"action": "rearm_refused", "task": task.id},
    )


def _pause(tries: int) -> float:
    return min(LONGEST_PAUSE, 2.0 ** min(tries - 1, 6))
