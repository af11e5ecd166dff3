"""Sessions: one connection to PostgreSQL, with a limit on every round trip."""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import Sequence
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it brings no types

from infra.config.postgres_address import PostgresAddress
from infra.store.postgres.statements import Form, Values, form_of
from infra.store.sql.transactions import Row, Transaction

T = TypeVar("T")

log = logging.getLogger("telegate.store")

_NAME = "telegate"
_STATEMENTS_KEPT = 200
_CLOSE_LIMIT = 1.0
# A transaction pooler refuses settings that are sent with the connection, and hands those of a session on to
# others. So they are set for each transaction, in the round trip that begins it. READ COMMITTED, because rows
# are judged under a lock: whoever had to wait for it reads them anew, and nothing has to be repeated.
_BEGIN = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = {statement};
SET LOCAL lock_timeout = {lock};
SET LOCAL idle_in_transaction_session_timeout = {idle}
"""


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # it brings no types
    """A connection whose prepared statements have names that no other process uses.

    asyncpg counts them, so behind a transaction pooler that nobody told us of, a name could mean what another
    process has prepared. (https://magicstack.github.io/asyncpg/current/faq.html#faq-pgbouncer)
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"telegate_{prefix}_{uuid.uuid4().hex}"


class CommitUnknown(Exception):
    """The connection broke while a transaction was committed: it may or may not be stored."""


async def connect(address: PostgresAddress, limit: float, *, pooled: bool = False) -> Any:
    """A connection of asyncpg to this database.

    Args:
        address: of the database.
        limit: seconds that it may take.
        pooled: whether a transaction pooler stands in front although the address does not say so.
    """
    more: dict[str, Any] = {}
    if address.system_roots:
        more["ssl"] = ssl.create_default_context()
    return await asyncpg.connect(
        address.url.reveal(),
        timeout=limit,
        connection_class=_Connection,
        statement_cache_size=0 if pooled or address.pooled else _STATEMENTS_KEPT,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0,
        server_settings={"application_name": _NAME},
        **more,
    )


class Session:
    """One connection, and the group that is under way on it.

    Args:
        connection: of asyncpg.
        limit: seconds that a round trip may take.
        writes: whether its groups change something; otherwise each statement is a transaction of its own.

    Attributes:
        connection: of asyncpg.
        begun: whether a group is under way.
    """

    def __init__(self, connection: Any, limit: float, *, writes: bool) -> None:
        self.connection = connection
        self.begun = False
        self._limit = limit
        self._writes = writes
        # The server gives up a little earlier than we do, and an open transaction of a process that stands
        # still lets its rows go a little later.
        limits = {"statement": 0.75, "lock": 0.6, "idle": 1.5}
        self._begin = _BEGIN.format(**{name: int(limit * part * 1000) for name, part in limits.items()})

    @property
    def lost(self) -> bool:
        """Whether the connection is known to be broken."""
        return bool(self.connection.is_closed())

    async def begin(self) -> None:
        """Begin a group; a connection that cannot is given up."""
        self.begun = True
        if self._writes:
            try:
                await self.connection.execute(self._begin, timeout=self._limit)
            except BaseException:
                self.drop()
                raise

    async def run(self, form: Form, values: Sequence[Values]) -> list[list[Row]]:
        """Run a statement for several callers; see `Form.run`."""
        return await form.run(self.connection, values, self._limit)

    async def run_one(self, transaction: Transaction[T]) -> T:
        """Run a single transaction to its end; beginning and committing are the caller's."""
        try:
            statement = next(transaction)
            while True:
                [rows] = await self.run(form_of(statement), [statement.params])
                statement = transaction.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result

    async def commit(self) -> None:
        """End a group; when this returns, it is stored.

        Raises:
            CommitUnknown: whether it is stored is not known.
        """
        self.begun = False
        if not self._writes:
            return
        try:
            said = await self.connection.execute("COMMIT", timeout=self._limit)
        except Exception as error:
            raise CommitUnknown from error
        if said != "COMMIT":
            # What the server says to the end of a transaction in which something failed.
            raise asyncpg.InFailedSQLTransactionError(f"The server answered {said} to COMMIT.")

    async def roll_back(self) -> None:
        """Undo a group; a connection that cannot do that is given up, which undoes it as well."""
        self.begun = False
        if not self._writes or self.lost:
            return
        try:
            await self.connection.execute("ROLLBACK", timeout=self._limit)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            self.drop()

    def drop(self) -> None:
        """Break the connection off."""
        self.connection.terminate()

    async def close(self) -> None:
        """Say goodbye to the server."""
        try:
            await self.connection.close(timeout=_CLOSE_LIMIT)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            # It was about to be closed, and is.
            log.debug("A connection ended before it was closed.", extra={"action": "connection_ended"})
