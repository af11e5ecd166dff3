"""The tables of a PostgreSQL database: which ones it has, and how they are brought up to date."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from infra.config.postgres_address import PostgresAddress
from infra.store.errors import SchemaTooNew, StoreRefused
from infra.store.migrations import SchemaState, apply_missing, find_state
from infra.store.migrations.dialect import POSTGRES
from infra.store.postgres.errors import in_words, is_weather
from infra.store.postgres.session import Session, connect
from infra.store.sql.transactions import Row, Statement, Transaction

T = TypeVar("T")

_CONNECT_LIMIT, _MIGRATION_LIMIT = 10.0, 300.0
# Any number will do that no other program takes on this database.
_LOCK = Statement("SELECT pg_advisory_xact_lock($1)", (7_416_031_522_001,))
_IS_KNOWN = Statement("SELECT to_regclass('schema_version') IS NOT NULL")


async def migrate(address: PostgresAddress) -> tuple[int, ...]:
    """Bring the database's tables up to date, one migrator at a time.

    Returns:
        The numbers of the migrations that were missing.

    Raises:
        StoreRefused: it cannot be done; the text tells why and what to do.
    """
    return await _with_database(address, partial(_migrate, now=time.time_ns() // 1_000_000))


async def schema_state(address: PostgresAddress) -> SchemaState:
    """Which schema the database has; changes nothing.

    Raises:
        StoreRefused: it cannot be read.
    """
    return await _with_database(address, _find_state)


async def _with_database(address: PostgresAddress, work: Callable[[Session], Awaitable[T]]) -> T:
    try:
        connection = await connect(address, _CONNECT_LIMIT)
        session = Session(connection, _MIGRATION_LIMIT, writes=False)
        try:
            return await work(session)
        finally:
            await session.close()
    except SchemaTooNew as error:
        raise SchemaTooNew(f"The database {address.place} cannot be used. {error.detail}") from error
    except Exception as error:
        if not is_weather(error):
            raise
        raise StoreRefused(
            f"The database {address.place} cannot be worked on: {in_words(error)}. Check that it runs, that "
            "DATABASE_URL is right, and that its role may make tables."
        ) from error


async def _migrate(session: Session, now: int) -> tuple[int, ...]:
    async with session.connection.transaction():
        # Others who migrate wait here, and find nothing left to do.
        await session.run_one(_only(_LOCK))
        return await session.run_one(apply_missing(POSTGRES, now))


async def _find_state(session: Session) -> SchemaState:
    [(known,)] = await session.run_one(_only(_IS_KNOWN))
    return await session.run_one(find_state()) if known else SchemaState(0)


def _only(statement: Statement) -> Transaction[Sequence[Row]]:
    return (yield statement)
