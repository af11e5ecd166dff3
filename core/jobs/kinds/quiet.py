"""Quiet kinds: neither that such a job is claimed, nor that it waits or is given up, changes its task."""

from __future__ import annotations

from datetime import datetime

from core.model.effect import NOTHING, Decision, Effect
from core.model.failure import Failure
from core.model.job import Job
from core.model.task import Task


class Quiet:
    """What a kind inherits whose jobs may be done twice, and of which only the outcome is worth a word."""

    __slots__ = ()

    def claimed(self, job: Job, at: datetime) -> Decision:
        """Nothing."""
        del job, at
        return nothing

    def waits(self, job: Job, why: Failure | None, at: datetime) -> Decision:
        """Nothing."""
        del job, why, at
        return nothing

    def repeats(self, task: Task | None) -> bool:
        """Doing it twice does no harm."""
        del task
        return True

    def give_up(self, job: Job, why: Failure, at: datetime) -> Decision:
        """Nothing."""
        del job, why, at
        return nothing


def nothing(_task: Task | None) -> Effect:
    """Decide that nothing changes."""
    return NOTHING
