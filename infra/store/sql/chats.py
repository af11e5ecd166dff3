"""The store of chats: what Telegram has said about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from pydantic import TypeAdapter

from core.jobs.chats import EVERY_CHAT, SOON, ChatNote
from core.model.task import Failure
from core.policy.policy import ChatId
from infra.store.sql import steps
from infra.store.sql.rows import milliseconds, to_time
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import Row, Statement, Transaction

_NOTES = "SELECT chat, paused_until, unreachable_until, unreachable, migrated_to FROM chats WHERE bot = $1"
_PAUSE = """
INSERT INTO chats (bot, chat, paused_at, paused_until) VALUES ($1, $2, $3, $4)
ON CONFLICT (bot, chat) DO UPDATE SET paused_at = excluded.paused_at,
  paused_until = CASE WHEN chats.paused_until > excluded.paused_until
    THEN chats.paused_until ELSE excluded.paused_until END
"""
_OTHERS_PAUSED = """
SELECT chat FROM chats WHERE bot = $1 AND chat <> $2 AND chat <> '' AND paused_at > $3 LIMIT 1
"""
_UNREACHABLE = """
INSERT INTO chats (bot, chat, unreachable_until, unreachable) VALUES ($1, $2, $3, $4)
ON CONFLICT (bot, chat) DO UPDATE SET unreachable_until = excluded.unreachable_until,
  unreachable = excluded.unreachable
"""
_REACHABLE = "UPDATE chats SET unreachable_until = NULL, unreachable = NULL WHERE bot = $1 AND chat = $2"
_MOVE = """
INSERT INTO chats (bot, chat, migrated_to) VALUES ($1, $2, $3)
ON CONFLICT (bot, chat) DO UPDATE SET migrated_to = excluded.migrated_to
"""
_FAILURE = TypeAdapter(Failure)


class SqlChatStore(Rows):
    """The port `ChatStore`, in SQL."""

    async def chat_notes(self, chats: Collection[ChatId] | None) -> Sequence[ChatNote]:
        """See `core.jobs.chats.ChatStore.chat_notes`."""
        rows = await self.database.read(lambda: steps.rows_of(_notes(self.bot, chats)))
        return [_note(row) for row in rows]

    async def pause_chat(self, chat: ChatId, now: datetime, until: datetime) -> None:
        """See `core.jobs.chats.ChatStore.pause_chat`."""
        await self._write(lambda: _pause(self.bot, str(chat), now, until))

    async def keep_chat_unreachable(self, chat: ChatId, until: datetime, failure: Failure) -> None:
        """See `core.jobs.chats.ChatStore.keep_chat_unreachable`."""
        told = _FAILURE.dump_json(failure).decode()
        await self._do(Statement(_UNREACHABLE, (self.bot, str(chat), milliseconds(until), told)))

    async def forget_chat_unreachable(self, chat: ChatId) -> None:
        """See `core.jobs.chats.ChatStore.forget_chat_unreachable`."""
        await self._do(Statement(_REACHABLE, (self.bot, str(chat))))

    async def move_chat(self, chat: ChatId, to: int) -> None:
        """See `core.jobs.chats.ChatStore.move_chat`."""
        await self._do(Statement(_MOVE, (self.bot, str(chat), str(to))))

    async def _do(self, statement: Statement) -> None:
        await self._write(lambda: steps.rows_of(statement))


def _notes(bot: int, chats: Collection[ChatId] | None) -> Statement:
    if chats is None:
        return Statement(_NOTES, (bot,))
    places = ", ".join(f"${number}" for number in range(2, len(chats) + 2))
    return Statement(f"{_NOTES} AND chat IN ({places})", (bot, *map(str, chats)))


def _note(row: Row) -> ChatNote:
    chat, paused_until, unreachable_until, unreachable, migrated_to = row
    return ChatNote(
        chat=chat if chat == EVERY_CHAT or chat.startswith("@") else int(chat),
        paused_until=None if paused_until is None else to_time(paused_until),
        unreachable_until=None if unreachable_until is None else to_time(unreachable_until),
        failure=None if unreachable is None else _FAILURE.validate_json(unreachable),
        migrated_to=None if migrated_to is None else int(migrated_to),
    )


def _pause(bot: int, chat: str, now: datetime, until: datetime) -> Transaction[None]:
    times = (milliseconds(now), milliseconds(until))
    yield Statement(_PAUSE, (bot, chat, *times))
    if (yield Statement(_OTHERS_PAUSED, (bot, chat, milliseconds(now - SOON)))):
        yield Statement(_PAUSE, (bot, EVERY_CHAT, *times))
