"""One bot's store: all its ports over one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from core.buttons import ButtonKey
from core.ports import Clock
from infra.clock import SystemClock
from infra.store.deadline_store import SqlDeadlineStore
from infra.store.inbox_store import SqlInboxStore
from infra.store.sqlite import SqliteDatabase
from infra.store.steps import rows_of
from infra.store.task_store import SqlTaskStore
from infra.store.transactions import Database, Statement

_KEYS = Statement("SELECT id, secret FROM button_keys ORDER BY created_at, id")


class Store(SqlTaskStore, SqlDeadlineStore, SqlInboxStore):
    """The ports `TaskStore`, `DeadlineStore` and `InboxStore` for one bot.

    Args:
        database: runs the transactions; it stays whoever opened it who closes it.
        bot: the bot's numeric id.
        clock: tells when something was stored.
        keys: the button keys of this database.
    """

    def __init__(self, database: Database, bot: int, clock: Clock, keys: tuple[ButtonKey, ...]) -> None:
        super().__init__(database, bot, clock)
        self._keys = keys

    @classmethod
    async def over(cls, database: Database, bot: int, clock: Clock | None = None) -> Store:
        """The store of this bot in an open database; without a clock, the system's counts."""
        rows = await database.read(lambda: rows_of(_KEYS))
        return cls(database, bot, clock or SystemClock(), tuple(ButtonKey(*row) for row in rows))

    def button_keys(self) -> tuple[ButtonKey, ...]:
        """The keys that sign button data; the last one signs, the others are still believed."""
        return self._keys

    async def check(self) -> None:
        """Return when the database answers.

        Raises:
            StorageUnavailable: it does not.
        """
        await self.database.check()


@asynccontextmanager
async def open_sqlite(
    path: Path, bot: int, *, lock_wait: float, patience: float = 5.0, clock: Clock | None = None
) -> AsyncIterator[Store]:
    """A store in an SQLite file, which is made and brought up to date where needed.

    Args:
        path: of the file.
        bot: the bot's numeric id.
        lock_wait: for how many seconds another server may still hold the file.
        patience: for how many seconds a write may wait while another process holds it.
        clock: tells when something was stored; without one, the system's counts.

    Raises:
        StoreRefused: it cannot be opened; the text tells why and what to do.
    """
    database = await SqliteDatabase.open(path, lock_wait=lock_wait, patience=patience)
    try:
        yield await Store.over(database, bot, clock)
    finally:
        await database.close()
