"""Schema 4: the figures of each process, for whichever process is asked for them.

`seq` counts what a process has written, so that nothing older follows. Times are milliseconds since 1970
(UTC).
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement

_FIGURES = """
CREATE TABLE figures (
  bot     BIGINT NOT NULL,
  process TEXT NOT NULL,
  seq     BIGINT NOT NULL,
  at      BIGINT NOT NULL,
  told    TEXT NOT NULL,
  PRIMARY KEY (bot, process)
)
"""


def statements(dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 4 out of schema 3."""
    del dialect
    yield Statement(_FIGURES)
