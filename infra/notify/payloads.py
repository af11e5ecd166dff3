"""What travels on the channel: words with blanks between them, since ids contain none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

CHANNEL: Final = "telegate_hints"
"""One for all bots and all versions; whoever does not understand a payload ignores it."""

MOST_IDS: Final = 20
"""Of tasks in one payload. PostgreSQL allows 7,999 bytes; this is under 800.

Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

Kind: TypeAlias = Literal["hints", "follow", "echo"]

_KINDS: Final[dict[str, Kind]] = {"hints": "hints", "follow": "follow", "echo": "echo"}
_FEWEST_WORDS = 4


@dataclass(frozen=True, slots=True)
class Payload:
    """One notification.

    Attributes:
        kind: `hints` for everybody else, the wish to `follow` tasks, or an `echo` for the sender itself.
        bot: the numeric id of the bot whose tasks these are; a database may hold several bots.
        sender: the waker that sent it.
        words: ids of tasks, or the one word that is to come back.
    """

    kind: Kind
    bot: int
    sender: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.kind, str(self.bot), self.sender, *self.words))

    @classmethod
    def parsed(cls, text: str) -> Payload | None:
        """What somebody sent, or None when it is nothing that this version understands."""
        kind, *rest = text.split(" ")
        if (
            kind not in _KINDS
            or len(rest) < _FEWEST_WORDS - 1
            or not (rest[0].isascii() and rest[0].isdigit())
        ):
            return None
        return cls(_KINDS[kind], int(rest[0]), rest[1], tuple(rest[2:]))


def packed(bot: int, sender: str, task_ids: Iterable[str], kind: Kind = "hints") -> list[Payload]:
    """What is to be said of these tasks, in as few payloads as they fit."""
    rest = iter(task_ids)
    return [Payload(kind, bot, sender, ids) for ids in iter(lambda: tuple(islice(rest, MOST_IDS)), ())]
