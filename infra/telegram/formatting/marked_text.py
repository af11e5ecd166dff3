"""Text with its formatting while we work on it: counted in characters, cut and converted at the end."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from core.model.part import Entity, FormattedText

VERBATIM: Final = frozenset({"pre", "code"})
"""Formatting in front of which blanks count: they are indentation."""

LARGEST_FORMATTING: Final = 9_500
"""Bytes of formatting in one message, as `Span.size` counts them.

Measured on Telegram's server: 20 links of 446 characters pass, 25 are refused (`ENTITIES_TOO_LONG`).
"""

LONGEST_ADDRESS: Final = 8_500
"""Bytes of a link's address: with a longer one, nothing else could stand on the same words."""

LONGEST_LANGUAGE: Final = 64
"""Characters of the language of a code block; a longer one is none."""

_CLOSED = VERBATIM | {"date_time"}
_WHOLE = _CLOSED | {"text_link", "text_mention", "custom_emoji"}
_QUOTES = frozenset({"blockquote", "expandable_blockquote"})
_BARE_SPAN = 12  # https://core.telegram.org/type/MessageEntity: its kind, its offset and its length

# Telegram turns control characters into blanks, drops some others, and then trims.
BLANK: Final = "".join(map(chr, range(33))) + "\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
"""What Telegram takes away around a text; it keeps Unicode's other spaces."""
_NOT_BLANK = re.compile(f"[^{re.escape(BLANK)}\u030a\u0333\u033f]")
"""What formatting can stand on: Telegram takes those three marks out of every text.

Source: `clean_input_string_with_entities` in td/telegram/MessageEntity.cpp, https://github.com/tdlib/td
"""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of formatting, from `start` up to but not including `end`, in characters."""

    type: str
    start: int
    end: int
    url: str | None = None
    language: str | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes of a message's `LARGEST_FORMATTING`: place and kind, then what it carries."""
        return _BARE_SPAN + len((self.url or "").encode()) + len((self.language or "").encode())


@dataclass(frozen=True, slots=True)
class MarkedText:
    """Text of any length with its formatting, sorted by start, the outer before the inner."""

    text: str
    spans: tuple[Span, ...] = ()

    @classmethod
    def tidy(cls, text: str, spans: Iterable[Span]) -> MarkedText:
        """Sort the formatting, and leave out what Telegram would not keep.

        Args:
            text: the whole text.
            spans: in any order; of two that cover the same, the outer comes before the inner.
        """
        kept: list[Span] = []
        around: list[Span] = []
        seen_at = 0  # the first character from a span's start on that is not blank; spans come by start
        for span in sorted(spans, key=lambda span: (span.start, -span.end)):
            while around and around[-1].end <= span.start:
                around.pop()
            if seen_at < span.start:
                found = _NOT_BLANK.search(text, span.start)
                seen_at = len(text) if found is None else found.start()
            if seen_at < span.end and not any(_excludes(outer, span) for outer in around):
                kept.append(span)
                around.append(span)
        return cls(text, tuple(kept))

    def piece(self, start: int, end: int, spans: Iterable[Span] | None = None) -> MarkedText:
        """The characters from `start` to `end`, with what of the formatting falls on them.

        Args:
            start: of the piece.
            end: of the piece, not included.
            spans: those that may fall on it, in order; all when left out.
        """
        text = self.text[start:end]
        falling = (
            Span(
                span.type, max(span.start, start) - start, min(span.end, end) - start, span.url, span.language
            )
            for span in (self.spans if spans is None else spans)
            if span.start < end and span.end > start
        )
        return MarkedText(
            text, tuple(span for span in falling if _NOT_BLANK.search(text, span.start, span.end))
        )

    def trimmed(self) -> MarkedText:
        """Without the blanks around it, which Telegram takes away: in front, up to the first formatting."""
        end = len(self.text.rstrip(BLANK))
        start = len(self.text) - len(self.text.lstrip(BLANK))
        verbatim = (span.start for span in self.spans if span.type in VERBATIM)
        start = min(start, next(verbatim, start))
        return self if start == 0 and end == len(self.text) else self.piece(start, max(start, end))

    def for_telegram(self) -> FormattedText:
        """The same, with offsets in UTF-16 units."""
        wide = [] if self.text.isascii() else [i for i, mark in enumerate(self.text) if mark > "\uffff"]
        return FormattedText(self.text, tuple(_entity(span, wide) for span in self.spans))


def carries_formatting(text: str) -> bool:
    """Whether anything of a text is left at Telegram for formatting to stand on."""
    return _NOT_BLANK.search(text) is not None


def _excludes(outer: Span, inner: Span) -> bool:
    """Whether Telegram leaves the inner one out, or, of the same words, perhaps the outer one.

    Nothing stands in code and times, nothing that is whole in a link, no quote in a quote. Code that fills a
    link would cost the link. Source: `fix_entities` in td/telegram/MessageEntity.cpp,
    https://github.com/tdlib/td
    """
    if outer.type in _QUOTES:
        return inner.type in _QUOTES
    if outer.type in _WHOLE:
        return outer.type in _CLOSED or inner.type in _WHOLE | _QUOTES
    return outer.type == inner.type


def _entity(span: Span, wide: Sequence[int]) -> Entity:
    start = span.start + bisect_left(wide, span.start)
    end = span.end + bisect_left(wide, span.end)
    return Entity(span.type, start, end - start, span.url, span.language)
