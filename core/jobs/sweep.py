"""Use case: what is due is done now and to its end, for whoever asks for it and for a process that starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from core.jobs.deadlines import Timekeeper, forget_old
from core.model.errors import StorageUnavailable

log = logging.getLogger("telegate.deadlines")

LONGEST_SWEEP: Final = 20.0
"""Seconds that a sweep waits for Telegram: as long as one call may take. Routers give up after thirty."""

_LOOK_UP: Final = 0.25
"""Seconds after which a sweep that waits looks whether it shall hurry."""

_QUIET_ROUNDS: Final = 2
_END_OF_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC)
_EVERYTHING: Final = 1_000_000


@dataclass(slots=True)
class Sweep:
    """Works off what is due, and waits for it: afterwards the process may be frozen, or end.

    Attributes:
        keep: how long a finished task can still be looked at.
        rearm: edits the questions that wait to ask for another press; returns how many it took.
        hurried: whether nothing shall be waited for any more, because the process ends.
    """

    timekeeper: Timekeeper
    keep: timedelta
    rearm: Callable[[], Coroutine[object, object, int]]
    hurried: bool = False

    async def run(self, patience: float = LONGEST_SWEEP) -> int:
        """Do what is due until nothing is.

        Two at once, here or in two processes, share the work: nothing is done twice.

        Args:
            patience: seconds that may pass before Telegram has taken all of it; the rest goes on, or is
                taken up by the next process.

        Returns:
            How many things were due, and were not done by anybody else.

        Raises:
            StorageUnavailable: the database cannot tell what is due.
        """
        give_up_at = asyncio.get_running_loop().time() + patience
        rearming = asyncio.create_task(self.rearm())
        try:
            done = await self._work_off(give_up_at)
            await self._wait(give_up_at, {rearming})
            return done + (rearming.result() if rearming.done() else 0)
        finally:
            # Whoever comes next goes on with the list.
            rearming.cancel()
            await asyncio.gather(rearming, return_exceptions=True)

    async def _work_off(self, give_up_at: float) -> int:
        deadlines, clock = self.timekeeper.deadlines, self.timekeeper.sender.drafter.clock
        done = await forget_old(deadlines, clock.now(), self.keep)
        quiet = 0
        # Twice, because what ends may begin something else: a question that is over is closed, for example.
        while quiet < _QUIET_ROUNDS:
            some = await self.timekeeper.sweep()
            done += some
            quiet = quiet + 1 if some == 0 else 0
            if not await self._wait(give_up_at, self.timekeeper.sender.errands.running):
                break
        return done

    async def inherit(self) -> None:
        """Take over all that is being sent, whatever its lease says: who held it is gone.

        Only for a process that has the database for itself, and before it begins anything of its own. The
        leases were written by another process; should the machine's clock have been put back since, they
        would hold up their tasks for as long as it was wrong.
        """
        sender = self.timekeeper.sender
        lease = sender.drafter.lease(sender.drafter.clock.now())
        try:
            left = await self.timekeeper.deadlines.abandoned(_END_OF_TIME, lease, _EVERYTHING)
        except StorageUnavailable as error:
            log.warning(
                "What the process before this one was sending is taken up when its leases have run out: %s",
                error.detail,
                extra={"action": "not_inherited"},
            )
            return
        for task in left:
            sender.recover(task)

    async def _wait(self, give_up_at: float, work: Collection[asyncio.Task[Any]]) -> bool:
        """Wait until all this work is done; whether that came in time."""
        loop = asyncio.get_running_loop()
        running = set(work)
        while running:
            left = give_up_at - loop.time()
            if left <= 0 or self.hurried:
                return False
            _, running = await asyncio.wait(running, timeout=min(left, _LOOK_UP))
        return True
