"""Sending: whose turn it is among the tasks that are stored, and what this process has in its hands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.jobs.background import Errands, current_task
from core.jobs.backlog import Backlog
from core.jobs.chats import ChatBook, ChatNote
from core.jobs.closing import Closer
from core.jobs.limits import Pacer, Place, Urgency
from core.jobs.outcomes import UNCLEAR_TRIES, Outcomes, doubt_of, over
from core.jobs.performing import Performer
from core.model.errors import StorageUnavailable
from core.model.task import LOST, Failure, Task, TaskState
from core.ports import (
    DeadlineStore,
    Formatter,
    Messenger,
    TaskStore,
    Waker,
)
from core.services.factory import Drafter

log = logging.getLogger("telegate.sending")

LONGEST_SLEEP = 2.0
"""Seconds that a task waits in memory for its chat; for a longer time it goes back to the queue."""

LONGEST_TURN = 10.0
"""Seconds that a task waits in memory for its turn. After them it goes back to the queue: its lease must not
run out before Telegram is asked, or another process would take it for one whose outcome nobody knows."""

_STOPPED = Failure("telegram_unavailable", "The gateway stopped before it came to this.")
_PAUSED = Failure(
    "telegram_unavailable",
    "Telegram asks for fewer calls, and to wait before anything else is sent here. It is sent afterwards.",
)


@dataclass(slots=True)
class _Grip:
    """A task in this process's hands.

    Attributes:
        place: that was kept for it until it waits for its turn.
        is_calling: whether Telegram may have been asked.
        again: the same task, when it came due once more meanwhile.
    """

    task: Task
    place: Place | None = None
    is_calling: bool = False
    again: Task | None = None

    def leave_place(self) -> None:
        """Give the place back; from now on it counts as one that waits for its turn, or not at all."""
        if self.place is not None:
            self.place.give_back()


@dataclass(slots=True)
class Sender:
    """Performs tasks, in each chat in the order in which they were accepted, as fast as Telegram allows.

    Attributes:
        starved: whether there was more to do than could be taken in hand.
    """

    store: TaskStore
    deadlines: DeadlineStore
    messenger: Messenger
    formatter: Formatter
    waker: Waker
    drafter: Drafter
    chats: ChatBook
    pacer: Pacer
    backlog: Backlog
    errands: Errands = field(default_factory=Errands)
    closer: Closer = field(init=False)
    outcomes: Outcomes = field(init=False)
    performer: Performer = field(init=False)
    starved: bool = False
    _in_hand: dict[str, _Grip] = field(default_factory=dict)
    _followed: set[int | str] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.closer = Closer(
            self.store,
            self.messenger,
            self.formatter,
            self.drafter,
            self.chats,
            self.pacer,
            self.errands,
        )
        self.outcomes = Outcomes(
            self.store,
            self.formatter,
            self.waker,
            self.drafter,
            self.chats,
            self.closer,
            self.errands,
        )
        self.performer = Performer(
            self.messenger,
            self.outcomes,
            self.pacer,
            self.store,
            self.chats,
            self.drafter,
            self.formatter,
        )

    def take(self, task: Task, place: Place | None = None) -> None:
        """Take over a new task, just as it was stored, with the place that was kept for it."""
        if task.state is TaskState.SENDING:
            self.begin(task, place)
            return
        self.backlog.add(task.service)
        self._followed.add(task.chat.id)
        # What stands before it may be in another process's hands, whose end nobody tells.
        self.outcomes.alarm(self.drafter.clock.now() + _LOOK_AGAIN)

    def place_for(self, service: str) -> Place:
        """A place for a new task of this service; when none is kept, it has to begin as `queued`."""
        place = self.pacer.place_for(service)
        self.starved = self.starved or not place.is_kept
        return place

    def begin(self, task: Task, place: Place | None = None) -> None:
        """Perform a task that is `sending` under this process's lease."""
        grip = self._in_hand.get(task.id)
        if grip is not None:
            # It came due again while its last try is still being put away: that try's end begins it.
            grip.again = task
        else:
            grip = self._in_hand[task.id] = _Grip(task, place and place.handed_on())
            self.errands.run(self._perform(grip))

    def begin_claimed(self, task: Task) -> None:
        """Perform a task that was taken from the queue; others of its chat may stand behind it."""
        self._followed.add(task.chat.id)
        self.outcomes.stepped(task)
        self.begin(task)

    def recover(self, task: Task) -> None:
        """Go on with a task that another process left in the middle of sending.

        Whether Telegram got its message is not known. A question, an edit or a deletion can safely be
        done again; a message becomes `unknown`, unless its service wants it to be sent again.
        """
        if task.id in self._in_hand:
            return
        self._asked.discard(task.id)
        self._followed.add(task.chat.id)
        if task.expires_at <= self.drafter.clock.now():
            self.errands.run(self._give_up(task, over))
        elif task.may_be_repeated and task.lease is not None and task.attempts <= UNCLEAR_TRIES:
            # It may stand in the chat already, so whatever comes now, it has not certainly failed.
            self.begin(task.unclear(doubt_of(task), task.attempts, task.lease))
        else:
            self.errands.run(self._give_up(task, lambda current, now: current.unknown(now, doubt_of(task))))

    def resume(self, task: Task) -> None:
        """Go on with a task that this process holds and has lost sight of.

        The answer of the database was lost when the task was stored or taken: this process never asked
        Telegram for it. But whoever had it before may have, when it was taken over.
        """
        if task.id in self._in_hand or task.id in self._asked:
            return
        if task.in_doubt:
            self.recover(task)
        else:
            self.begin_claimed(task)

    async def stop(self, grace: float) -> None:
        """Begin nothing more, and let what is being sent end for at most `grace` seconds; then let go of it.

        What Telegram was not asked for goes back to the queue; what it has not answered yet is unclear.
        """
        await self.errands.stop(grace)
        left, self._in_hand = list(self._in_hand.values()), {}
        await asyncio.gather(*(self._let_go(grip) for grip in left))

    async def _let_go(self, grip: _Grip) -> None:
        task = grip.task
        try:
            if not grip.is_calling:
                await self.outcomes.again(task, task.error or _STOPPED, pause=0.0, attempts=task.attempts)
            elif task.may_be_repeated:
                await self.outcomes.again_in_doubt(task, doubt_of(task), 0.0, task.attempts)
            else:
                await self.outcomes.settle(task, lambda current, now: current.unknown(now, LOST))
        except StorageUnavailable as error:
            log.warning(
                "The database could not be told that sending has stopped; the lease's end will show it: %s",
                error.detail,
                extra={"action": "store_failed", "task": task.id},
            )

    # One task

    async def _perform(self, grip: _Grip) -> None:
        current_task.set(grip.task.id)
        try:
            await self._take_turn(grip, sure=True)
            while grip.again is not None:
                grip.task, grip.again = grip.again, None
                await self._take_turn(grip, sure=False)
        except asyncio.CancelledError:
            # `stop` looks at what is still in hand.
            raise
        except BaseException:
            if grip.is_calling:
                # Telegram may have been asked; the lease's end tells what becomes of it.
                self._asked.add(grip.task.id)
            del self._in_hand[grip.task.id]
            raise
        finally:
            grip.leave_place()
        del self._in_hand[grip.task.id]
        await self._go_on(grip.task)

    async def _give_up(self, task: Task, step: Callable[[Task, datetime], Task]) -> None:
        current_task.set(task.id)
        await self.outcomes.settle(task, step)
        await self._go_on(task)

    async def _go_on(self, task: Task) -> None:
        """Begin what stands behind this task in its chat, and whatever else there is room for now."""
        if self.errands.stopping:
            return
        now = self.drafter.clock.now()
        chat = task.chat.id
        if chat in self._followed:
            following = await self.deadlines.claim_in(chat, now, self.drafter.lease(now))
            if following is None:
                self._followed.discard(chat)
            else:
                self.begin_claimed(following)
        if self.starved and self.pacer.has_much_room:
            self.starved = False
            self.outcomes.alarm(now)

    async def _take_turn(self, grip: _Grip, *, sure: bool) -> None:
        task = grip.task
        if self.errands.stopping:
            await self.outcomes.again(task, task.error or _STOPPED, pause=0.0, attempts=task.attempts)
            return
        sleep = self.pacer.delay(task.chat.id)
        if sleep > LONGEST_SLEEP:
            await self.outcomes.again(task, task.error, sleep, task.attempts)
            return
        try:
            async with asyncio.timeout(LONGEST_TURN):
                await self._wait_for_turn(grip)
        except TimeoutError:
            await self.outcomes.again(task, task.error, 0.0, task.attempts)
            return
        # Last of all: while it waited, another one may have been told to wait for longer.
        note = await self._may_call(task)
        held = None if note is None else await self.performer.hold(task, sure=sure)
        if note is None or held is None:
            return
        grip.task, grip.is_calling = held, True
        if note.migrated_to is None:
            await self.performer.attempt(held)
        else:
            await self.performer.move(held, note.migrated_to)
        grip.is_calling = False

    async def _wait_for_turn(self, grip: _Grip) -> None:
        task = grip.task
        await self.pacer.rest(task.chat.id)
        grip.leave_place()
        await self.pacer.turn(task.chat.id, task.service, Urgency.of(task))

    async def _may_call(self, task: Task) -> ChatNote | None:
        """What is known about the chat, when it may be called; if not, the task is put back or has failed."""
        now = self.drafter.clock.now()
        note = await self.chats.note(task.chat.id)
        end = note.pause_end(now)
        if end is not None:
            await self.outcomes.again(task, _PAUSED, (end - now).total_seconds(), task.attempts)
            return None
        refusal = note.reason_not_to_call(now)
        if refusal is not None:
            await self.outcomes.refuse(task, refusal)
            return None
        return note


_LOOK_AGAIN = timedelta(seconds=1)
