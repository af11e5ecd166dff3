"""The runner: runs jobs that this process holds, one attempt each, and stores what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from core.jobs.alarm import Alarm
from core.jobs.background import BackgroundTasks, current_task
from core.jobs.limits import Limits, Slot
from core.metrics import Counter
from core.model.effect import Committed, Decision
from core.model.errors import LeaseLost, StorageUnavailable
from core.model.failure import BUG, EXPIRED, HELD, LOST, NO_TURN, STOPPED, Failure
from core.model.job import EXPIRY_GRACE, Done, Job, Lane, Later, Lease, Outcome, Priority, Refused, Unclear
from core.model.retry import RetryPolicy
from core.model.task import Task, TaskKind
from core.model.transition import TaskState
from core.ports import Clock, JobStore, Kind, Notifier

T = TypeVar("T")

log = logging.getLogger("telegate.jobs")

LEASE: Final = timedelta(seconds=30)
"""How long a job is this process's without being renewed: Telegram's 20 s limit for a call, and some."""

RENEW_EVERY: Final = timedelta(seconds=10)

FORGOTTEN: Final = timedelta(seconds=15)
"""With no more than this left of its lease, a job of this process was not renewed: it is lost."""

SURE: Final = timedelta(seconds=20)
"""With this much left of its lease, a job is certainly still this process's."""

BATCH: Final = 100
"""How many jobs are claimed at once, so that one process does not take what two could share."""

STORING: Final = RetryPolicy(first=0.25, longest=2.0)
"""An outcome that could not be stored is nobody else's to know: it is stored as soon as that can be."""

_ENDS: Final = tuple(
    (kind.value, state.value)
    for kind, successes in {
        TaskKind.MESSAGE: (TaskState.SENT,),
        TaskKind.QUESTION: (TaskState.ANSWERED, TaskState.EXPIRED, TaskState.CANCELLED),
        TaskKind.EDIT: (TaskState.SENT,),
        TaskKind.DELETION: (TaskState.SENT,),
    }.items()
    for state in (*successes, TaskState.FAILED, TaskState.UNKNOWN)
)
"""How tasks can end: each way is counted from the start."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at a job that this process holds; what the job's handler sees is `core.ports.Run`.

    Attributes:
        slot: was reserved for it until it queues for its turn.
        calling: whether its handler has been called, so that it may have been done.
        lost: whether another process has the job now.
    """

    runner: Runner
    job: Job
    task: Task | None
    slot: Slot | None = None
    calling: bool = False
    lost: bool = False

    async def record(self, decide: Decision) -> Task:
        """See `core.ports.Run.record`."""
        lease = self.runner.lease()
        committed = await self.runner.insist(
            self.job, lambda: self.runner.store.record(self.job, self.task, decide, lease)
        )
        self.runner.follow(committed)
        if committed.lease_lost or self.job.lease is None:
            raise LeaseLost
        self.job = self.job.leased(replace(lease, epoch=self.job.lease.epoch))
        self.task = committed.rows[self.job.subject]
        return self.task

    async def turn(self) -> None:
        """See `core.ports.Run.turn`."""
        limits = self.runner.limits.get(self.job.queue)
        lane = self.job.lane
        if limits is not None and lane is not None:
            if (rest := limits.rate.delay(lane.name)) > 0:
                await asyncio.sleep(rest)
            await limits.rate.turn(lane.name, self.job.service, self.job.priority)

    def moved(self, lane: str) -> None:
        """See `core.ports.Run.moved`."""
        if self.job.lane is not None:
            self.job = replace(self.job, lane=replace(self.job.lane, name=lane))


@dataclass(slots=True)
class Runner:
    """Runs the jobs that this process holds: waits for their turns, calls handlers, stores outcomes.

    Attributes:
        kinds: the handlers, by the names that jobs have.
        limits: what the jobs of a queue wait for; a queue that is not named waits for nothing.
        alarm: is set to when something comes due.
        holder: this process, in leases.
        finished: the tasks that became final in this process, by kind and state.
        starved: the queues in which more was due than could be claimed.
    """

    store: JobStore
    kinds: Mapping[str, Kind]
    limits: Mapping[str, Limits]
    notifier: Notifier
    clock: Clock
    alarm: Alarm
    holder: str
    background: BackgroundTasks = field(default_factory=BackgroundTasks)
    finished: Counter = field(default_factory=lambda: Counter(dict.fromkeys(_ENDS, 0)))
    starved: set[str] = field(default_factory=set)
    _running: dict[int, Attempt] = field(default_factory=dict)
    _followed: set[tuple[str, str]] = field(default_factory=set)

    @property
    def stopping(self) -> bool:
        """Whether nothing new is to be begun."""
        return self.background.stopping

    def lease(self) -> Lease:
        """This process's right to run a job, from now on."""
        return Lease(self.holder, self.clock.now() + LEASE)

    # Beginning

    def follow(self, committed: Committed, slot: Slot | None = None) -> None:
        """Do what a commit has caused: tell whoever waits, begin the jobs. To be called after each commit.

        Args:
            committed: what was stored.
            slot: was reserved for the first of its jobs.
        """
        for change in committed.effect.changes:
            if change.ends_task:
                self.finished.count(change.task.kind.value, change.task.state.value)
        if committed.effect.changes:
            self.notifier.hint([change.task.id for change in committed.effect.changes])
        if committed.jobs:
            for job in committed.jobs:
                if job.lease is not None:
                    self.begin(job, committed.rows.get(job.subject), slot)
                    slot = None
                else:
                    self._wait_for(job)

    def _wait_for(self, job: Job) -> None:
        """A job waits in the database, perhaps for one that another process runs."""
        now = self.clock.now()
        if job.run_at > now:
            self.alarm.set(job.run_at)
            return
        limits = self.limits.get(job.queue)
        if limits is not None:
            limits.backlog.add(job.service)
        if job.lane is not None:
            self._followed.add((job.queue, job.lane.name))
        self.alarm.set(now + timedelta(seconds=1))

    def begin(self, job: Job, task: Task | None, slot: Slot | None = None) -> None:
        """Run a job that this process holds."""
        running = self._running.get(job.id)
        if running is not None and not self._is_over(job):
            # It could not be renewed for a while, and was claimed anew by this very process.
            running.job, running.lost = job, False
            return
        if running is not None:
            # It hangs in a call although its time is over: it is given up beside that.
            job = replace(job, in_doubt=running.calling or running.job.in_doubt)
            running.lost = True
        attempt = Attempt(self, job, task, slot and slot.handed_on())
        self._running[job.id] = attempt
        self.background.start(self.run(attempt))

    def begin_claimed(self, job: Job, task: Task | None) -> None:
        """Run a job that was claimed from the database; others may wait behind it in its lane."""
        if job.kind not in self.kinds:
            # A newer version's, taken to be given up: that version does it when this lease has run out.
            return
        if job.lane is not None:
            self._followed.add((job.queue, job.lane.name))
        if task is not None:
            self.notifier.hint([task.id])
        self.begin(job, task)

    def claimed(self, job: Job, task: Task | None, at: datetime) -> Decision:
        """What claiming a job changes. Pure."""
        del task
        return self.kinds[job.kind].claimed(job, at)

    # One job

    async def run(self, attempt: Attempt) -> None:
        """Run a job from its turn to its stored outcome, and begin what waits behind it."""
        current_task.set(None if attempt.task is None else attempt.task.id)
        kind = self.kinds[attempt.job.kind]
        try:
            outcome = await self._attempt(attempt, kind)
            try:
                await self._store(attempt, kind, outcome)
            except (LeaseLost, StorageUnavailable):
                raise
            except Exception:
                # It must not be found as a job that this process has forgotten, and be done again.
                log.exception("Unhandled exception in a job.", extra=_about(attempt.job, "bug"))
                await self._store(attempt, kind, Unclear(BUG))
        except LeaseLost:
            log.info("Another process has taken this job over.", extra=_about(attempt.job, "lease_lost"))
        except asyncio.CancelledError:
            # `stop` hands back what is still running.
            raise
        except BaseException:
            self._forget(attempt)
            raise
        finally:
            if attempt.slot is not None:
                attempt.slot.give_back()
        self._forget(attempt)
        await self._begin_next(attempt.job)

    def _forget(self, attempt: Attempt) -> None:
        if self._running.get(attempt.job.id) is attempt:
            del self._running[attempt.job.id]

    def _is_over(self, job: Job) -> bool:
        return job.expires_at is not None and job.expires_at <= self.clock.now()

    async def _attempt(self, attempt: Attempt, kind: Kind) -> Outcome:
        """Wait for the job's turn, and call its handler."""
        job = attempt.job
        if self._is_over(job):
            return Refused(EXPIRED)
        if job.in_doubt and not self._may_repeat(job, attempt.task, kind):
            return Refused(LOST)
        if self.stopping and job.priority is not Priority.URGENT:
            return Later(STOPPED, after=0.0, counts=False)
        limits = self.limits.get(job.queue)
        if limits is not None:
            again = await limits.turn(job, attempt.slot)
            if again is not None:
                now = self.clock.now()
                if self._is_over(job):
                    return Refused(NO_TURN)
                held = HELD if limits.holds.is_held(job) else None
                return Later(held, after=max(0.0, (again - now).total_seconds()), counts=False)
        if not await self._is_ours(attempt):
            raise LeaseLost
        attempt.calling = True
        try:
            return await kind.run(attempt)
        except (LeaseLost, asyncio.CancelledError):
            raise
        except StorageUnavailable as error:
            if self.stopping:
                return Unclear(LOST)
            # Handlers only read before they call anybody; what they store in between is insisted upon.
            log.warning("The job cannot run now: %s", error.detail, extra=_about(job, "store_failed"))
            return Later(None, after=1.0, counts=False)
        except Exception:
            log.exception("Unhandled exception in a job.", extra=_about(job, "bug"))
            return Unclear(BUG)

    async def _is_ours(self, attempt: Attempt) -> bool:
        """Whether nobody takes the job during the next call; the process may have been frozen until now."""
        lease = attempt.job.lease
        if attempt.lost or lease is None:
            return False
        now = self.clock.now()
        if lease.until - now >= SURE:
            return True
        until = now + LEASE
        renewed = await self.insist(attempt.job, lambda: self.store.renew([attempt.job], until))
        attempt.job = attempt.job.leased(replace(lease, until=until))
        return attempt.job.id in renewed

    def _may_repeat(self, job: Job, task: Task | None, kind: Kind) -> bool:
        return kind.repeats(task) and kind.retry.repeats_unclear(job.attempts - 1)

    async def _store(self, attempt: Attempt, kind: Kind, outcome: Outcome) -> None:
        job = attempt.job
        match outcome:
            case Done(decide, proof):
                await self._complete(attempt, decide, proof=proof)
            case Refused(why):
                await self._give_up(attempt, kind, why)
            case Later(why, after, counts, hold):
                attempts = job.attempts + counts
                wait = kind.retry.delay(attempts) if after is None else after
                if wait is None:
                    await self._give_up(attempt, kind, why or NO_TURN)
                    return
                again = self.clock.now() + timedelta(seconds=wait)
                if hold and job.lane is not None:
                    again = await self._hold(job, job.lane, again)
                waiting = replace(job, run_at=again, attempts=attempts)
                await self._retry(attempt, kind, waiting, why)
            case Unclear(why):
                tried = job.attempts if job.in_doubt else 0
                wait = kind.retry.delay(tried + 1)
                if wait is None or not kind.repeats(attempt.task) or not kind.retry.repeats_unclear(tried):
                    await self._give_up(attempt, kind, why)
                    return
                again = self.clock.now() + timedelta(seconds=wait)
                waiting = replace(job, run_at=again, attempts=tried + 1, in_doubt=True)
                await self._retry(attempt, kind, waiting, why)

    async def _hold(self, job: Job, lane: Lane, until: datetime) -> datetime:
        """Let the whole lane wait, in every process; returns when the job may be tried again."""
        now = self.clock.now()
        limits = self.limits.get(job.queue)
        if limits is not None:
            seconds = (until - now).total_seconds()
            return await self.insist(job, lambda: limits.holds.hold(lane.name, seconds))
        await self.insist(job, lambda: self.store.hold(job.queue, lane.name, now, until))
        return until

    async def _complete(self, attempt: Attempt, decide: Decision, *, proof: bool = False) -> None:
        lease = self.lease()
        committed = await self.insist(
            attempt.job,
            lambda: self.store.complete(attempt.job, attempt.task, decide, lease=lease, proof=proof),
        )
        if committed is None:
            raise LeaseLost
        self.follow(committed)

    async def _give_up(self, attempt: Attempt, kind: Kind, why: Failure) -> None:
        log.info("Job given up: %s", why.detail, extra=_about(attempt.job, "job_given_up"))
        await self._complete(attempt, kind.give_up(attempt.job, why, self.clock.now()))

    async def _retry(self, attempt: Attempt, kind: Kind, waiting: Job, why: Failure | None) -> None:
        # What is in doubt is not over before its time is: it may stand in the chat, and be answered there.
        too_late = waiting.expires_at is not None and waiting.run_at >= waiting.expires_at
        if too_late and not waiting.in_doubt:
            await self._give_up(attempt, kind, why or NO_TURN)
            return
        decide = kind.waits(waiting, why, self.clock.now())
        committed = await self.insist(attempt.job, lambda: self.store.retry(waiting, attempt.task, decide))
        if committed is None:
            raise LeaseLost
        self.follow(committed)
        self.alarm.set(waiting.run_at)

    async def insist(self, job: Job, store: Callable[[], Awaitable[T]]) -> T:
        """Store what came of a job, and try again while the database is away: nobody else knows it.

        Raises:
            StorageUnavailable: the process is ending and cannot wait.
        """
        attempts = 0
        while True:
            try:
                stored = await store()
            except StorageUnavailable as error:
                if self.stopping:
                    raise
                attempts += 1
                if attempts == 1:
                    log.warning(
                        "The outcome of a job cannot be stored yet; retrying: %s",
                        error.detail,
                        extra=_about(job, "store_failed"),
                    )
            else:
                if attempts > 0 and job.subject:
                    # It may have been stored the time before, when only the answer got lost.
                    self.notifier.hint([job.subject])
                return stored
            await asyncio.sleep(STORING.delay(attempts) or 0.0)

    async def _begin_next(self, job: Job) -> None:
        """Begin what waits behind a job in its lane, and whatever else there is room for now."""
        if self.stopping:
            return
        now = self.clock.now()
        lane = None if job.overtakes else job.lane
        if lane is not None and (job.queue, lane.name) in self._followed:
            lease = Lease(self.holder, now + LEASE)
            following = await self.store.claim_next(
                job.queue, lane.name, now, lease, lambda found, task: self.claimed(found, task, now)
            )
            if following is None:
                self._followed.discard((job.queue, lane.name))
            else:
                self.begin_claimed(*following)
        limits = self.limits.get(job.queue)
        if job.queue in self.starved and (limits is None or limits.rate.has_much_room):
            self.starved.discard(job.queue)
            self.alarm.set(now)

    # Leases, and the end

    async def renew(self) -> None:
        """Make the leases of the jobs in hand longer; whoever has lost one finds out.

        What hangs although its time is over is to be given up, by whichever process.

        Raises:
            StorageUnavailable: they could not be renewed; they run out if that goes on.
        """
        attempts = [attempt for attempt in self._running.values() if not self._is_over(attempt.job)]
        if not attempts:
            return
        until = self.clock.now() + LEASE
        renewed = await self.store.renew([attempt.job for attempt in attempts], until)
        for attempt in attempts:
            if attempt.job.lease is not None and attempt.job.id in renewed:
                attempt.job = attempt.job.leased(replace(attempt.job.lease, until=until))
            elif self._running.get(attempt.job.id) is attempt:
                attempt.lost = True

    def next_expiry(self, now: datetime) -> datetime | None:
        """When the next job in hand is to be given up although its call has not ended; None when none is."""
        ends = (attempt.job.expires_at for attempt in self._running.values())
        return min(
            (end + EXPIRY_GRACE for end in ends if end is not None and end + EXPIRY_GRACE > now), default=None
        )

    async def stop(self, grace: float) -> None:
        """Begin nothing more, let what is running end for at most `grace` seconds, then let go of it.

        What was not begun goes back to the queue; what was begun and has no outcome yet is unclear.
        """
        await self.background.stop(grace)
        left, self._running = list(self._running.values()), {}
        await asyncio.gather(*(self._let_go(attempt) for attempt in left))

    async def _let_go(self, attempt: Attempt) -> None:
        job, kind = attempt.job, self.kinds[attempt.job.kind]
        now = self.clock.now()
        try:
            if not attempt.calling:
                await self._retry(attempt, kind, replace(job, run_at=now), STOPPED)
            elif kind.repeats(attempt.task):
                await self._retry(attempt, kind, replace(job, run_at=now, in_doubt=True), LOST)
            else:
                await self._give_up(attempt, kind, LOST)
        except LeaseLost:
            log.info("Another process has taken this job over.", extra=_about(job, "lease_lost"))
        except StorageUnavailable as error:
            log.warning(
                "The job could not be handed back; another process takes it when its lease ends: %s",
                error.detail,
                extra=_about(job, "store_failed"),
            )


def _about(job: Job, action: str) -> Mapping[str, object]:
    return {"action": action, "kind": job.kind, "subject": job.subject, "attempts": job.attempts}
