"""Schema 2: what Telegram said about chats, and an index of what is not sent yet.

A row of `chats` whose `chat` is empty is about the bot as a whole. Times are milliseconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement

_CHATS = """
CREATE TABLE chats (
  bot               BIGINT NOT NULL,
  chat              TEXT NOT NULL,
  paused_at         BIGINT,
  paused_until      BIGINT,
  unreachable_until BIGINT,
  unreachable       TEXT,
  migrated_to       TEXT,
  PRIMARY KEY (bot, chat)
)
"""

# A chat's messages go out in the order in which they were accepted: the first one of each chat is looked for.
_UNSENT = "CREATE INDEX tasks_unsent ON tasks (bot, chat, id) WHERE state IN ('queued', 'sending')"


def statements(dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 2 out of schema 1."""
    yield Statement(_CHATS.rstrip() + dialect.clustered)
    yield Statement(_UNSENT)
