"""Purging: what is old enough is deleted, again and again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Final

from core.jobs.kinds.quiet import Quiet
from core.model.effect import Effect
from core.model.job import TIMERS, Done, Job, Outcome, Priority
from core.model.retry import RetryPolicy
from core.ports import Clock, Run, TaskStore

log = logging.getLogger("telegate.jobs")

PURGE_EVERY: Final = timedelta(hours=1)

BATCH: Final = 100


def purge_job(at: datetime) -> Job:
    """The job that purges at this time, and every hour from then on."""
    return Job("purge", TIMERS, "", run_at=at, priority=Priority.LOW, key="purge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge(Quiet):
    """Deletes finished tasks and what belongs to them.

    Attributes:
        keep: how long a finished task can still be looked at.
    """

    name: ClassVar[str] = "purge"
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=60.0, longest=3600.0, unclear_tries=None)

    tasks: TaskStore
    clock: Clock
    keep: timedelta

    async def run(self, run: Run) -> Outcome:
        """Delete all that is old enough, in batches, so that others get their turn."""
        now, purged = self.clock.now(), BATCH
        while purged == BATCH:
            purged = await self.tasks.purge(now, now - self.keep, BATCH)
        following = replace(run.job, run_at=now + PURGE_EVERY, lease=None, attempts=0, in_doubt=False)
        return Done(lambda _task: Effect(jobs=(following,)))
