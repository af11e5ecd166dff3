"""Expiring: a question that nobody answered in time is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from core.jobs.kinds.finalize import decided
from core.jobs.kinds.quiet import Quiet
from core.model.effect import NOTHING, Effect
from core.model.failure import EXPIRED
from core.model.job import EXPIRY_GRACE, TIMERS, Done, Job, Later, Outcome
from core.model.retry import RetryPolicy
from core.model.task import Change, Task
from core.model.transition import TaskState
from core.ports import Clock, Run


def expire_job(task: Task) -> Job:
    """The job that ends a new question when its time is over."""
    return Job("expire", TIMERS, task.id, run_at=task.expires_at, service=task.service)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire(Quiet):
    """Ends a question whose time is over."""

    name: ClassVar[str] = "expire"
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=1.0, longest=60.0, unclear_tries=None)

    clock: Clock

    async def run(self, run: Run) -> Outcome:
        """End the question; one that is being sent just now gets a moment to arrive."""
        now, task = self.clock.now(), run.task
        if task is not None and task.state is TaskState.SENDING and now < task.expires_at + EXPIRY_GRACE:
            return Later(None, after=EXPIRY_GRACE.total_seconds(), counts=False)

        def decide(task: Task | None) -> Effect:
            if task is not None and task.state is TaskState.QUEUED:
                failed = Change.to_state(task.failed(now, task.error or EXPIRED))
                return Effect(changes=(failed,), cancels=(task.id,))
            if task is not None and task.state in {TaskState.SENDING, TaskState.ASKED}:
                return decided(Change.to_state(task.expired(now)), now)
            return NOTHING

        return Done(decide)
