"""CommonMark, turned into text and formatting that Telegram has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from infra.telegram.formatting.links import is_link, names_person
from infra.telegram.formatting.marked_text import MarkedText, Span
from infra.telegram.payloads import PERSON_MENTION

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
    """Text and formatting of CommonMark with strikethrough; raw HTML is text like any other.

    Source: https://spec.commonmark.org/0.31.2/
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - 80 ms that only a Markdown message needs

    reader = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
    page = _Page()
    for token in reader.parse(source):
        if token.type == "inline":
            for child in token.children or ():
                page.take(child)
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
        kind, _, side = token.type.rpartition("_")
        if side in {"open", "close"}:
            self._border(kind, side, token)
        else:
            self._leaves[token.type](self, token)

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
        self._close_gap(indent=False)
        self._begin("pre")
        self._append(token.content.rstrip("\n"))
        self._end(next(iter(token.info.split()), None))
        self._ask_gap(_BLOCK_GAP)

    def _image(self, token: Token) -> None:
        address = str(token.attrs.get("src", ""))
        self._begin("text_link", address)
        self._write(token.content or address)
        self._end_link()

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
            self._begin("text_link", str(token.attrs.get("href", ""))) if opens else self._end_link()
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

    def _end_link(self) -> None:
        """End a link; an address that Telegram does not open is shown behind the link's text."""
        begun = self._open[-1]
        address = begun.url or ""
        if names_person(address):
            self._open[-1] = replace(begun, kind=PERSON_MENTION)
        if is_link(address):
            self._end()
            return
        self._open.pop()
        shown = "".join(self._pieces[begun.piece :])
        if address and shown not in {address, address.removeprefix("mailto:")}:
            self._write(f" ({address})")
