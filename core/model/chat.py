"""Chats: where messages go, and what Telegram has said about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from core.model.failure import Failure

ChatId: TypeAlias = int | str
"""A chat as Telegram knows it: its numeric id, or `@channel` in lower case."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Where a message goes.

    Attributes:
        id: Telegram's numeric chat id, or `@name` of a public channel.
        alias: its name in permissions.yaml, when it has one.
        topic: a forum topic's id (Telegram's `message_thread_id`), or None.
    """

    id: int | str
    alias: str | None = None
    topic: int | None = None

    @property
    def is_private(self) -> bool:
        """Whether this is one person's chat with the bot (Telegram gives persons positive ids)."""
        return isinstance(self.id, int) and self.id > 0


@dataclass(frozen=True, slots=True)
class ChatNote:
    """What is known about one chat.

    Attributes:
        chat: its id, or `@channel`.
        unreachable_until: until then `failure` is told without asking Telegram again.
        failure: what Telegram said when it could not reach the chat.
        migrated_to: the supergroup that this group has become.
    """

    chat: ChatId
    unreachable_until: datetime | None = None
    failure: Failure | None = None
    migrated_to: int | None = None

    def reason_not_to_call(self, now: datetime) -> Failure | None:
        """Why a call would be refused, as Telegram has said lately; None when it may be tried."""
        late = self.unreachable_until is None or self.unreachable_until <= now
        return None if late else self.failure
