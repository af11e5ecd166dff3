"""CommonMark, turned into text and formatting that Telegram has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.telegram.formatting.links import link, sign
from infra.telegram.formatting.marked_text import LONGEST_LANGUAGE, MarkedText, Span, carries_formatting
from infra.telegram.formatting.tables import Table

if TYPE_CHECKING:
    from markdown_it.token import Token

_BLOCK_GAP, _LINE_GAP = 2, 1
_RULE, _BULLET = "———", "• "

_PAIRS: Final[Mapping[str, str]] = {
    "strong": "bold",
    "em": "italic",
    "s": "strikethrough",
    "heading": "bold",
    "blockquote": "blockquote",
}


def read_markdown(source: str) -> MarkedText:
    """Text and formatting of CommonMark with strikethrough and tables; raw HTML is text like any other.

    Source: https://spec.commonmark.org/0.31.2/
    """
    from infra.telegram.formatting.reader import commonmark  # noqa: PLC0415 - 80 ms, for Markdown only

    page = _Page()
    tokens = iter(commonmark().parse(source))
    for token in tokens:
        if token.type == "table_open":
            page.table(Table.read(tokens))
        else:
            page.take(token)
    return page.finished()


@dataclass(frozen=True, slots=True)
class _Begun:
    """Formatting that has not ended yet: where it began, in characters and in pieces."""

    kind: str
    start: int
    piece: int
    url: str | None


class _Page:
    """The text as it grows; blank lines between blocks are written only when something follows."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._gap = 0
        self._at_start = False  # right after a list item's mark or at a quote's start: no new line here
        self._open: list[_Begun] = []
        self._spans: list[Span] = []
        self._indents: list[str] = []
        self._lists: list[int | None] = []

    def finished(self) -> MarkedText:
        return MarkedText.tidy("".join(self._pieces), reversed(self._spans))

    def take(self, token: Token) -> None:
        """Write one token of the parser."""
        if token.type == "inline":
            self._inline(token)
            return
        kind, _, side = token.type.rpartition("_")
        if side in {"open", "close"}:
            self._border(kind, side, token)
        else:
            self._leaves[token.type](self, token)

    def table(self, table: Table) -> None:
        """Write a table so that it can be read on a phone: in columns when they fit, else row by row."""
        self._ask_gap(_BLOCK_GAP)
        if columns := table.in_columns():
            self._verbatim(columns, None)
        elif table.rows and table.may_repeat_heads:
            self._rows_with_heads(table)
        else:
            self._begin("bold")
            self._cells(table.heads)
            self._end()
            for row in table.rows:
                self._ask_gap(_LINE_GAP)
                self._cells(row)
        self._ask_gap(_BLOCK_GAP)

    def _rows_with_heads(self, table: Table) -> None:
        """Each row as a paragraph: its first cell in bold, the others below it, each behind its head."""
        for row in table.rows:
            self._ask_gap(_BLOCK_GAP)
            for number, (head, cell) in enumerate(zip(table.labels, row, strict=True)):
                if not cell.content:
                    continue
                self._ask_gap(_LINE_GAP)
                if number == 0:
                    self._begin("bold")
                self._write(f"{head}: " if head else "")
                self._inline(cell)
                if number == 0:
                    self._end()

    def _cells(self, cells: list[Token]) -> None:
        """Cells in one line."""
        for number, cell in enumerate(cells):
            self._write(" · " if number else "")
            self._inline(cell)

    def _inline(self, token: Token) -> None:
        for child in token.children or ():
            self.take(child)

    # Leaves: tokens that have text of their own.

    def _text(self, token: Token) -> None:
        self._write(token.content)

    def _line_break(self, _token: Token) -> None:
        self._ask_gap(_LINE_GAP)

    def _inline_code(self, token: Token) -> None:
        self._begin("code")
        self._write(token.content)
        self._end()

    def _code_block(self, token: Token) -> None:
        self._ask_gap(_BLOCK_GAP)
        language = next(iter(token.info.split()), "")
        self._verbatim(
            token.content.rstrip("\n"), language if 0 < len(language) <= LONGEST_LANGUAGE else None
        )
        self._ask_gap(_BLOCK_GAP)

    def _verbatim(self, text: str, language: str | None) -> None:
        self._close_gap(indent=False)
        self._begin("pre")
        self._append(text)
        self._end(language)

    def _image(self, token: Token) -> None:
        address = str(token.attrs.get("src", ""))
        made = sign(address) if token.content else None
        if made is None:
            self._begin_link(address)
            self._write(token.content)
            self._end_link()
        else:
            self._begin(*made)
            self._write(token.content)
            self._end()

    def _rule(self, _token: Token) -> None:
        self._ask_gap(_BLOCK_GAP)
        self._write(_RULE)
        self._ask_gap(_BLOCK_GAP)

    _leaves: Mapping[str, Callable[[_Page, Token], None]] = {
        "text": _text,
        "text_special": _text,
        "softbreak": _line_break,
        "hardbreak": _line_break,
        "code_inline": _inline_code,
        "fence": _code_block,
        "code_block": _code_block,
        "image": _image,
        "hr": _rule,
    }

    # Borders: where something begins or ends.

    def _border(self, kind: str, side: str, token: Token) -> None:
        opens = side == "open"
        if kind == "link":
            self._begin_link(str(token.attrs.get("href", ""))) if opens else self._end_link()
        elif kind in {"bullet_list", "ordered_list"}:
            self._list(token, opens=opens)
        elif kind == "list_item":
            self._item(opens=opens)
        else:
            if token.block:
                # In a tight list, paragraphs are hidden and stand close together.
                self._ask_gap(_LINE_GAP if token.hidden else _BLOCK_GAP)
            if kind in _PAIRS and opens:
                self._begin(_PAIRS[kind])
                self._at_start = True
            elif kind in _PAIRS:
                self._end()

    def _list(self, token: Token, *, opens: bool) -> None:
        self._ask_gap(_LINE_GAP if self._lists else _BLOCK_GAP)
        if not opens:
            self._lists.pop()
            if not self._lists:
                self._ask_gap(_BLOCK_GAP)
        elif token.type.startswith("ordered"):
            self._lists.append(int(token.attrs.get("start", 1)))
        else:
            self._lists.append(None)

    def _item(self, *, opens: bool) -> None:
        self._at_start = False
        self._ask_gap(_LINE_GAP)
        if not opens:
            self._indents.pop()
            return
        number = self._lists[-1]
        marker = _BULLET if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1
        self._write(marker)
        self._at_start = True
        self._indents.append(" " * len(marker))

    # Writing.

    def _ask_gap(self, lines: int) -> None:
        if not self._at_start:
            self._gap = max(self._gap, lines)

    def _close_gap(self, *, indent: bool = True) -> None:
        if self._gap and self._length:
            self._append("\n" * self._gap + ("".join(self._indents) if indent else ""))
        self._gap = 0

    def _write(self, text: str) -> None:
        if text:
            self._close_gap()
            self._append(text)

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)
        self._at_start = False

    def _begin(self, kind: str, url: str | None = None) -> None:
        self._close_gap()
        self._open.append(_Begun(kind, self._length, len(self._pieces), url))

    def _end(self, language: str | None = None) -> None:
        begun = self._open.pop()
        self._spans.append(Span(begun.kind, begun.start, self._length, begun.url, language))

    def _begin_link(self, address: str) -> None:
        self._begin("", address)

    def _end_link(self) -> None:
        """End a link; an address that Telegram does not open is shown behind the link's text."""
        begun = self._open.pop()
        address = begun.url or ""
        shown = "".join(self._pieces[begun.piece :])
        made = link(address)
        if not carries_formatting(shown):
            self._write(address)
        elif made is None and address and shown not in {address, address.removeprefix("mailto:")}:
            self._write(f" ({address})")
        if made is not None:
            self._spans.append(Span(made[0], begun.start, self._length, made[1]))
