"""Statements as PostgreSQL takes them: many callers' values in one go, each row with its caller's number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from infra.store.sql.transactions import Row, Statement

Values: TypeAlias = tuple[int | str | bytes | None, ...]
"""The values of a statement's placeholders."""

_PLACEHOLDER = re.compile(r"\$([0-9]+)")
_READS = re.compile(r"\s*SELECT\s", re.IGNORECASE)
_CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE)\s", re.IGNORECASE)
_RETURNING = re.compile(r"\sRETURNING\s", re.IGNORECASE)
# Here a column more would change what is found.
_NOT_NUMBERED = re.compile(r"\s*SELECT\s+DISTINCT\s|\s(UNION|INTERSECT|EXCEPT)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """One SQL text, as it is sent.

    Attributes:
        sql: for the driver.
        numbered: whether it takes one more value, the caller's number, and gives it back before each row.
        changes: whether it may change something.
    """

    sql: str
    numbered: bool
    changes: bool

    async def run(self, connection: Any, values: Sequence[Values], limit: float) -> list[list[Row]]:
        """Run it once for each caller's values, in one round trip where possible.

        Args:
            connection: of asyncpg.
            values: of each caller.
            limit: seconds that a round trip may take.

        Returns:
            Each caller's rows.
        """
        if not self.numbered:
            found = [await connection.fetch(self.sql, *_storable(params), timeout=limit) for params in values]
            return [[tuple(record) for record in records] for records in found]
        rows: list[list[Row]] = [[] for _ in values]
        numbered = [(*_storable(params), number) for number, params in enumerate(values)]
        for record in await connection.fetchmany(self.sql, numbered, timeout=limit):
            number, *row = record
            rows[number].append(tuple(row))
        return rows


def _storable(params: Values) -> Values:
    """The values as they can be stored: PostgreSQL's text has no NUL, so U+FFFD stands for it."""
    if any(type(value) is str and "\0" in value for value in params):
        return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in params)
    return params


def form_of(statement: Statement) -> Form:
    """How a statement is sent; equal forms can be sent together."""
    return _form(statement.sql, statement.for_update, statement.pass_over)


@cache
def _form(sql: str, for_update: bool, pass_over: bool) -> Form:
    number = f"${max(map(int, _PLACEHOLDER.findall(sql)), default=0) + 1}::int8"
    if _CHANGES.match(sql):
        if _RETURNING.search(sql):
            return Form(_RETURNING.sub(f" RETURNING {number}, ", sql, count=1), numbered=True, changes=True)
        return Form(f"{sql.rstrip()} RETURNING {number}", numbered=True, changes=True)
    if not _READS.match(sql) or _NOT_NUMBERED.search(sql):
        return Form(sql, numbered=False, changes=not _READS.match(sql))
    lock = f" FOR NO KEY UPDATE{' SKIP LOCKED' if pass_over else ''}" if for_update else ""
    return Form(_READS.sub(f"SELECT {number}, ", sql, count=1).rstrip() + lock, numbered=True, changes=False)
