"""The scheduler: sleeps until something comes due, then claims it for this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from core.incident import Incident
from core.jobs.alarm import Alarm
from core.jobs.runner import BATCH, FORGOTTEN, LEASE, RENEW_EVERY, Runner
from core.model.errors import StorageUnavailable
from core.model.job import Job, Lease
from core.model.task import Task
from core.ports import Clock, JobStore

T = TypeVar("T")

log = logging.getLogger("telegate.jobs")

LONGEST_SLEEP: Final = timedelta(seconds=5)
"""So often the database is asked at the least, since another process may have stored a job."""

SLEEP_BESIDE_BACKLOG: Final = timedelta(seconds=1)
"""While jobs wait: one may wait for another that is in another process's hands."""

SHORTEST_SLEEP: Final = timedelta(milliseconds=20)
"""What is due and cannot run now must not keep the process busy."""

LONGEST_SWEEP: Final = 20.0
"""Seconds that a sweep waits for Telegram: as long as one call may take. Routers give up after thirty."""

_LOOK_UP: Final = 0.25
"""Seconds after which a sweep that waits looks whether the process is ending."""

_QUIET_ROUNDS: Final = 2


@dataclass(slots=True)
class Scheduler:
    """Claims what is due: at start, when the alarm rings, and whenever it is told to.

    Attributes:
        queues: are claimed from, in this order.
        recurring: jobs that must be stored once, and then store their next ones themselves.
    """

    store: JobStore
    runner: Runner
    alarm: Alarm
    clock: Clock
    queues: Sequence[str]
    recurring: Sequence[Callable[[datetime], Job]] = ()
    _renewed_at: datetime | None = None
    _planned: bool = False
    _incident: Incident = field(default_factory=lambda: Incident(log))

    async def run(self) -> None:
        """Claim what is due, for as long as the process lives."""
        while True:
            # What is set from here on may be missing in what the database is about to tell.
            self.alarm.clear()
            try:
                await self.claim_due()
                due = await self._next_due()
            except StorageUnavailable as error:
                self._incident.begin(
                    "Scheduler stopped: the database is unavailable: %s", error.detail, action="sweep_failed"
                )
                due = self.clock.now() + timedelta(seconds=1)
            else:
                self._incident.end("Scheduler recovered.", action="sweep_well")
            self.alarm.set(due)
            await self.alarm.wait()

    async def claim_due(self) -> int:
        """Claim everything that is due now; returns how many jobs that were, housekeeping not counted."""
        if not self._planned:
            now = self.clock.now()
            await self.store.put([make(now) for make in self.recurring])
            self._planned = True
        claimed = 0
        while True:
            some, more = await _uninterrupted(self._claim_batch())
            claimed += some
            if not more:
                return claimed

    async def _claim_batch(self) -> tuple[int, bool]:
        """Claim one batch of each queue; returns how much that was, and whether there may be more."""
        now = self.clock.now()
        runner = self.runner
        # Before the last time: the clock was put back.
        if self._renewed_at is None or not self._renewed_at <= now < self._renewed_at + RENEW_EVERY:
            await runner.renew()
            self._renewed_at = now
        lease = Lease(runner.holder, now + LEASE)
        expired = await self.store.claim_expired(now, lease, BATCH)
        for job, task in expired:
            runner.begin_claimed(job, task)
        claimed, more = len(expired), len(expired) == BATCH
        for queue in self.queues:
            limits = runner.limits.get(queue)
            room = BATCH if limits is None else min(BATCH, limits.rate.room)
            due: Sequence[tuple[Job, Task | None]] = ()
            if room and not runner.stopping:
                due = await self.store.claim(
                    queue, now, lease, room, lambda job, task: runner.claimed(job, task, now), now + FORGOTTEN
                )
            for job, task in due:
                runner.begin_claimed(job, task)
            claimed += sum(bool(job.subject) for job, _ in due)
            if limits is None:
                more = more or len(due) == BATCH
            else:
                if len(due) == room:
                    runner.starved.add(queue)
                limits.backlog.replace(await self.store.waiting(queue))
        return claimed, more

    async def _next_due(self) -> datetime:
        now = self.clock.now()
        backlog = any(limits.backlog.size for limits in self.runner.limits.values())
        latest = now + (SLEEP_BESIDE_BACKLOG if backlog else LONGEST_SLEEP)
        if self.runner.starved:
            # What is due cannot run now; the runner rings as soon as it can.
            return latest
        times = (latest, await self.store.next_due(now), self.runner.next_expiry(now))
        return max(now + SHORTEST_SLEEP, min(time for time in times if time is not None))

    async def sweep(self, patience: float = LONGEST_SWEEP) -> int:
        """Run what is due until nothing is: afterwards the process may be frozen, or end.

        Two at once, here or in two processes, share the work: nothing is done twice.

        Args:
            patience: seconds that may pass until Telegram has taken all of it; the rest goes on, or is taken
                up by the next process.

        Returns:
            How many jobs were due, and were not claimed by anybody else.

        Raises:
            StorageUnavailable: the database cannot tell what is due.
        """
        give_up_at = asyncio.get_running_loop().time() + patience
        done = quiet = 0
        # Twice, because what ends may cause something else: an expired question is finalized, for example.
        while quiet < _QUIET_ROUNDS:
            some = await self.claim_due()
            done += some
            quiet = quiet + 1 if some == 0 else 0
            if not await self._wait(give_up_at, self.runner.background.running):
                break
        return done

    async def take_over(self) -> None:
        """End the leases of the process before this one, so that its jobs are claimed at once: it is gone.

        Only for a process that has the database for itself, and before it begins anything of its own. Should
        the machine's clock have been put back since, the leases would last for as long as it was wrong.
        """
        try:
            await self.store.break_leases(self.clock.now())
        except StorageUnavailable as error:
            log.warning(
                "The jobs of the process before this one are claimed when their leases have run out: %s",
                error.detail,
                extra={"action": "not_inherited"},
            )

    async def _wait(self, give_up_at: float, work: Collection[asyncio.Task[Any]]) -> bool:
        """Wait until all this work is done; whether that came in time."""
        loop = asyncio.get_running_loop()
        running = set(work)
        while running:
            left = give_up_at - loop.time()
            if left <= 0 or self.runner.stopping:
                return False
            _, running = await asyncio.wait(running, timeout=min(left, _LOOK_UP))
        return True


async def _uninterrupted(work: Coroutine[object, object, T]) -> T:
    """Await it, and on cancellation still let it end: what was claimed from the database must be begun."""
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
