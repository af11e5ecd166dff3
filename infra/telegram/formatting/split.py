"""Long texts become several messages, cut where a reader would pause."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from core.model.visibility import end_of_visible, shows_nothing
from infra.telegram.formatting.marked_text import LARGEST_FORMATTING, MarkedText, Span

LONGEST_TEXT: Final = 4096
"""Characters in one message. Source: https://core.telegram.org/bots/api#sendmessage."""

MOST_ENTITIES: Final = 100
"""Pieces of formatting in one message; Telegram leaves out what is over."""

_BOUNDARIES: Final = tuple(
    re.compile(pattern)
    for pattern in (r"\n[ \t]*\n", r"\n", r"(?<=[.!?…:;])[ \t]|(?<=[\u3002\uff01\uff1f])", r"[ \t]")
)
"""Where to cut, the best first: paragraph, line, sentence (also in Chinese and Japanese), word."""

_FEWEST_SHARE = 2
"""A boundary counts only in the second half of a message, so that no message is a mere scrap."""

_JOINER, _LONGEST_CLUSTER = "\u200d", 64


def split(marked: MarkedText, reserve: int = 0) -> Iterator[MarkedText]:
    """Cut a text into messages of at most 4,096 characters, 100 pieces and 9,500 bytes of formatting.

    Args:
        marked: trimmed.
        reserve: characters to keep free in the last message.

    Yields:
        Messages that show something, each of them trimmed; none when nothing is to be seen.
    """
    if len(marked.text) > LONGEST_TEXT - reserve:
        # What is kept free counts in the last message that is sent, so no blank one may come behind it.
        end = _end(marked.text)
        marked = marked if end == len(marked.text) else marked.piece(0, end)
    begin = 0
    spans = _Ahead(marked.spans)
    while begin < len(marked.text):
        end, after = _cut(marked.text, begin, begin + _room(marked.text, spans, begin, reserve))
        part = marked.piece(begin, end, spans.before(end)).trimmed()
        if not shows_nothing(part.text):
            yield part
        spans.pass_by(after)
        begin = after


def _end(text: str) -> int:
    """Where the last sign that can be seen ends, with what is drawn on it."""
    end = end_of_visible(text)
    furthest = min(len(text), end + _LONGEST_CLUSTER)
    while end < furthest and _belong_together(text, 0, end):
        end += 1
    return end


@dataclass(slots=True)
class _Ahead:
    """The formatting that is not behind us, sorted by start: each message looks at its own only."""

    spans: tuple[Span, ...]
    next: int = 0
    begun: list[Span] = field(default_factory=list)

    def __iter__(self) -> Iterator[Span]:
        return chain(self.begun, map(self.spans.__getitem__, range(self.next, len(self.spans))))

    def before(self, end: int) -> Iterator[Span]:
        """Those that begin before a place."""
        for span in self:
            if span.start >= end:
                return
            yield span

    def pass_by(self, place: int) -> None:
        """Forget those that end up to there."""
        passed = list(self.before(place))
        self.next += len(passed) - len(self.begun)
        self.begun = [span for span in passed if span.end > place]


def _room(text: str, spans: _Ahead, begin: int, reserve: int) -> int:
    """How many characters the message that begins here may take."""
    left = len(text) - begin
    # Unless this is the last message, something must stay for the last one.
    room = left if left <= LONGEST_TEXT - reserve else min(LONGEST_TEXT, left - 1)
    size = 0
    for number, span in enumerate(spans.before(begin + room)):
        size += span.size
        if number >= MOST_ENTITIES or size > LARGEST_FORMATTING:
            return max(min(room, span.start - begin), 1)
    return max(room, 1)


def _cut(text: str, begin: int, limit: int) -> tuple[int, int]:
    """Where the message ends, and where the next one begins: what lies between is not needed."""
    if limit >= len(text):
        return len(text), len(text)
    for boundary in _BOUNDARIES:
        places = [
            found.span()
            for found in boundary.finditer(text, begin + (limit - begin) // _FEWEST_SHARE, limit + 1)
            if begin < found.start() <= limit and not _belong_together(text, begin, found.end())
        ]
        if places:
            return places[-1]
    end = _between_clusters(text, begin, limit)
    return end, end


def _between_clusters(text: str, begin: int, limit: int) -> int:
    """The last place up to `limit` that does not tear apart what a reader sees as one character."""
    for end in range(limit, max(begin, limit - _LONGEST_CLUSTER), -1):
        if not _belong_together(text, begin, end):
            return end
    return limit


def _belong_together(text: str, begin: int, place: int) -> bool:
    """Whether the characters before and after a place are one to the reader, in what begins at `begin`.

    A short form of the rules for extended grapheme clusters. Source: https://unicode.org/reports/tr29/
    """
    if not begin < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if _JOINER in (before, after) or _extends(after) or (before, after) == ("\r", "\n"):
        return True
    if _is_flag(before) and _is_flag(after):
        message = text[begin:place]
        return (len(message) - len(message.rstrip(_FLAGS))) % 2 == 1
    return _is_jamo(before) and _is_jamo(after)


_FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))


def _is_flag(mark: str) -> bool:
    return mark in _FLAGS


def _extends(mark: str) -> bool:
    skin_tone, tag = "\U0001f3fb" <= mark <= "\U0001f3ff", "\U000e0020" <= mark <= "\U000e007f"
    return skin_tone or tag or unicodedata.category(mark) in ("Mn", "Mc", "Me")


def _is_jamo(mark: str) -> bool:
    return "\u1100" <= mark <= "\u11ff" or "\uac00" <= mark <= "\ud7fb" or "\ua960" <= mark <= "\ua97c"
