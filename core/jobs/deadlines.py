"""What comes due by the clock: tries again, leftovers of dead processes, questions nobody answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from core.jobs.outcomes import Outcomes, over
from core.jobs.sending import Sender
from core.model.errors import StorageUnavailable
from core.model.task import Change, Failure, Lease, Task, TaskState
from core.ports import SENDING_GRACE, Clock, DeadlineStore, TaskStore
from core.services.factory import LEASE

T = TypeVar("T")

log = logging.getLogger("telegate.deadlines")

LONGEST_NAP = 5.0
"""Seconds: so often the database is asked at the least, since another process may have added a deadline."""

NAP_BESIDE_QUEUE = 1.0
"""Seconds, while tasks are queued: one may wait for another that is in another process's hands."""

SHORTEST_NAP = timedelta(milliseconds=20)
"""What is due and cannot be done now must not keep the process busy."""

BATCH = 100
"""How many due tasks are taken at once, so that one process does not take what two could share."""

FORGET_EVERY = 3600.0
"""Seconds between two rounds of deleting what is old."""

RESUME_EVERY = timedelta(seconds=5)
FORGOTTEN = LEASE - timedelta(seconds=10)
"""What this process took ten seconds ago has this much of its lease left. It is in its hands or forgotten."""

CLOSE_AFTER = timedelta(seconds=10)
"""A decided question whose message does not show it after this time was left by a dead process."""


@dataclass(slots=True)
class Timekeeper:
    """Works off what is due: at start, when something comes due, and whenever it is told to."""

    tasks: TaskStore
    deadlines: DeadlineStore
    sender: Sender
    _alarm: asyncio.Event = field(default_factory=asyncio.Event)
    _soonest: datetime | None = None
    _resume_at: datetime | None = None
    _failing: bool = False

    def remember(self, at: datetime) -> None:
        """Something comes due at this time."""
        if self._soonest is None or at < self._soonest:
            self._soonest = at
            self._alarm.set()

    async def run(self) -> None:
        """Work off what is due, for as long as the process lives."""
        while True:
            # What is remembered from here on may be missing in what the database is about to tell.
            self._soonest = None
            try:
                await self.sweep()
                due = await self._next_time()
            except StorageUnavailable as error:
                self._tell(error)
                due = self._now() + timedelta(seconds=1)
            else:
                self._tell(None)
            self.remember(due)
            await self._sleep()

    def _tell(self, trouble: StorageUnavailable | None) -> None:
        """Tell when it begins and when it is over, not each second."""
        if (trouble is not None) == self._failing:
            return
        self._failing = trouble is not None
        if trouble is None:
            log.info("Deadlines are looked at again.", extra={"action": "sweep_well"})
        else:
            log.warning(
                "Deadlines could not be looked at: %s", trouble.detail, extra={"action": "sweep_failed"}
            )

    async def sweep(self) -> int:
        """Do everything that is due now; returns how many things were done."""
        done = 0
        more = True
        while more:
            some, more = await _uninterrupted(self._sweep_once())
            done += some
        return done

    async def _sweep_once(self) -> tuple[int, bool]:
        """Take one batch of each kind; returns how much was done, and whether there may be more."""
        now = self._now()
        lease = self.sender.drafter.lease(now)
        abandoned = await self.deadlines.abandoned(now, lease, BATCH)
        for task in abandoned:
            self.sender.recover(task)
        await self._resume(now)
        overdue = await self.deadlines.overdue(now, BATCH)
        ended = [task_id for task_id in overdue if await self._end(task_id)]
        queued = await self._claim(now, lease)
        # Those that rest are told, too, and must not stand before the others.
        closer = self.sender.closer
        for task in await self.deadlines.unclosed(now - CLOSE_AFTER, BATCH + closer.resting):
            closer.close(task)
        full = BATCH in {len(abandoned), len(ended)}
        return len(abandoned) + len(ended) + queued, full

    async def _resume(self, now: datetime) -> None:
        """Find what this process holds and does not know of: the answer of the database got lost."""
        if self._resume_at is not None and now < self._resume_at:
            return
        self._resume_at = now + RESUME_EVERY
        for task in await self.deadlines.held(self.sender.drafter.identity.holder, now + FORGOTTEN, BATCH):
            self.sender.resume(task)

    async def _claim(self, now: datetime, lease: Lease) -> int:
        """Take as much from the queue as there is room for; returns how much that was."""
        room = 0 if self.sender.errands.stopping else self.sender.pacer.room
        queued = await self.deadlines.claim(now, lease, room) if room else []
        for task in queued:
            self.sender.begin_claimed(task)
        self.sender.starved = len(queued) == room
        self.sender.backlog.replace(await self.deadlines.waiting())
        return len(queued)

    async def _end(self, task_id: str) -> bool:
        """End a task whose time is over; whether that was still to be done."""
        now = self._now()
        is_due = False

        def judge(task: Task) -> Change | None:
            nonlocal is_due
            change = _end_of(task, now, self.sender.outcomes)
            is_due = change is not None
            return change

        task = await self.tasks.amend(task_id, judge)
        if task is not None and is_due:
            self.sender.outcomes.ended(task)
        return is_due

    async def _next_time(self) -> datetime:
        now = self._now()
        waiting = self.sender.backlog.size
        latest = now + timedelta(seconds=NAP_BESIDE_QUEUE if waiting else LONGEST_NAP)
        if self.sender.starved:
            # What is due cannot be done now; the sender tells as soon as it can.
            return latest
        due = await self.deadlines.next_deadline()
        return latest if due is None else max(now + SHORTEST_NAP, min(due, latest))

    async def _sleep(self) -> None:
        while self._soonest is not None:
            self._alarm.clear()
            # A clock that was put back must not keep it asleep.
            left = min((self._soonest - self._now()).total_seconds(), LONGEST_NAP)
            if left <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    await self._alarm.wait()
            except TimeoutError:
                return

    def _now(self) -> datetime:
        return self.sender.drafter.clock.now()


async def _uninterrupted(work: Coroutine[object, object, T]) -> T:
    """Await it, and on cancellation still let it end: what was taken from the database must be begun."""
    running = asyncio.ensure_future(work)
    called_away: asyncio.CancelledError | None = None
    while not running.done():
        try:
            # Not `shield`: whoever is impatient cancels more than once.
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            called_away = error
    if called_away is not None:
        running.exception()
        raise called_away
    return running.result()


def _end_of(task: Task, now: datetime, outcomes: Outcomes) -> Change | None:
    if task.expires_at > now:
        return None
    if task.state is TaskState.SENDING and task.expires_at <= now - SENDING_GRACE:
        # Whoever sends it may be gone, or wait for Telegram; what comes of it later is still believed.
        return Change.to_state(over(task, now))
    if task.state is TaskState.ASKED:
        return Change.to_state(task.expired(now))
    if task.state is TaskState.QUEUED:
        return Change.to_state(outcomes.failed(task, now, task.error or _NEVER_SENT))
    return None


_NEVER_SENT = Failure("telegram_unavailable", "Telegram could not be reached before the task expired.")


async def forget_finished(deadlines: DeadlineStore, clock: Clock, keep: timedelta) -> None:
    """Delete finished tasks once they are old enough, now and every hour, until cancelled.

    Args:
        deadlines: where the rows are.
        clock: tells the time.
        keep: how long a finished task can still be looked at.
    """
    while True:
        try:
            await forget_old(deadlines, clock.now(), keep)
        except StorageUnavailable as error:
            log.warning("Old tasks could not be deleted: %s", error.detail, extra={"action": "forget_failed"})
        await asyncio.sleep(FORGET_EVERY)


async def forget_old(deadlines: DeadlineStore, now: datetime, keep: timedelta) -> int:
    """Delete the finished tasks that are old enough now; returns how many went."""
    gone = 0
    more = True
    while more:
        some = await deadlines.forget(now, now - keep, BATCH)
        gone += some
        more = some == BATCH
    return gone
