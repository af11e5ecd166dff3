"""The chat book: what Telegram has said about chats. Nobody is there, or the group has moved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.model.chat import ChatId, ChatNote
from core.model.errors import StorageUnavailable
from core.model.failure import Failure
from core.ports import ChatStore

log = logging.getLogger("telegate.chats")

REFRESH_EVERY = 5.0
"""Seconds after which a process knows what another one has noted about a chat that it does not call."""

FAIL_FAST = timedelta(minutes=10)
"""So long nobody calls Telegram again for a chat that it cannot reach, unless the person writes."""


@dataclass(slots=True)
class ChatBook:
    """What this process knows about chats, kept in the database so that it outlives the process.

    Attributes:
        shared: whether other processes write notes too, so that they have to be read each time.
        moves: the supergroup of each group that has become one, as far as this process knows.
    """

    store: ChatStore
    shared: bool = False
    moves: Mapping[ChatId, ChatId] = field(default_factory=dict)
    _notes: dict[ChatId, ChatNote] = field(default_factory=dict)
    _loaded: bool = False

    async def note(self, chat: ChatId) -> ChatNote:
        """What is known about a chat. When the database is unavailable, what was known last counts."""
        try:
            if self.shared and self._loaded:
                await self._learn((chat,))
            else:
                await self.ready()
        except StorageUnavailable as error:
            log.warning(
                "The notes about a chat could not be read; the last known ones count: %s",
                error.detail,
                extra={"action": "chat_notes_unread"},
            )
        return self._notes.get(chat) or ChatNote(chat)

    async def unreachable(self, chat: ChatId, now: datetime, failure: Failure) -> None:
        """Telegram cannot reach this chat; for a while it need not be asked again."""
        await self.store.keep_chat_unreachable(chat, now + FAIL_FAST, failure)
        await self._learn((chat,))

    async def reached(self, chat: ChatId) -> None:
        """Somebody has written there: whatever kept Telegram from reaching it may be over."""
        await self.ready()
        known = self._notes.get(chat)
        if known is not None and known.unreachable_until is not None:
            await self.store.forget_chat_unreachable(chat)
            await self._learn((chat,))

    async def moved(self, chat: ChatId, to: int) -> None:
        """A group has become a supergroup."""
        log.warning(
            "The group %s has become the supergroup %s. Messages go there now; write the new id wherever "
            "the old one stands.",
            chat,
            to,
            extra={"action": "chat_migrated", "chat": chat, "migrated_to": to},
        )
        await self.store.move_chat(chat, to)
        await self._learn((chat,))

    def is_same(self, chat: ChatId, other: ChatId) -> bool:
        """Whether these are one chat: a group and the supergroup that it has become are.

        Call `ready` before; what another process has learned is known here within `REFRESH_EVERY`.
        """
        moved = self._notes.get(chat)
        return chat == other or (moved is not None and moved.migrated_to == other)

    async def ready(self) -> None:
        """Know what earlier processes have noted.

        Raises:
            StorageUnavailable: it could not be read.
        """
        if not self._loaded:
            await self._learn(None)
            self._loaded = True

    async def run(self) -> None:
        """Learn what other processes note, for as long as this one lives; with nobody else, return."""
        while self.shared:
            try:
                await self._learn(None)
                self._loaded = True
            except StorageUnavailable as error:
                log.debug(
                    "The notes about chats could not be read: %s",
                    error.detail,
                    extra={"action": "chat_notes_unread"},
                )
            await asyncio.sleep(REFRESH_EVERY)

    async def _learn(self, chats: Collection[ChatId] | None) -> None:
        found: Mapping[ChatId, ChatNote] = {note.chat: note for note in await self.store.chat_notes(chats)}
        self._notes = {**self._notes, **found} if chats is not None else dict(found)
        moves = {chat: note.migrated_to for chat, note in self._notes.items() if note.migrated_to is not None}
        if moves != self.moves:
            self.moves = moves
