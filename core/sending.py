"""Sending: a stored task is performed in Telegram, and its row says what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from weakref import WeakValueDictionary

from core.drafting import Drafter
from core.errors import StorageUnavailable, TelegateError
from core.messages import Deletion, Edit
from core.pausing import Pauses
from core.ports import (
    Formatter,
    Messenger,
    NotReached,
    Part,
    Rejected,
    TaskStore,
    Unclear,
    Waker,
)
from core.rendering import closing_part, edited_parts, misfit_text, parts_of
from core.tasks import DECIDED_STATES, Change, Failure, Lease, Task, TaskKind, TaskState
from core.updates import Notice

log = logging.getLogger("telegate.sending")

LONGEST_PAUSE = 60.0
"""Seconds: the waits between tries double from one second up to this."""

UNCLEAR_TRIES = 5
"""How often a question, edit or deletion is repeated after an unclear outcome; a message never is."""


ACKNOWLEDGEMENT_PAUSES = (0.5, 1.0, 2.0)
"""Seconds between tries to acknowledge a press; later ones nobody would see, the spinner has gone."""

_UNDELIVERED = frozenset({TaskState.QUEUED, TaskState.SENDING, TaskState.UNKNOWN})
_LOST = Failure("outcome_unknown", "The gateway stopped while it was sending this.")
_STOPPED = Failure("telegram_unavailable", "The gateway stopped before it came to this.")
_PAUSED = "Telegram has asked to wait before anything else is sent here."
_NOT_SENT_YET = Failure("telegram_unavailable", "The message that this is about is not sent yet.")


@dataclass(slots=True)
class Sender:
    """Performs tasks, one at a time in each chat, each in an asyncio.Task of its own.

    A waiter that goes away therefore never interrupts a send.

    Attributes:
        alarm: tells the timekeeper that something comes due at this time.
    """

    store: TaskStore
    messenger: Messenger
    formatter: Formatter
    waker: Waker
    drafter: Drafter
    alarm: Callable[[datetime], None] = lambda _at: None
    _pauses: Pauses = field(default_factory=Pauses)
    _in_hand: dict[str, Task | None] = field(default_factory=dict)
    _stopping: bool = False
    _closing: set[str] = field(default_factory=set)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _lanes: WeakValueDictionary[int | str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def begin(self, task: Task) -> None:
        """Perform a task that is `sending` under this process's lease."""
        if task.id in self._in_hand:
            # It came due again while its last try is still being put away: that try's end begins it.
            self._in_hand[task.id] = task
        else:
            self._in_hand[task.id] = None
            self._spawn(self._perform(task))

    def recover(self, task: Task) -> None:
        """Go on with a task that another process left in the middle of sending.

        Whether Telegram got its message is not known. A question, an edit or a deletion can safely be
        done again; a message becomes `unknown`, since nothing is ever silently sent twice.
        """
        if task.id in self._in_hand:
            return
        if task.expires_at <= self.drafter.clock.now():
            self._spawn(self._store(task, _over))
        elif task.kind is TaskKind.MESSAGE:
            self._spawn(self._store(task, lambda current, now: current.unknown(now, _LOST)))
        else:
            self.begin(task)

    def close(self, task: Task) -> None:
        """Make a decided question's message tell its outcome, and take its buttons away."""
        if task.message_ids and task.id not in self._closing:
            self._closing.add(task.id)
            self._spawn(self._close(task))

    def ended(self, task: Task) -> None:
        """Tell whoever waits that a task is final, and make a question's message show it."""
        self.waker.hint([task.id])
        if task.state in DECIDED_STATES and not task.closed:
            self.close(task)

    def acknowledge(self, notice: Notice) -> None:
        """Tell the person who pressed a button what became of it."""
        self._spawn(self._acknowledge(notice))

    async def stop(self, grace: float) -> None:
        """Begin nothing more, and let what is being sent end for at most `grace` seconds; then let go of it.

        What is let go of stays `sending` in its row, until its lease runs out.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        # What ends may begin something else: an answer's question is closed, for example.
        while self._running and loop.time() < deadline:
            await asyncio.wait(set(self._running), timeout=deadline - loop.time())
        late = set(self._running)
        for running in late:
            running.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    # One task

    async def _perform(self, task: Task) -> None:
        due: Task | None = task
        first = True
        try:
            while due is not None:
                self._in_hand[task.id] = None
                async with self._lane(task.chat.id):
                    await self._take_turn(due, sure=first)
                due, first = self._in_hand[task.id], False
        finally:
            del self._in_hand[task.id]

    async def _take_turn(self, task: Task, *, sure: bool) -> None:
        now = self.drafter.clock.now()
        if self._stopping:
            await self._again(task, task.error or _STOPPED, pause=0.0, attempts=task.attempts)
            return
        pause_end = self._pauses.end(task.chat.id, now)
        if pause_end is not None:
            waits = NotReached(_PAUSED, retry_after=(pause_end - now).total_seconds())
            await self._not_reached(task, waits)
            return
        held = await self._hold(task, sure=sure)
        if held is not None:
            await self._attempt(held)

    async def _attempt(self, task: Task) -> None:
        try:
            match task.content:
                case Edit():
                    await self._edit(task, task.content)
                case Deletion():
                    await self._delete(task)
                case _:
                    await self._say(task)
        except NotReached as error:
            if error.retry_after is not None:
                now = self.drafter.clock.now()
                self._pauses.note(task.chat.id, now, now + timedelta(seconds=error.retry_after))
            await self._not_reached(task, error)
        except Rejected as error:
            failure = error.failure
            await self._store(task, lambda current, now: current.failed(now, failure))
        except Unclear as error:
            await self._unclear(task, error)

    async def _hold(self, task: Task, *, sure: bool) -> Task | None:
        """Make sure that nobody else takes the task during the next call; None when somebody has.

        A row that was written just now, as `sure` says it was, need not be asked.
        """
        now = self.drafter.clock.now()
        lease = self.drafter.lease(now)
        if sure and task.lease is not None and lease.until - task.lease.until < timedelta(seconds=5):
            return task

        def renew(current: Task) -> Change | None:
            return Change(current.leased(lease), "held") if self._is_ours(current) else None

        current = await self.store.amend(task.id, renew)
        return current if current is not None and current.lease == lease else None

    async def _say(self, task: Task) -> None:
        parts = parts_of(task, self.formatter, self.drafter.identity.keys[-1])
        for number, part in enumerate(parts):
            if number >= len(task.message_ids):
                message_id = await self.messenger.send(task.chat.id, task.chat.topic, part)
                last = number == len(parts) - 1
                task = await self._delivered(task, message_id, last=last) or task

    async def _delivered(self, task: Task, message_id: int, *, last: bool) -> Task | None:
        now = self.drafter.clock.now()
        lease = self.drafter.lease(now)

        def judge(current: Task) -> Change:
            grown = current.with_message(now, message_id)
            if not last:
                return Change(grown.leased(lease), "part_sent")
            if current.state not in _UNDELIVERED:
                # Somebody answered, or took the question back, before this process could store it.
                return Change(grown, "delivered")
            sent = grown.asked(now) if task.kind is TaskKind.QUESTION else grown.sent(now)
            return Change.to_state(sent)

        current = await self.store.amend(task.id, judge)
        if current is not None and last:
            self._tell(current)
        return current

    async def _edit(self, task: Task, edit: Edit) -> None:
        message = await self._message_of(task)
        if message is None:
            return
        parts = edited_parts(edit, self.formatter)
        if len(parts) != len(message.message_ids):
            misfit = Failure("invalid", misfit_text(len(parts), len(message.message_ids)))
            await self._store(task, lambda current, now: current.failed(now, misfit))
            return
        for message_id, part in zip(message.message_ids, parts, strict=True):
            await self.messenger.edit(task.chat.id, message_id, part)
        await self._store(task, lambda current, now: current.sent(now))

    async def _delete(self, task: Task) -> None:
        message = await self._message_of(task)
        if message is None:
            return
        for message_id in message.message_ids:
            await self.messenger.delete(task.chat.id, message_id)
        await self._store(task, lambda current, now: current.sent(now))

    async def _message_of(self, task: Task) -> Task | None:
        """The message that an edit or a deletion is about; None when that has to wait, or never came."""
        message = await self.store.find(task.of or "")
        if message is not None and message.state is TaskState.SENT:
            return message
        if message is not None and not message.final:
            await self._again(task, _NOT_SENT_YET, pause=1.0, attempts=task.attempts)
            return None
        never = Failure("telegram_rejected", "The message was never sent, so nothing can be done to it.")
        await self._store(task, lambda current, now: current.failed(now, never))
        return None

    # What came of it

    async def _not_reached(self, task: Task, error: NotReached) -> None:
        waiting = error.retry_after is not None
        attempts = task.attempts if waiting else task.attempts + 1
        pause = error.retry_after if error.retry_after is not None else _pause(attempts)
        await self._again(task, error.failure, pause, attempts)

    async def _unclear(self, task: Task, error: Unclear) -> None:
        failure = Failure(error.code, error.detail)
        before = task.attempts if task.in_doubt else 0
        if task.kind is TaskKind.MESSAGE or before >= UNCLEAR_TRIES:
            await self._store(task, lambda current, now: current.unknown(now, failure))
        else:
            await self._again_in_doubt(task, failure, _pause(before + 1), before + 1)

    async def _again_in_doubt(self, task: Task, failure: Failure, pause: float, attempts: int) -> None:
        """It stays `sending` until its next try: it may stand in the chat already, and an answer counts."""
        again = self.drafter.clock.now() + timedelta(seconds=pause)
        if again >= task.expires_at:
            await self._store(task, _over)
            return
        lease = Lease(self.drafter.identity.holder, again)

        def judge(current: Task) -> Change | None:
            tried = current.unclear(failure, attempts, lease)
            return Change(tried, "unclear") if self._is_ours(current) else None

        await self.store.amend(task.id, judge)
        self.alarm(again)

    async def _again(self, task: Task, failure: Failure, pause: float, attempts: int) -> None:
        if task.in_doubt and task.error is not None:
            await self._again_in_doubt(task, task.error, pause, attempts)
            return
        not_before = self.drafter.clock.now() + timedelta(seconds=pause)

        def judge(current: Task, now: datetime) -> Task:
            if not_before >= current.expires_at:
                return current.failed(now, failure)
            return current.queued_again(now, failure, not_before, attempts)

        await self._store(task, judge)
        self.alarm(not_before)

    async def _store(self, task: Task, step: Callable[[Task, datetime], Task]) -> None:
        now = self.drafter.clock.now()

        def judge(current: Task) -> Change | None:
            # An answer may have come meanwhile, or another process may have taken over: then theirs counts.
            return Change.to_state(step(current, now)) if self._is_ours(current) else None

        current = await self.store.amend(task.id, judge)
        if current is not None:
            self._tell(current)

    def _tell(self, task: Task) -> None:
        if task.final:
            self.ended(task)
        elif task.kind is TaskKind.QUESTION:
            self.alarm(task.expires_at)

    async def _close(self, task: Task) -> None:
        try:
            shown: tuple[int, ...] = ()
            while shown != task.message_ids:
                shown = task.message_ids
                await self._show_outcome(task)
                task = await self.store.amend(task.id, partial(_closed, shown)) or task
        finally:
            self._closing.discard(task.id)

    async def _show_outcome(self, task: Task) -> None:
        part = closing_part(task, self.formatter)
        first = len(parts_of(task, self.formatter, self.drafter.identity.keys[-1])) - 1
        for message_id in task.message_ids[first:]:
            await self._close_message(task, message_id, part)

    async def _close_message(self, task: Task, message_id: int, part: Part) -> None:
        try:
            await self.messenger.edit(task.chat.id, message_id, part)
        except Rejected as error:
            # The message is gone or too old: nothing is left to be closed.
            log.warning(
                "The message of a question that is over could not be edited: %s",
                error.detail,
                extra={"action": "close_refused", "task": task.id},
            )

    async def _acknowledge(self, notice: Notice) -> None:
        for pause in ACKNOWLEDGEMENT_PAUSES:
            try:
                await self.messenger.acknowledge(notice.press_id, notice.text, popup=notice.popup)
            except (NotReached, Unclear) as error:
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
            else:
                return
        await self.messenger.acknowledge(notice.press_id, notice.text, popup=notice.popup)

    def _is_ours(self, task: Task) -> bool:
        """Whether this process still has the task in its hands, as far as the row tells."""
        holder = None if task.lease is None else task.lease.holder
        return task.state is TaskState.SENDING and holder == self.drafter.identity.holder

    def _lane(self, chat: int | str) -> asyncio.Lock:
        lane = self._lanes.get(chat)
        if lane is None:
            lane = self._lanes[chat] = asyncio.Lock()
        return lane

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        running = asyncio.create_task(_logged(work))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        # What is cancelled before its first step would otherwise never be awaited.
        running.add_done_callback(lambda _done: work.close())


async def _logged(work: Coroutine[object, object, None]) -> None:
    """The outermost frame of each piece of sending: what went wrong here has nobody else to be told to."""
    try:
        await work
    except StorageUnavailable as error:
        log.warning(
            "Telegram was called, and the database could not be told; the lease's end will show it: %s",
            error.detail,
            extra={"action": "store_failed"},
        )
    except TelegateError as error:
        log.warning("A call to Telegram did not succeed: %s", error.detail, extra={"action": error.code})
    except Exception:
        log.exception("Sending a task failed because of a bug.", extra={"action": "bug"})


def _over(task: Task, now: datetime) -> Task:
    """What becomes of a task whose time is over, and of which nobody knows whether it was delivered."""
    return task.expired(now) if task.is_question else task.unknown(now, task.error or _LOST)


def _closed(shown: tuple[int, ...], task: Task) -> Change | None:
    """All its messages show the outcome, unless one more has come to light meanwhile."""
    return Change(task.shown(), "closed") if task.message_ids == shown else None


def _pause(attempts: int) -> float:
    return min(LONGEST_PAUSE, 2.0 ** min(attempts - 1, 6))
