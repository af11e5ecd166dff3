"""Sweeping: what is due is done now, in a process that may have been frozen until now."""

from __future__ import annotations

from dataclasses import dataclass

from core.cluster.heartbeat import Heartbeat
from core.jobs.scheduler import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What `POST /v1/sweep` does, for platforms that freeze a process while nothing happens."""

    heartbeat: Heartbeat
    scheduler: Scheduler

    async def run(self) -> int:
        """Find out for how long nobody could take updates, then run what is due; returns how many jobs."""
        # Open questions that may have lost taps are due as well, from the heartbeat on.
        await self.heartbeat.beat()
        return await self.scheduler.sweep()
