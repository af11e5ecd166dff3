"""Sending: a stored task is performed in Telegram, and its row says what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from core.backlog import Backlog
from core.chats import ChatBook, ChatNote
from core.closing import Closer
from core.drafting import Drafter
from core.errands import Errands, current_task
from core.errors import StorageUnavailable
from core.messages import Deletion, Edit
from core.outcomes import UNCLEAR_TRIES, Outcomes, doubt_of, over
from core.pacing import Pacer, Place, Urgency
from core.ports import (
    DeadlineStore,
    Formatter,
    Messenger,
    Migrated,
    NotReached,
    Part,
    Rejected,
    TaskStore,
    Unclear,
    Waker,
)
from core.rendering import edited_parts, fingerprint, misfit_text, parts_of
from core.tasks import LOST, Change, Failure, Task, TaskKind, TaskState

log = logging.getLogger("telegate.sending")

LONGEST_SLEEP = 2.0
"""Seconds that a task waits in memory for its chat; for a longer time it goes back to the queue."""

LONGEST_TURN = 10.0
"""Seconds that a task waits in memory for its turn. After them it goes back to the queue: its lease must not
run out before Telegram is asked, or another process would take it for one whose outcome nobody knows."""

_UNDELIVERED = frozenset({TaskState.QUEUED, TaskState.SENDING, TaskState.UNKNOWN})
_STOPPED = Failure("telegram_unavailable", "The gateway stopped before it came to this.")
_PAUSED = Failure(
    "telegram_unavailable",
    "Telegram asks for fewer calls, and to wait before anything else is sent here. It is sent afterwards.",
)
_IN_A_CIRCLE = Failure("telegram_rejected", "Telegram sends what is meant for this group in a circle.")
_NEVER_SENT = Failure("telegram_rejected", "The message was never sent, or not as a whole.")
_NOT_SENT_YET = Failure("telegram_unavailable", "The message that this is about is not sent yet.")


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
                await self._wait_for_turn(task, Urgency.of(task), grip)
        except TimeoutError:
            await self.outcomes.again(task, task.error, 0.0, task.attempts)
            return
        # Last of all: while it waited, another one may have been told to wait for longer.
        note = await self._may_call(task)
        held = None if note is None else await self._hold(task, sure=sure)
        if note is None or held is None:
            return
        grip.task, grip.is_calling = held, True
        if note.migrated_to is None:
            await self._attempt(held)
        else:
            await self._move(held, note.migrated_to)
        grip.is_calling = False

    async def _wait_for_turn(self, task: Task, urgency: Urgency, grip: _Grip | None = None) -> None:
        sleep = self.pacer.delay(task.chat.id)
        if sleep > 0:
            await asyncio.sleep(sleep)
        if grip is not None:
            grip.leave_place()
        await self.pacer.turn(task.chat.id, task.service, urgency)

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

    async def _attempt(self, task: Task, *, has_moved: bool = False) -> None:
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
        await self._move(task, supergroup)

    async def _move(self, task: Task, supergroup: int) -> None:
        chat = replace(task.chat, id=supergroup)

        def judge(current: Task) -> Change | None:
            return Change(current.in_chat(chat), "migrated") if self.outcomes.is_ours(current) else None

        current = await self.store.advance(task, judge)
        if current is not None and self.outcomes.is_ours(current):
            self.outcomes.stepped(current)
            await self._attempt(current, has_moved=True)

    async def _hold(self, task: Task, *, sure: bool) -> Task | None:
        """Make sure that nobody else takes the task during the next call; None when somebody has.

        A row that was written just now, as `sure` says it was, need not be asked.
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
                await self._wait_for_turn(task, Urgency.PRESS)
                held = await self._hold(task, sure=True)
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


_LOOK_AGAIN = timedelta(seconds=1)
