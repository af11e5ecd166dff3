"""Text with its formatting while we work on it: counted in characters, cut and converted at the end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.model.message import UNSEEN
from core.model.part import Entity, FormattedText

VERBATIM: Final = frozenset({"pre", "code"})
"""Formatting inside which there is no other. Source: https://core.telegram.org/bots/api#formatting-options."""

_QUOTES = frozenset({"blockquote", "expandable_blockquote"})

# Telegram turns control characters into blanks, drops some others, and then trims.
BLANK: Final = "".join(map(chr, range(33))) + "\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
"""Those of `UNSEEN` that Telegram takes away around a text; it keeps Unicode's other spaces."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of formatting, from `start` up to but not including `end`, in characters."""

    type: str
    start: int
    end: int
    url: str | None = None
    language: str | None = None


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
        for span in sorted(spans, key=lambda span: (span.start, -span.end)):
            while around and around[-1].end <= span.start:
                around.pop()
            blank = not text[span.start : span.end].strip(BLANK)
            if not blank and not any(_excludes(outer, span) for outer in around):
                kept.append(span)
                around.append(span)
        return cls(text, tuple(kept))

    def piece(self, start: int, end: int) -> MarkedText:
        """The characters from `start` to `end`, with what of the formatting falls on them."""
        text = self.text[start:end]
        spans = (
            replace(span, start=max(span.start, start) - start, end=min(span.end, end) - start)
            for span in self.spans
            if span.start < end and span.end > start
        )
        return MarkedText(text, tuple(span for span in spans if text[span.start : span.end].strip(BLANK)))

    @property
    def shows_nothing(self) -> bool:
        """Whether a reader would see an empty message; Telegram refuses it."""
        return not self.text.strip(UNSEEN)

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


def _excludes(outer: Span, inner: Span) -> bool:
    both_quotes = outer.type in _QUOTES and inner.type in _QUOTES
    return outer.type in VERBATIM or outer.type == inner.type or both_quotes


def _entity(span: Span, wide: Sequence[int]) -> Entity:
    start = span.start + bisect_left(wide, span.start)
    end = span.end + bisect_left(wide, span.end)
    return Entity(span.type, start, end - start, span.url, span.language)
