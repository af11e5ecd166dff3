"""PostgreSQL: a few writers and readers that each take whatever is waiting, over plain asyncpg."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from core.model.errors import StorageUnavailable
from infra.config.postgres_address import PostgresAddress
from infra.store.migrations import SchemaState, find_state, refuse_newer
from infra.store.postgres.crew import Crew, CrewSettings
from infra.store.postgres.errors import FORGOTTEN, NotMigrated, in_words, is_weather, with_cause
from infra.store.postgres.session import Session, connect
from infra.store.postgres.statements import Form, Values
from infra.store.sql.transactions import Row, Statement, Transaction, Worker

T = TypeVar("T")

log = logging.getLogger("telegate.store")

PATIENCE = 2.0
"""Seconds that anything may wait for the database."""

_IDLE = 60.0
_MOST_WAITING = 20_000
"""Ten thousand waiting requests read their rows at once when the server stops."""

_WRITERS, _READERS = 2, 4
# Finds nothing and changes nothing. But a row may be locked only where it may be changed, so a server that
# takes no changes refuses even to look: https://www.postgresql.org/docs/current/hot-standby.html
_LOCK_NOTHING = Statement("SELECT id FROM tasks WHERE bot = $1 AND id = $2", (0, ""), for_update=True)


class PostgresDatabase:
    """The port `Database` on a PostgreSQL server. Made in the serving loop; it connects when it is asked.

    Reads, writes, Telegram's updates and checks have connections of their own, so that none of them starves
    the others.

    Args:
        address: of the database.
        on_contact: run once, before anything else, when the database answers for the first time.
        patience: seconds that anything may wait for the database.
        writers: the most connections that write.
        readers: the most connections that read.
        idle: seconds after which a connection that nobody needs is closed.
        most_waiting: how many reads, and how many writes, may wait.

    Attributes:
        writer: counts the commits and what they were for.
    """

    def __init__(
        self,
        address: PostgresAddress,
        *,
        on_contact: Callable[[], Transaction[None]] | None = None,
        patience: float = PATIENCE,
        writers: int = _WRITERS,
        readers: int = _READERS,
        idle: float = _IDLE,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self.address = address
        self._on_contact = on_contact or _nothing
        self._patience = patience
        self._pooled = address.pooled
        self._in_use = False
        self._is_down = False
        settings = partial(CrewSettings, patience=patience, idle=idle, most_waiting=most_waiting)
        self.writer = Crew(settings(writers), partial(self._open, writes=True))
        self._reserved = Crew(settings(1), partial(self._open, writes=True))
        self._reader = Crew(settings(readers), partial(self._open, writes=False))
        self._checker = Crew(settings(1), partial(self._open, writes=False))

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        """See `Database.write`."""
        crew = self._reserved if reserved else self.writer
        return await crew.submit(transaction)

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """See `Database.read`; each of its statements sees what was committed before it."""
        return await self._reader.submit(transaction)

    @property
    def workers(self) -> Mapping[str, Worker]:
        """See `Database.workers`."""
        return {"read": self._reader, "write": self.writer, "reserved": self._reserved}

    async def check(self) -> None:
        """See `Database.check`; it must take changes, too, and have its tables; newer ones do no harm."""
        try:
            state = await self._checker.submit(_look)
        except StorageUnavailable as error:
            raise with_cause(error) from error.__cause__
        if state.found < state.newest:
            raise NotMigrated

    async def close(self) -> None:
        """See `Database.close`."""
        crews = (self._reader, self._checker, self._reserved, self.writer)
        await asyncio.gather(*(crew.close() for crew in crews))

    # Connecting

    async def _open(self, *, writes: bool) -> Session:
        try:
            connection = await connect(self.address, self._patience, pooled=self._pooled)
        except Exception as error:
            if is_weather(error):
                self._tell(in_words(error))
            raise
        session = _WatchedSession(connection, self._patience, self._note_pooler, writes=writes)
        try:
            if not self._in_use:
                await self._greet(session)
        except BaseException:
            session.drop()
            raise
        self._tell(None)
        return session

    async def _greet(self, session: Session) -> None:
        """Look whether the tables are what this version works with; nothing is done before they are."""
        state = await session.run_one(find_state())
        refuse_newer(state)
        if not state.current:
            raise NotMigrated
        await session.run_one(self._on_contact())
        self._in_use = True

    def _tell(self, trouble: str | None) -> None:
        """Write into the log when the database goes and when it comes back, not each time it is missed."""
        was_down, self._is_down = self._is_down, trouble is not None
        place = self.address.place
        if was_down and trouble is None:
            log.info("The database %s answers again.", place, extra={"action": "database_back"})
        elif trouble is not None and not was_down:
            log.error(
                "The database %s cannot be reached: %s", place, trouble, extra={"action": "database_down"}
            )

    def _note_pooler(self) -> None:
        if not self._pooled:
            self._pooled = True
            log.warning(
                "The database forgets prepared statements, as a transaction pooler does; none are used from "
                "now on. Add ?pgbouncer=true to DATABASE_URL to say so from the start.",
                extra={"action": "pooler_found"},
            )


class _WatchedSession(Session):
    """A session that tells when the server has forgotten what it had prepared."""

    def __init__(self, connection: Any, limit: float, note: Callable[[], None], *, writes: bool) -> None:
        super().__init__(connection, limit, writes=writes)
        self._note = note

    async def run(self, form: Form, values: Sequence[Values]) -> list[list[Row]]:
        """See `Session.run`."""
        try:
            return await super().run(form, values)
        except FORGOTTEN:
            self._note()
            raise


def _look() -> Transaction[SchemaState]:
    state = yield from find_state()
    yield _LOCK_NOTHING
    return state


def _nothing() -> Transaction[None]:
    yield from ()
