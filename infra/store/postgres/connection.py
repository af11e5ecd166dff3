"""Connections to PostgreSQL, and what runs on one of them."""

from __future__ import annotations

import asyncio
import re
import ssl
import uuid
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, TypeVar

import asyncpg  # type: ignore[import-untyped]  # it brings no types

from infra.config.postgres_address import PostgresAddress
from infra.store.postgres.errors import CommitUnknown
from infra.store.sql.transactions import Row, Statement, Transaction

T = TypeVar("T")

_NAME = "telegate"
_STATEMENTS_KEPT = 200
_RETURNS_ROWS = re.compile(r"\s*(SELECT|WITH|VALUES|SHOW)\b|.*\bRETURNING\b", re.IGNORECASE | re.DOTALL)
_CHANGES_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # it brings no types
    """A connection whose prepared statements have names that no other process uses.

    asyncpg counts them, so behind a transaction pooler that nobody told us of, a name could mean what another
    process has prepared. (https://magicstack.github.io/asyncpg/current/faq.html#faq-pgbouncer)
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"telegate_{prefix}_{uuid.uuid4().hex}"


async def connect(address: PostgresAddress, limit: float, *, pooled: bool = False) -> Any:
    """A connection of asyncpg to this database.

    Args:
        address: of the database.
        limit: seconds that it may take.
        pooled: whether a transaction pooler stands in front although the address does not say so.
    """
    return await asyncpg.connect(
        address.url.reveal(),
        timeout=limit,
        connection_class=_Connection,
        statement_cache_size=0 if pooled or address.pooled else _STATEMENTS_KEPT,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0,
        # Anything else a transaction pooler would refuse.
        server_settings={"application_name": _NAME},
        **({"ssl": ssl.create_default_context()} if address.system_roots else {}),
    )


@cache
def begin_statement(patience: float) -> str:
    """What begins a transaction of so many seconds. The limits are its own: a pooler shares a session's.

    The server gives up a little earlier than we do, and an open transaction of a process that stands still
    lets its rows go a little later. READ COMMITTED, because rows are judged under a lock: whoever had to wait
    for it reads them anew, and nothing has to be repeated.
    """
    statement, lock, idle = (int(patience * part * 1000) for part in (0.75, 0.6, 1.5))
    return (
        f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement};"
        f" SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle}"
    )


async def run(connection: Any, transaction: Transaction[T], until: float) -> T:
    """Run a transaction's statements; beginning and committing are the caller's.

    Args:
        connection: of asyncpg.
        transaction: yields them.
        until: the loop's time by which it has to end.
    """
    time = asyncio.get_running_loop().time
    try:
        statement = next(transaction)
        while True:
            rows = await _run_statement(connection, statement, until - time())
            statement = transaction.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


async def commit(connection: Any, limit: float) -> None:
    """End a transaction; when this returns, it is stored.

    Raises:
        CommitUnknown: whether it is stored is not known.
    """
    try:
        said = await connection.execute("COMMIT", timeout=limit)
    except Exception as error:
        raise CommitUnknown from error
    if said != "COMMIT":
        # What the server says to the end of a transaction in which something failed.
        raise asyncpg.InFailedSQLTransactionError(f"The server answered {said} to COMMIT.")


async def _run_statement(connection: Any, statement: Statement, limit: float) -> Sequence[Row]:
    sql = statement.sql if isinstance(statement.sql, str) else statement.sql.postgres
    values = statement.params
    if any(type(value) is str and "\0" in value for value in values):
        # PostgreSQL's text has no NUL, so U+FFFD stands for it.
        values = tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values)
    gives = _what_it_gives(sql)
    if gives == "rows":
        return [tuple(record) for record in await connection.fetch(sql, *values, timeout=limit)]
    status = await connection.execute(sql, *values, timeout=limit)
    # "UPDATE 3", "INSERT 0 3"
    return [()] * int(status.rpartition(" ")[2]) if gives == "count" else []


@cache
def _what_it_gives(sql: str) -> Literal["rows", "count", "nothing"]:
    if _RETURNS_ROWS.match(sql):
        return "rows"
    return "count" if _CHANGES_ROWS.match(sql) else "nothing"
