"""The store of chats: what Telegram has said about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from pydantic import TypeAdapter

from core.model.chat import ChatId, ChatNote
from core.model.failure import Failure
from core.model.job import TELEGRAM
from infra.store.sql.base import SqlStore
from infra.store.sql.rows import milliseconds, to_time
from infra.store.sql.transactions import Row, Sql, Statement, Transaction, rows_of

_NOTES = "SELECT chat, unreachable_until, unreachable, migrated_to FROM telegate_chats WHERE bot = $1"
_UNREACHABLE = """
INSERT INTO telegate_chats (bot, chat, unreachable_until, unreachable) VALUES ($1, $2, $3, $4)
ON CONFLICT (bot, chat) DO UPDATE SET unreachable_until = excluded.unreachable_until,
  unreachable = excluded.unreachable
"""
_REACHABLE = """
UPDATE telegate_chats SET unreachable_until = NULL, unreachable = NULL WHERE bot = $1 AND chat = $2
"""
_MOVE = """
INSERT INTO telegate_chats (bot, chat, migrated_to) VALUES ($1, $2, $3)
ON CONFLICT (bot, chat) DO UPDATE SET migrated_to = excluded.migrated_to
"""
# Who locks several rows does so in the order of their ids, lest two wait for each other.
_MOVE_JOBS = Sql(
    sqlite="UPDATE telegate_jobs SET lane = $4 WHERE bot = $1 AND queue = $2 AND lane = $3",
    postgres="""
UPDATE telegate_jobs SET lane = $4 WHERE id IN (
  SELECT id FROM telegate_jobs WHERE bot = $1 AND queue = $2 AND lane = $3 ORDER BY id FOR UPDATE)
""",
)
_MOVE_HOLD = """
INSERT INTO telegate_lanes (bot, queue, lane, held_at, held_until)
SELECT bot, queue, CAST($4 AS TEXT), held_at, held_until FROM telegate_lanes
WHERE bot = $1 AND queue = $2 AND lane = $3
ON CONFLICT (bot, queue, lane) DO UPDATE SET held_at = excluded.held_at,
  held_until = CASE WHEN telegate_lanes.held_until > excluded.held_until
    THEN telegate_lanes.held_until ELSE excluded.held_until END
"""
_DROP_HOLD = "DELETE FROM telegate_lanes WHERE bot = $1 AND queue = $2 AND lane = $3"
_FAILURE = TypeAdapter(Failure)


class SqlChatStore(SqlStore):
    """The port `ChatStore`, in SQL."""

    async def chat_notes(self, chats: Collection[ChatId] | None) -> Sequence[ChatNote]:
        """See `core.ports.ChatStore.chat_notes`."""
        rows = await self.database.read(lambda: rows_of(_notes(self.bot, chats)))
        return [_note(row) for row in rows]

    async def keep_chat_unreachable(self, chat: ChatId, until: datetime, failure: Failure) -> None:
        """See `core.ports.ChatStore.keep_chat_unreachable`."""
        stored = _FAILURE.dump_json(failure).decode()
        statement = Statement(_UNREACHABLE, (self.bot, str(chat), milliseconds(until), stored))
        await self._write(lambda: rows_of(statement))

    async def forget_chat_unreachable(self, chat: ChatId) -> None:
        """See `core.ports.ChatStore.forget_chat_unreachable`."""
        statement = Statement(_REACHABLE, (self.bot, str(chat)))
        await self._write(lambda: rows_of(statement))

    async def move_chat(self, chat: ChatId, to: int) -> None:
        """See `core.ports.ChatStore.move_chat`."""
        await self._write(lambda: _move(self.bot, str(chat), str(to)))


def _notes(bot: int, chats: Collection[ChatId] | None) -> Statement:
    if chats is None:
        return Statement(_NOTES, (bot,))
    places = ", ".join(f"${number}" for number in range(2, len(chats) + 2))
    return Statement(f"{_NOTES} AND chat IN ({places})", (bot, *map(str, chats)))


def _note(row: Row) -> ChatNote:
    chat, unreachable_until, unreachable, migrated_to = row
    return ChatNote(
        chat=chat if chat.startswith("@") else int(chat),
        unreachable_until=None if unreachable_until is None else to_time(unreachable_until),
        failure=None if unreachable is None else _FAILURE.validate_json(unreachable),
        migrated_to=None if migrated_to is None else int(migrated_to),
    )


def _move(bot: int, chat: str, to: str) -> Transaction[None]:
    yield Statement(_MOVE, (bot, chat, to))
    yield Statement(_MOVE_JOBS, (bot, TELEGRAM, chat, to))
    if (yield Statement(_MOVE_HOLD, (bot, TELEGRAM, chat, to))):
        yield Statement(_DROP_HOLD, (bot, TELEGRAM, chat))
