"""One bot's store: all its ports over one database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from core.model.errors import StorageUnavailable
from core.model.identity import ButtonKey
from core.ports import Clock
from infra.observability.clock import SystemClock
from infra.store.errors import NOTHING_DONE, StoreRefused
from infra.store.sql.button_keys import StoredKeys
from infra.store.sql.chats import SqlChatStore
from infra.store.sql.heartbeat import SqlHeartbeatStore
from infra.store.sql.inbox import SqlInboxStore
from infra.store.sql.jobs import SqlJobStore
from infra.store.sql.metrics import SqlMetricsStore
from infra.store.sql.tasks import SqlTaskStore
from infra.store.sql.transactions import Database
from infra.store.sqlite.waiting import WaitingSqliteDatabase

if TYPE_CHECKING:
    from infra.config.postgres_address import PostgresAddress

log = logging.getLogger("telegate.store")


class Store(SqlTaskStore, SqlJobStore, SqlInboxStore, SqlChatStore, SqlHeartbeatStore, SqlMetricsStore):
    """The ports `TaskStore`, `JobStore`, `InboxStore`, `ChatStore` and `HeartbeatStore` for one bot.

    Args:
        database: runs the transactions; it stays whoever opened it who closes it.
        bot: the bot's numeric id.
        clock: tells when something was stored.
        keys: the button keys of this database.
    """

    def __init__(self, database: Database, bot: int, clock: Clock, keys: StoredKeys) -> None:
        super().__init__(database, bot, clock)
        self._keys = keys

    def button_keys(self) -> Sequence[ButtonKey]:
        """The keys that sign button data; the last one signs, the others are still believed.

        They may be read from the database later than this is called: until then, to use them raises
        `StorageUnavailable`.
        """
        return self._keys

    async def check(self) -> None:
        """Return when the database answers.

        Raises:
            StorageUnavailable: it does not; the text tells the operator why.
        """
        try:
            await self.database.check()
        except StorageUnavailable as error:
            if not error.detail.endswith(NOTHING_DONE):
                raise
            why = error.detail.removesuffix(NOTHING_DONE).rstrip()
            raise StorageUnavailable(why, retry_after=error.retry_after) from error


@asynccontextmanager
async def open_sqlite(
    path: Path, bot: int, *, lock_wait: float, patience: float = 5.0, clock: Clock | None = None
) -> AsyncIterator[Store]:
    """A store in an SQLite file, which is made and brought up to date where needed.

    Args:
        path: of the file.
        bot: the bot's numeric id.
        lock_wait: for how many seconds another server may still hold the file; meanwhile every call raises
            `StorageUnavailable`.
        patience: for how many seconds a write may wait while another process holds it.
        clock: tells when something was stored; without one, the system's counts.

    Raises:
        StoreRefused: it cannot be opened; the text tells why and what to do.
    """
    keys = StoredKeys()
    database = WaitingSqliteDatabase(path, lock_wait=lock_wait, patience=patience)
    database.first(lambda: database.read(keys.read))
    await database.open()
    try:
        if database.is_open:
            await database.read(keys.read)
        yield Store(database, bot, clock or SystemClock(), keys)
    finally:
        await database.close()


@asynccontextmanager
async def open_postgres(
    address: PostgresAddress, bot: int, *, clock: Clock | None = None
) -> AsyncIterator[Store]:
    """A store in a PostgreSQL database; one that is down, or not migrated, may come later.

    Args:
        address: of the database.
        bot: the bot's numeric id.
        clock: tells when something was stored; without one, the system's counts.

    Raises:
        StoreRefused: a newer version of Telegate has changed the tables.
    """
    from infra.store.postgres.database import PostgresDatabase  # noqa: PLC0415 - asyncpg is slow to import

    keys = StoredKeys()
    database = PostgresDatabase(address, on_contact=keys.read)
    try:
        try:
            await database.check()
        except StoreRefused:
            raise
        except StorageUnavailable as error:
            log.warning(
                "The server starts without its database. %s", error.detail, extra={"action": "no_database"}
            )
        yield Store(database, bot, clock or SystemClock(), keys)
    finally:
        await database.close()


def open_store(
    place: Path | PostgresAddress, bot: int, *, lock_wait: float, clock: Clock | None = None
) -> AbstractAsyncContextManager[Store]:
    """A store where the operator wants it; takes what `open_sqlite` and `open_postgres` take."""
    if isinstance(place, Path):
        return open_sqlite(place, bot, lock_wait=lock_wait, clock=clock)
    return open_postgres(place, bot, clock=clock)
