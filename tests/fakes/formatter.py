"""A formatter that knows no markup and splits by counting."""

from __future__ import annotations

from core.model.errors import Invalid
from core.model.message import Format
from core.model.part import FormattedText

TELEGRAM_LIMIT = 4096


class PlainFormatter:
    """The port `Formatter`; takes any markup as it stands and splits after `limit` characters.

    The word `BROKEN` in a text stands for markup that Telegram would refuse.

    Args:
        limit: characters of one Telegram message; a small one makes long texts short.
        room: characters kept free in the last part when any are to be reserved; None reserves what is
            asked for.
    """

    def __init__(self, limit: int = TELEGRAM_LIMIT, room: int | None = None) -> None:
        self.limit = limit
        self._room = room

    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        """See `core.ports.Formatter.format`."""
        if "BROKEN" in text:
            raise Invalid.field("/text", f"This is no {markup} at character {text.index('BROKEN')}.")
        if not text:
            raise Invalid.field("/text", "Say something: the text is empty.")
        room = reserve if self._room is None else min(self._room, reserve)
        pieces = [text[at : at + self.limit] for at in range(0, len(text), self.limit)]
        if len(pieces[-1]) > self.limit - room:
            last = pieces.pop()
            pieces += [last[: self.limit - room], last[self.limit - room :]]
        return tuple(FormattedText(piece) for piece in pieces)
