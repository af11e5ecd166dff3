"""Outcomes: what came of a try to send a task is stored, and told to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from core.jobs.background import Errands
from core.jobs.chats import ChatBook
from core.jobs.closing import Closer
from core.metrics import Counts
from core.model.errors import StorageUnavailable
from core.model.task import DECIDED_STATES, LOST, Change, Failure, Lease, Task, TaskKind, TaskState
from core.ports import Formatter, NotReached, TaskStore, Unclear, Waker
from core.presentation.render import parts_of, standing_text
from core.services.factory import Drafter

T = TypeVar("T")

log = logging.getLogger("telegate.sending")

LONGEST_PAUSE = 60.0
"""Seconds: the waits between tries double from one second up to this."""

UNCLEAR_TRIES = 5
"""How often what may be repeated is, after an unclear outcome."""

STORE_AGAIN, STORE_AGAIN_LATER = 0.25, 2.0
"""Seconds until an outcome that was not stored is tried again: the wait doubles from one to the other."""

_NO_TURN = Failure("telegram_unavailable", "Telegram's limits did not let this through before it expired.")


@dataclass(slots=True)
class Outcomes:
    """Every way in which a try to send can end: done, refused, to be repeated, or not known.

    Attributes:
        alarm: tells the timekeeper that something comes due at this time.
        finished: the tasks that became final in this process, by kind and state.
    """

    store: TaskStore
    formatter: Formatter
    waker: Waker
    drafter: Drafter
    chats: ChatBook
    closer: Closer
    errands: Errands
    alarm: Callable[[datetime], None] = lambda _at: None
    finished: Counts = field(default_factory=lambda: Counts(dict.fromkeys(_ENDS, 0)))

    def ended(self, task: Task) -> None:
        """Tell whoever waits that a task is final, and make a question's message show it."""
        self.finished.count(task.kind.value, task.state.value)
        self.waker.hint([task.id])
        if task.state in DECIDED_STATES and not task.closed:
            self.closer.close(task)

    def stepped(self, task: Task) -> None:
        """Tell whoever follows a task that it has made a step that is not its last."""
        self.waker.hint_step((task.id,))

    async def not_reached(self, task: Task, error: NotReached) -> None:
        """Nothing was done for certain, so it is tried again: as soon as Telegram allows."""
        if error.retry_after is None:
            attempts = task.attempts + 1
            await self.again(task, error.failure, _pause(attempts), attempts)
            return
        now = self.drafter.clock.now()
        await self._insist(task, partial(self.chats.pause, task.chat.id, now, error.retry_after))
        end = await self.chats.pause_end(task.chat.id, now) or now
        await self.again(task, error.failure, (end - now).total_seconds(), task.attempts)

    async def rejected(self, task: Task, failure: Failure) -> None:
        """Telegram refuses it; when nobody can be reached there, it need not be asked for a while."""
        if failure.code == "recipient_unreachable":
            now = self.drafter.clock.now()
            await self._insist(task, partial(self.chats.unreachable, task.chat.id, now, failure))
        await self.refuse(task, failure)

    async def refuse(self, task: Task, failure: Failure) -> None:
        """It was not done now; when an earlier try may have done it, nobody knows."""
        doubt = task.error if task.in_doubt else None

        def judge(current: Task, now: datetime) -> Task:
            return self.failed(current, now, failure) if doubt is None else current.unknown(now, doubt)

        await self.settle(task, judge)

    def failed(self, task: Task, now: datetime, failure: Failure) -> Task:
        """It has failed; when some of its parts stand in the chat already, its error tells so."""
        if not task.message_ids:
            return task.failed(now, failure)
        parts = parts_of(task, self.formatter, self.drafter.identity.keys[-1])
        detail = f"{failure.detail} {standing_text(task, len(parts))}"
        return task.failed(now, replace(failure, detail=detail))

    async def unclear(self, task: Task, error: Unclear) -> None:
        """Telegram may have done it: what may be repeated is, a few times."""
        failure = Failure(error.code, error.detail)
        before = task.attempts if task.in_doubt else 0
        if task.may_be_repeated and before < UNCLEAR_TRIES:
            await self.again_in_doubt(task, failure, _pause(before + 1), before + 1)
        else:
            await self.settle(task, lambda current, now: current.unknown(now, failure))

    async def again_in_doubt(self, task: Task, failure: Failure, pause: float, attempts: int) -> None:
        """It stays `sending` until its next try: it may stand in the chat already, and an answer counts."""
        again = self.drafter.clock.now() + timedelta(seconds=pause)
        if again >= task.expires_at:
            await self.settle(task, over)
            return
        lease = Lease(self.drafter.identity.holder, again)

        def judge(current: Task) -> Change | None:
            tried = current.unclear(failure, attempts, lease)
            return Change(tried, "unclear") if self.is_ours(current) else None

        current = await self.record(task, judge)
        self.stepped(task if current is None else current)
        self.alarm(again)

    async def again(self, task: Task, failure: Failure | None, pause: float, attempts: int) -> None:
        """It goes back to the queue.

        Args:
            task: in this process's hands.
            failure: why; None when nothing has gone wrong.
            pause: seconds until its next try.
            attempts: how often it was tried in vain.
        """
        if task.in_doubt and task.error is not None:
            await self.again_in_doubt(task, task.error, pause, attempts)
            return
        not_before = self.drafter.clock.now() + timedelta(seconds=pause)

        def judge(current: Task, now: datetime) -> Task:
            if not_before >= current.expires_at:
                return self.failed(current, now, failure or _NO_TURN)
            return current.queued_again(now, failure, not_before, attempts)

        await self.settle(task, judge)
        self.alarm(not_before)

    async def settle(
        self, task: Task, step: Callable[[Task, datetime], Task], shown: bytes | None = None
    ) -> None:
        """Store a step of a task that is still this process's, and tell it.

        Args:
            task: as it was when it was tried.
            step: makes the step, from the row and the time.
            shown: the fingerprint of what people can see now.
        """
        now = self.drafter.clock.now()

        def judge(current: Task) -> Change | None:
            # An answer may have come meanwhile, or another process may have taken over: then theirs counts.
            return Change.to_state(step(current, now), shown=shown) if self.is_ours(current) else None

        current = await self.record(task, judge)
        if current is not None:
            self.tell(current)

    async def record(self, task: Task, judge: Callable[[Task], Change | None]) -> Task | None:
        """Store what came of a try, and try again while the database is away: nobody else knows it.

        Takes and returns what `core.ports.TaskStore.advance` does.

        Raises:
            StorageUnavailable: the process is ending and cannot wait.
        """
        return await self._insist(task, lambda: self.store.advance(task, judge))

    async def _insist(self, task: Task, store: Callable[[], Awaitable[T]]) -> T:
        pause = STORE_AGAIN
        while True:
            try:
                return await store()
            except StorageUnavailable as error:
                if self.errands.stopping:
                    raise
                if pause == STORE_AGAIN:
                    log.warning(
                        "What came of a task could not be stored yet; it is tried again: %s",
                        error.detail,
                        extra={"action": "store_failed", "task": task.id},
                    )
            await asyncio.sleep(pause)
            pause = min(2 * pause, STORE_AGAIN_LATER)

    def tell(self, task: Task) -> None:
        """Tell whoever is concerned that a task has come to where its row is now."""
        if task.final:
            self.ended(task)
            return
        self.stepped(task)
        if task.kind is TaskKind.QUESTION:
            self.alarm(task.expires_at)

    def is_ours(self, task: Task) -> bool:
        """Whether this process still has the task in its hands, as far as the row tells."""
        holder = None if task.lease is None else task.lease.holder
        return task.state is TaskState.SENDING and holder == self.drafter.identity.holder


_PERFORMED = (TaskKind.MESSAGE, TaskKind.QUESTION, TaskKind.EDIT, TaskKind.DELETION)
_ENDS: list[tuple[str, ...]] = [
    (kind.value, state.value)
    for kind in _PERFORMED
    for state in (
        *sorted(DECIDED_STATES if kind is TaskKind.QUESTION else {TaskState.SENT}),
        TaskState.FAILED,
        TaskState.UNKNOWN,
    )
]


def over(task: Task, now: datetime) -> Task:
    """What becomes of a task whose time is over, and of which nobody knows whether it was delivered."""
    return task.expired(now) if task.is_question else task.unknown(now, doubt_of(task))


def doubt_of(task: Task) -> Failure:
    """Why nobody knows whether it was delivered; that an earlier try certainly did not is no reason."""
    return task.error if task.error is not None and task.in_doubt else LOST


def _pause(attempts: int) -> float:
    return min(LONGEST_PAUSE, 2.0 ** min(attempts - 1, 6))
