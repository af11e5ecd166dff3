"""Schema 5: the history tells what was shown, as a fingerprint, and which option was chosen.

Rows from before tell neither, and a version from before may still add some.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement


def statements(_dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 5 out of schema 4."""
    yield Statement("ALTER TABLE history ADD COLUMN shown BYTEA")
    yield Statement("ALTER TABLE history ADD COLUMN choice TEXT")
