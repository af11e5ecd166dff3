"""Tables of a text, which Telegram's messages do not have."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from markdown_it.token import Token

PHONE_COLUMNS: Final = 30
"""Signs of a fixed width that a phone of 360 pixels shows in one line."""

MOST_REPEATED: Final = 8_192
"""Characters that heads in front of each cell may take in all: a text must not grow out of bounds."""

_GAP = "  "
_PLAIN = frozenset({"text", "text_special", "code_inline"})
_MARKS = frozenset({"strong_open", "strong_close", "em_open", "em_close", "s_open", "s_close"})


@dataclass(slots=True)
class Table:
    """A table: each cell is a token of the kind `inline`, each row as long as the heads."""

    heads: list[Token] = field(default_factory=list)
    rows: list[list[Token]] = field(default_factory=list)

    @classmethod
    def read(cls, tokens: Iterator[Token]) -> Table:
        """Take the tokens of a table, up to its end."""
        rows: list[list[Token]] = []
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token)
            elif token.type == "table_close":
                break
        return cls(rows[0], rows[1:])

    @property
    def labels(self) -> list[str]:
        """The heads without formatting."""
        return [_text(head) for head in self.heads]

    @property
    def may_repeat_heads(self) -> bool:
        """Whether there is room for the heads in each row."""
        return sum(map(len, self.labels)) * len(self.rows) <= MOST_REPEATED

    def in_columns(self) -> str:
        """The table as lines of columns; empty when a phone would break the lines or a link would be lost."""
        cells = [self.heads, *self.rows]
        if not all(_is_plain(cell) for row in cells for cell in row):
            return ""
        texts = [[_text(cell) for cell in row] for row in cells]
        widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
        if sum(widths) + len(_GAP) * (len(widths) - 1) > PHONE_COLUMNS:
            return ""
        return "\n".join(_line(row, widths) for row in texts)


def _line(cells: list[str], widths: list[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join(padded).rstrip()


def _is_plain(cell: Token) -> bool:
    return all(child.type in _PLAIN | _MARKS for child in cell.children or ())


def _text(cell: Token) -> str:
    return "".join(child.content for child in cell.children or () if child.type in _PLAIN)


def _width(text: str) -> int:
    """Columns that a text takes; Chinese, Japanese and Korean signs and emoji take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(mark) else 1 + (unicodedata.east_asian_width(mark) in "WF")
        for mark in text
    )
