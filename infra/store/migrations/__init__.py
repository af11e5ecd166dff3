"""The tables, by numbered steps; a step that was released is never changed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from infra.store.errors import SchemaTooNew
from infra.store.migrations import (
    m0001_tasks,
    m0002_chats,
    m0003_presence,
    m0004_figures,
    m0005_shown,
    m0006_jobs,
)
from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement, Transaction

MIGRATIONS: Mapping[int, Callable[[Dialect], Iterator[Statement]]] = {
    1: m0001_tasks.statements,
    2: m0002_chats.statements,
    3: m0003_presence.statements,
    4: m0004_figures.statements,
    5: m0005_shown.statements,
    6: m0006_jobs.statements,
}
"""Each step by its number, counted from 1."""

NEWEST = max(MIGRATIONS)
"""The schema that this version of Telegate works with."""

COMPATIBLE_FROM = 6
"""A version of Telegate that knows no schema as new as this refuses to work with these tables.

To be raised with a step that such a version would do harm to, or could not live with.
"""

_SINCE = 6
"""The first schema that says which versions can live with it."""

_CREATE = Statement(
    "CREATE TABLE IF NOT EXISTS schema_version"
    " (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)"
)
_FIND = Statement("SELECT COALESCE(MAX(version), 0) FROM schema_version")
_FIND_COMPATIBLE = Statement("SELECT COALESCE(MAX(compatible_from), 0) FROM schema_version")
_APPLIED = "INSERT INTO schema_version (version, applied_at) VALUES ($1, $2)"
_APPLIED_COMPATIBLE = """
INSERT INTO schema_version (version, applied_at, compatible_from) VALUES ($1, $2, $3)
"""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which schema a database has, and which one this version of Telegate works with; 0 is an empty one.

    Attributes:
        found: what the database has.
        newest: what this version knows.
        compatible_from: versions of Telegate that know none as new as this cannot work with the database.
    """

    found: int
    newest: int = NEWEST
    compatible_from: int = 0

    @property
    def too_new(self) -> bool:
        """Whether a newer version of Telegate has changed the tables so that this one cannot use them."""
        return self.compatible_from > self.newest

    @property
    def current(self) -> bool:
        """Whether there is nothing to do."""
        return self.found >= self.newest


def find_state() -> Transaction[SchemaState]:
    """Which schema the database has; it must have been migrated once."""
    [(found,)] = yield _FIND
    if found <= NEWEST:
        return SchemaState(found, NEWEST)
    [(compatible_from,)] = yield _FIND_COMPATIBLE
    return SchemaState(found, NEWEST, compatible_from)


def refuse_newer(state: SchemaState) -> None:
    """Raise `SchemaTooNew` when this version of Telegate is too old for the database."""
    if state.too_new:
        raise SchemaTooNew(
            f"The database has schema {state.found}, but this version of Telegate knows schemas up to "
            f"{state.newest} only. Start the newer version again, or restore a copy of the database that was "
            "made before the update."
        )


def apply_missing(dialect: Dialect, now: int) -> Transaction[tuple[int, ...]]:
    """Bring the tables up to date; to be run by one migrator at a time.

    Args:
        dialect: of the database.
        now: the time in milliseconds since 1970, for the record.

    Returns:
        The numbers of the steps that were missing.

    Raises:
        SchemaTooNew: this version of Telegate is too old for the database.
    """
    yield _CREATE
    state = yield from find_state()
    refuse_newer(state)
    missing = tuple(range(state.found + 1, NEWEST + 1))
    for number in missing:
        yield from MIGRATIONS[number](dialect)
        if number < _SINCE:
            yield Statement(_APPLIED, (number, now))
        else:
            yield Statement(_APPLIED_COMPATIBLE, (number, now, COMPATIBLE_FROM))
    return missing
