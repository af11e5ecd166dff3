"""Pauses that Telegram asks for: a chat waits when it is told to, the whole bot when two chats are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

SOON = timedelta(seconds=5)
"""Two chats told to wait within this time mean that the bot as a whole is too fast."""


@dataclass(slots=True)
class Pauses:
    """Until when nothing may be sent to a chat, or at all, as this process was told (status 429)."""

    _chats: dict[int | str, datetime] = field(default_factory=dict)
    _bot: datetime | None = None
    _last: tuple[int | str, datetime] | None = None

    def note(self, chat: int | str, now: datetime, until: datetime) -> None:
        """Telegram has told this chat to wait."""
        self._chats = {other: end for other, end in self._chats.items() if end > now}
        self._chats[chat] = max(until, self._chats.get(chat, until))
        if self._last is not None and self._last[0] != chat and now - self._last[1] < SOON:
            self._bot = until if self._bot is None else max(until, self._bot)
        self._last = (chat, now)

    def end(self, chat: int | str, now: datetime) -> datetime | None:
        """When the next call for this chat may be made; None for now."""
        ends = [end for end in (self._chats.get(chat), self._bot) if end is not None and end > now]
        return max(ends, default=None)
