"""The database's time, which all machines that share a PostgreSQL database share."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.model.errors import StorageUnavailable
from infra.observability.clock import SystemClock
from infra.store.sql.steps import rows_of
from infra.store.sql.transactions import Database, Statement

log = logging.getLogger("telegate.clock")

ASK_EVERY: Final = 60.0
"""Seconds between two looks at the database's clock: after a failover it may be another machine's."""

ASK_AGAIN_AFTER: Final = 5.0
"""Seconds until the next look while the database does not answer."""

_WORTH_TELLING: Final = 1_000
"""Milliseconds; a smaller correction is what two good clocks differ by."""

_TIME: Final = Statement("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")


class DatabaseTime:
    """Keeps a clock at the database's time, so that all machines that share the database share its time.

    Only for PostgreSQL: SQLite has no other clock than the machine's.

    Args:
        clock: is corrected.
        database: is asked.
    """

    def __init__(self, clock: SystemClock, database: Database) -> None:
        self._clock = clock
        self._database = database

    async def ask(self) -> None:
        """Ask once.

        The answer was made at some moment between question and answer. As long as this clock can be right
        by that, it is left alone: it would only tremble.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        asked = self._clock.milliseconds()
        [[told]] = await self._database.read(lambda: rows_of(_TIME))
        answered = self._clock.milliseconds()
        if asked <= told <= answered:
            return
        error = told - (asked + answered) // 2
        self._clock.move(error)
        if abs(error) >= _WORTH_TELLING:
            log.info(
                "The time is now the database's; it was moved by %+.1f s.",
                error / 1000,
                extra={"action": "clock_moved", "seconds": error / 1000},
            )

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            try:
                await self.ask()
                pause = ASK_EVERY
            except StorageUnavailable as error:
                # That it is down, others tell.
                log.debug(
                    "The database could not be asked for the time: %s",
                    error.detail,
                    extra={"action": "clock_unasked"},
                )
                pause = ASK_AGAIN_AFTER
            await asyncio.sleep(pause)
