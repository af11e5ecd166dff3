"""Transactions of one statement, for tests that look into a database themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from infra.store.sql.transactions import Database, Row, Statement, Transaction, rows_of


def only(sql: str, *params: int | str | bytes | None) -> Callable[[], Transaction[Sequence[Row]]]:
    """A transaction that is nothing but this statement."""
    return lambda: rows_of(Statement(sql, params))


async def do(database: Database, sql: str, *params: int | str | bytes | None) -> Sequence[Row]:
    """Run one statement that changes something."""
    return await database.write(only(sql, *params))
