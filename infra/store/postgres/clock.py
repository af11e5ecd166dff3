"""The database's clock, which all machines that share a PostgreSQL database share."""

from __future__ import annotations

from typing import Final

from infra.store.sql.transactions import Database, Statement, Transaction

_TIME: Final = Statement("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")


async def database_time_of(database: Database) -> int:
    """What it shows, in milliseconds since 1970.

    Raises:
        StorageUnavailable: the database does not answer.
    """
    return await database.read(_read_time)


def _read_time() -> Transaction[int]:
    [[told]] = yield _TIME
    milliseconds: int = told
    return milliseconds
