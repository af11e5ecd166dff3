"""Schema 1: tasks with their history and messages, idempotency keys, updates, and the first button key.

Times are milliseconds since 1970 (UTC). Type names are PostgreSQL's; SQLite takes them as they are (a
`BYTEA` column keeps bytes untouched: https://www.sqlite.org/datatype3.html#determination_of_column_affinity).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement

_TASKS = """
CREATE TABLE tasks (
  bot          BIGINT NOT NULL,
  id           TEXT NOT NULL,
  kind         TEXT NOT NULL,
  state        TEXT NOT NULL,
  service      TEXT NOT NULL,
  chat         TEXT NOT NULL,
  alias        TEXT,
  topic        BIGINT,
  content      TEXT NOT NULL,
  metadata     TEXT NOT NULL,
  token        BYTEA,
  jti          TEXT,
  of_task      TEXT,
  created_at   BIGINT NOT NULL,
  updated_at   BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  not_before   BIGINT,
  lease_holder TEXT,
  lease_until  BIGINT,
  attempts     BIGINT NOT NULL,
  closed       SMALLINT NOT NULL,
  message_ids  TEXT NOT NULL,
  progress     TEXT NOT NULL,
  steps        BIGINT NOT NULL,
  PRIMARY KEY (bot, id)
)
"""

# A partial index is used only when a query repeats its condition word by word.
_TASK_INDEXES = """
CREATE UNIQUE INDEX tasks_by_token ON tasks (bot, token) WHERE token IS NOT NULL;
CREATE INDEX tasks_by_service ON tasks (bot, service, id);
CREATE INDEX tasks_due ON tasks (bot, (COALESCE(not_before, 0))) WHERE state = 'queued';
CREATE INDEX tasks_leased ON tasks (bot, (COALESCE(lease_until, 0))) WHERE state = 'sending';
CREATE INDEX tasks_expiring ON tasks (bot, expires_at) WHERE state IN ('queued', 'asked');
CREATE INDEX tasks_unclosed ON tasks (bot, updated_at)
  WHERE state IN ('answered', 'expired', 'cancelled') AND kind = 'question' AND closed = 0;
CREATE INDEX tasks_finished ON tasks (bot, updated_at)
  WHERE state IN ('sent', 'answered', 'expired', 'cancelled', 'failed', 'unknown');
CREATE INDEX tasks_open ON tasks (bot, chat, id)
  WHERE kind = 'question' AND state IN ('sending', 'asked', 'unknown')
"""

_IDEMPOTENCY = """
CREATE TABLE idempotency (
  bot         BIGINT NOT NULL,
  service     TEXT NOT NULL,
  route       TEXT NOT NULL,
  key         TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  task        TEXT NOT NULL,
  PRIMARY KEY (bot, service, route, key),
  FOREIGN KEY (bot, task) REFERENCES tasks (bot, id) ON DELETE CASCADE
)
"""

_MESSAGES = """
CREATE TABLE messages (
  bot        BIGINT NOT NULL,
  chat       TEXT NOT NULL,
  message_id BIGINT NOT NULL,
  task       TEXT NOT NULL,
  part       BIGINT NOT NULL,
  copy       BIGINT NOT NULL,
  PRIMARY KEY (bot, chat, message_id),
  FOREIGN KEY (bot, task) REFERENCES tasks (bot, id) ON DELETE CASCADE
)
"""

_HISTORY = """
CREATE TABLE history (
  bot       BIGINT NOT NULL,
  task      TEXT NOT NULL,
  seq       BIGINT NOT NULL,
  at        BIGINT NOT NULL,
  what      TEXT NOT NULL,
  person    BIGINT,
  update_id BIGINT,
  jti       TEXT,
  PRIMARY KEY (bot, task, seq),
  FOREIGN KEY (bot, task) REFERENCES tasks (bot, id) ON DELETE CASCADE
)
"""

_UPDATES = """
CREATE TABLE updates (
  bot       BIGINT NOT NULL,
  update_id BIGINT NOT NULL,
  at        BIGINT NOT NULL,
  PRIMARY KEY (bot, update_id)
)
"""

# `name` is the update's id in words, or a digest of its bytes when no id could be read.
_QUARANTINE = """
CREATE TABLE quarantine (
  bot       BIGINT NOT NULL,
  name      TEXT NOT NULL,
  update_id BIGINT,
  at        BIGINT NOT NULL,
  reason    TEXT NOT NULL,
  raw       BYTEA NOT NULL,
  PRIMARY KEY (bot, name)
)
"""

_BUTTON_KEYS = """
CREATE TABLE button_keys (
  id         BIGINT NOT NULL PRIMARY KEY,
  secret     BYTEA NOT NULL,
  created_at BIGINT NOT NULL
)
"""

_CHILD_INDEXES = (
    "CREATE INDEX idempotency_by_task ON idempotency (bot, task)",
    "CREATE INDEX messages_by_task ON messages (bot, task)",
    "CREATE INDEX quarantine_by_age ON quarantine (bot, at)",
)

_FIRST_KEY = "INSERT INTO button_keys (id, secret, created_at) VALUES (1, $1, $2)"


def statements(dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 1 out of an empty database."""
    yield Statement(_TASKS)
    for sql in _TASK_INDEXES.split(";"):
        yield Statement(sql)
    for table in (_IDEMPOTENCY, _MESSAGES, _HISTORY, _UPDATES):
        yield Statement(table.rstrip() + dialect.clustered)
    yield Statement(_QUARANTINE)
    yield Statement(_BUTTON_KEYS)
    for sql in _CHILD_INDEXES:
        yield Statement(sql)
    yield Statement(_FIRST_KEY, (secrets.token_bytes(32), time.time_ns() // 1_000_000))
