"""The tables of a PostgreSQL database: which ones it has, and how they are brought up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from infra.config.postgres_address import PostgresAddress
from infra.store.errors import SchemaTooNew, StoreRefused
from infra.store.migrations import SchemaState, apply_missing, find_state
from infra.store.migrations.dialect import POSTGRES
from infra.store.postgres.connection import connect, run
from infra.store.postgres.errors import in_words, is_weather

_CONNECT_LIMIT, _MIGRATION_LIMIT = 10.0, 300.0
_LOCK = 7_416_031_522_001
"""Any number will do that no other program takes on this database."""


async def migrate(address: PostgresAddress) -> tuple[int, ...]:
    """Bring the database's tables up to date, one migrator at a time.

    Returns:
        The numbers of the migrations that were missing.

    Raises:
        StoreRefused: it cannot be done; the text tells why and what to do.
    """
    now = time.time_ns() // 1_000_000
    async with _connected(address) as connection, connection.transaction():
        until = asyncio.get_running_loop().time() + _MIGRATION_LIMIT
        # Others who migrate wait here, and find nothing left to do.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_MIGRATION_LIMIT)
        return await run(connection, apply_missing(POSTGRES, now), until)


async def schema_state(address: PostgresAddress) -> SchemaState:
    """Which schema the database has; changes nothing.

    Raises:
        StoreRefused: it cannot be read.
    """
    async with _connected(address) as connection:
        until = asyncio.get_running_loop().time() + _CONNECT_LIMIT
        if not await connection.fetchval("SELECT to_regclass('schema_version') IS NOT NULL"):
            return SchemaState(0)
        return await run(connection, find_state(), until)


@asynccontextmanager
async def _connected(address: PostgresAddress) -> AsyncIterator[Any]:
    try:
        connection = await connect(address, _CONNECT_LIMIT)
        try:
            yield connection
        finally:
            connection.terminate()
    except SchemaTooNew as error:
        raise SchemaTooNew(f"The database {address.place} cannot be used. {error.detail}") from error
    except Exception as error:
        if not is_weather(error):
            raise
        raise StoreRefused(
            f"The database {address.place} cannot be worked on: {in_words(error)}. Check that it runs, that "
            "DATABASE_URL is right, and that its role may make tables."
        ) from error
