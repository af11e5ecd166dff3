"""A process with a kind of job of its own on a real SQLite file; a test kills it in the middle of one.

    python own_kind.py DATABASE NOTES store|run

Each attempt writes a line into NOTES before it does anything, and another one when it is done.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from core.jobs.alarm import Alarm
from core.jobs.kinds.quiet import Quiet, nothing
from core.jobs.runner import Runner
from core.jobs.scheduler import Scheduler
from core.model.job import Done, Job, Lane, Outcome
from core.model.retry import RetryPolicy
from core.ports import Run
from infra.notify.local import LocalNotifier
from infra.observability.clock import SystemClock
from infra.store import open_sqlite

BOT = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Quiet):
    """Takes for ever the first time, and no time when an earlier attempt may have been done."""

    name: ClassVar[str] = "slow"
    retry: ClassVar[RetryPolicy] = RetryPolicy(unclear_tries=None)

    notes: Path

    async def run(self, run: Run) -> Outcome:
        """Write down that it begins, and that it ends."""
        self.note(f"begin {run.job.subject} {'again' if run.job.in_doubt else 'first'}")
        if not run.job.in_doubt:
            await asyncio.Event().wait()
        self.note(f"end {run.job.subject}")
        return Done(nothing)

    def note(self, line: str) -> None:
        with self.notes.open("a") as notes:
            notes.write(line + "\n")


async def main(database: Path, notes: Path, what: str) -> None:
    clock = SystemClock()
    async with open_sqlite(database, BOT, lock_wait=10.0, clock=clock) as store:
        alarm = Alarm(clock)
        runner = Runner(
            store=store,
            kinds={"slow": Slow(notes=notes)},
            limits={},
            notifier=LocalNotifier(),
            clock=clock,
            alarm=alarm,
            holder=f"process-{os.getpid()}",
        )
        scheduler = Scheduler(store=store, runner=runner, alarm=alarm, clock=clock, queues=("slow",))
        if what == "store":
            jobs = [
                Job("slow", "slow", f"job-{number}", run_at=clock.now(), lane=Lane("wide", width=2))
                for number in range(3)
            ]
            await store.put(jobs)
            await scheduler.run()
        await scheduler.take_over()
        await scheduler.sweep()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
