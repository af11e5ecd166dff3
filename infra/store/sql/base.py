"""What every store stands on: one bot's rows in one database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from core.model.errors import StorageUnavailable
from core.model.task import Task
from core.ports import Clock
from infra.store.sql.effects import Scope
from infra.store.sql.rows import decode, milliseconds, readable, tell_unreadable_task
from infra.store.sql.transactions import Database, MovedOn, Row, Transaction

T = TypeVar("T")

_MOST_TRIES = 10


class SqlStore:
    """One bot's rows in one database.

    Args:
        database: runs the transactions.
        bot: the bot's numeric id; nothing of another bot is ever seen.
        clock: tells when something was stored.
    """

    def __init__(self, database: Database, bot: int, clock: Clock) -> None:
        self.database = database
        self.bot = bot
        self._clock = clock
        # Whoever takes the first few rows of many takes so many more, lest these are all that it ever sees.
        self._unreadable: set[str] = set()
        self._unreadable_jobs: set[int] = set()

    def _now(self) -> int:
        return milliseconds(self._clock.now())

    def _scope(self) -> Scope:
        return Scope(self.bot, self._now())

    def _readable(self, rows: Sequence[Row]) -> list[Task]:
        """The tasks of those rows that can be read."""
        return readable(rows, partial(decode, self.bot), self._unreadable, tell_unreadable_task)

    async def _write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        for _ in range(_MOST_TRIES):
            try:
                return await self.database.write(transaction, reserved=reserved)
            except MovedOn:
                continue
        raise StorageUnavailable(
            "The database was changed by others each time that this was tried. Nothing was done; try again.",
            retry_after=3,
        )
