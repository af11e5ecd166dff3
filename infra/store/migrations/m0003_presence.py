"""Schema 3: who is here to take updates, and the questions whose presses may have been lost.

Times are milliseconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement

_PRESENCE = """
CREATE TABLE presence (
  bot         BIGINT NOT NULL PRIMARY KEY,
  served_at   BIGINT NOT NULL,
  received_at BIGINT,
  duty_holder TEXT,
  duty_until  BIGINT,
  telegram    TEXT,
  webhook     TEXT
)
"""

_DISARMED = """
CREATE TABLE disarmed (
  bot   BIGINT NOT NULL,
  task  TEXT NOT NULL,
  began BIGINT NOT NULL,
  ended BIGINT NOT NULL,
  until BIGINT NOT NULL,
  tries BIGINT NOT NULL,
  PRIMARY KEY (bot, task),
  FOREIGN KEY (bot, task) REFERENCES tasks (bot, id) ON DELETE CASCADE
)
"""

_DISARMED_DUE = "CREATE INDEX disarmed_due ON disarmed (bot, until, task)"


def statements(dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 3 out of schema 2."""
    yield Statement(_PRESENCE)
    yield Statement(_DISARMED.rstrip() + dialect.clustered)
    yield Statement(_DISARMED_DUE)
