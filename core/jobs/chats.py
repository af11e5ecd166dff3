"""What Telegram has said about chats: wait, nobody there, moved."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from core.model.errors import StorageUnavailable
from core.model.task import Failure
from core.policy.policy import ChatId

log = logging.getLogger("telegate.chats")

EVERY_CHAT = ""
"""The name under which a note is about the bot as a whole."""

SOON = timedelta(seconds=5)
"""Two chats told to wait within this time mean that the bot as a whole is too fast."""

REFRESH_EVERY = 5.0
"""Seconds after which a process knows what another one has noted about a chat that it does not call."""

FAIL_FAST = timedelta(minutes=10)
"""So long nobody calls Telegram again for a chat that it cannot reach, unless the person writes."""


@dataclass(frozen=True, slots=True)
class ChatNote:
    """What is known about one chat.

    Attributes:
        chat: its id, `@channel`, or `EVERY_CHAT`.
        paused_until: Telegram has said "too many" (429); no call for this chat before.
        unreachable_until: until then `failure` is told without asking Telegram again.
        failure: what Telegram said when it could not reach the chat.
        migrated_to: the supergroup that this group has become.
    """

    chat: ChatId
    paused_until: datetime | None = None
    unreachable_until: datetime | None = None
    failure: Failure | None = None
    migrated_to: int | None = None

    def pause_end(self, now: datetime) -> datetime | None:
        """When the next call for this chat may be made; None for now."""
        return None if self.paused_until is None or self.paused_until <= now else self.paused_until

    def reason_not_to_call(self, now: datetime) -> Failure | None:
        """Why a call would be refused, as Telegram has said lately; None when it may be tried."""
        late = self.unreachable_until is None or self.unreachable_until <= now
        return None if late else self.failure


class ChatStore(Protocol):
    """The notes about chats. Every method is one transaction; all raise `StorageUnavailable`."""

    async def chat_notes(self, chats: Collection[ChatId] | None) -> Sequence[ChatNote]:
        """The notes about these chats, or about all."""

    async def pause_chat(self, chat: ChatId, now: datetime, until: datetime) -> None:
        """Telegram has told this chat to wait; a second chat within `SOON` pauses every chat."""

    async def keep_chat_unreachable(self, chat: ChatId, until: datetime, failure: Failure) -> None:
        """Telegram cannot reach this chat."""

    async def forget_chat_unreachable(self, chat: ChatId) -> None:
        """It may be reachable again."""

    async def move_chat(self, chat: ChatId, to: int) -> None:
        """This group has become that supergroup."""


@dataclass(slots=True)
class ChatBook:
    """What this process knows about chats, kept in the database so that it outlives the process.

    Attributes:
        shared: whether other processes write notes too, so that they have to be read each time.
        jitter: gives a number from 0 to 1.
        pauses: how often Telegram has told this process to wait.
    """

    store: ChatStore
    shared: bool = False
    jitter: Callable[[], float] = random.random
    pauses: int = 0
    _notes: dict[ChatId, ChatNote] = field(default_factory=dict)
    _loaded: bool = False

    async def note(self, chat: ChatId) -> ChatNote:
        """What is known about a chat, with the pause of the whole bot when that is longer.

        When the database is away, what was known last counts.
        """
        try:
            await self._read(chat)
        except StorageUnavailable as error:
            log.warning(
                "What Telegram said about a chat could not be read; what was known last counts: %s",
                error.detail,
                extra={"action": "chat_notes_unread"},
            )
        note = self._notes.get(chat) or ChatNote(chat)
        pause = self.bot_pause
        if pause is not None and (note.paused_until is None or note.paused_until < pause):
            note = replace(note, paused_until=pause)
        return note

    async def pause_end(self, chat: ChatId, now: datetime) -> datetime | None:
        """When the next call for this chat may be made; None for now."""
        return (await self.note(chat)).pause_end(now)

    @property
    def bot_pause(self) -> datetime | None:
        """Until when no chat may be called, as far as is known here."""
        whole = self._notes.get(EVERY_CHAT)
        return None if whole is None else whole.paused_until

    async def pause(self, chat: ChatId, now: datetime, seconds: float) -> None:
        """Telegram has told this chat to wait; up to a tenth more spreads what waits for the same end."""
        longer = seconds * (1 + 0.1 * self.jitter())
        await self.store.pause_chat(chat, now, now + timedelta(seconds=longer))
        self.pauses += 1
        await self._learn((chat, EVERY_CHAT))

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
            await self._refresh()

    async def run(self) -> None:
        """Learn what other processes note, for as long as this one lives; with nobody else, return."""
        while self.shared:
            try:
                await self._refresh()
            except StorageUnavailable as error:
                log.debug(
                    "What is noted about chats could not be read: %s",
                    error.detail,
                    extra={"action": "chat_notes_unread"},
                )
            await asyncio.sleep(REFRESH_EVERY)

    async def _refresh(self) -> None:
        await self._learn(None)
        self._loaded = True

    async def _read(self, chat: ChatId) -> None:
        if self.shared and self._loaded:
            await self._learn((chat, EVERY_CHAT))
        else:
            await self.ready()

    async def _learn(self, chats: Collection[ChatId] | None) -> None:
        found: Mapping[ChatId, ChatNote] = {note.chat: note for note in await self.store.chat_notes(chats)}
        self._notes = {**self._notes, **found} if chats is not None else dict(found)
