"""Telegram's HTML, read strictly: what Telegram would refuse is refused here, with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from core.model.errors import Invalid
from infra.telegram.formatting.links import custom_emoji, date_time, link
from infra.telegram.formatting.marked_text import LONGEST_LANGUAGE, MarkedText, Span
from infra.telegram.payloads import CUSTOM_EMOJI, DATE_TIME

_TAGS: Final[Mapping[str, str]] = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler",
    "span": "spoiler", "a": "text_link", "tg-emoji": CUSTOM_EMOJI, "tg-time": DATE_TIME, "code": "code",
    "pre": "pre", "blockquote": "blockquote",
}  # fmt: skip
"""Tags and what they make. Source: https://core.telegram.org/bots/api#html-style."""

_NAMED: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-z]+));?")
_PLAIN = re.compile(r"[^<&]+")
_OPENING = re.compile(r"<([A-Za-z][A-Za-z0-9-]*)")
_CLOSING = re.compile(r"</([A-Za-z0-9-]*)\s*>")
_ATTRIBUTE = re.compile(r"""\s+([A-Za-z0-9-]+)(?:\s*=\s*("[^"]*"|'[^']*'|[A-Za-z0-9.-]+))?""")
_TAG_END = re.compile(r"\s*>")
_LINK_EXAMPLE = '<a href="https://…">, with a dot in the host and a port from 1 to 65535 or none'
_TIME_EXAMPLE = '<tg-time unix="1647531900" format="wDT">, with a format as in "r", "d", "Dt", "wDT" or none'
_LARGEST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def read_html(source: str) -> MarkedText:
    """Text and formatting of Telegram's HTML.

    Raises:
        Invalid: Telegram would refuse it; with line and column.
    """
    return _Reader(source).read()


@dataclass(frozen=True, slots=True)
class _OpenTag:
    name: str
    kind: str
    url: str | None
    attributes: Mapping[str, str]
    start: int
    place: int


class _Reader:
    """One pass over the source; nothing is read twice."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._place = 0
        self._pieces: list[str] = []
        self._length = 0
        self._open: list[_OpenTag] = []
        self._spans: list[Span] = []

    def read(self) -> MarkedText:
        while self._place < len(self._source):
            if self._source.startswith("</", self._place):
                self._close_tag()
            elif self._source[self._place] == "<":
                self._open_tag()
            else:
                self._characters()
        if self._open:
            tag = self._open[-1]
            self._refuse(tag.place, f"the tag <{tag.name}> is never closed. Add </{tag.name}>.")
        return MarkedText.tidy("".join(self._pieces), reversed(self._spans))

    def _characters(self) -> None:
        plain = _PLAIN.match(self._source, self._place)
        if plain is not None:
            self._write(plain[0])
            self._place = plain.end()
        else:
            text, self._place = self._reference(self._place)
            self._write(text)

    def _write(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def _reference(self, place: int) -> tuple[str, int]:
        """The character that `&…;` names; as Telegram does, anything else stays as it is written."""
        found = _REFERENCE.match(self._source, place)
        if found is None:
            return "&", place + 1
        character = _character(found)
        if character is None:
            self._refuse(place, f"{found[0]} names no character.")
        return character, found.end()

    def _open_tag(self) -> None:
        place = self._place
        found = _OPENING.match(self._source, place)
        if found is None:
            self._refuse(place, "there is a < that begins no tag. Write &lt; for the sign itself.")
        name = found[1].lower()
        if name not in _TAGS:
            self._refuse(place, f"Telegram has no tag <{name}>. {_instead_of(name)}")
        attributes = self._attributes(name, found.end())
        kind, url = self._formatting(name, attributes, place)
        self._open.append(_OpenTag(name, kind, url, attributes, self._length, place))

    def _attributes(self, name: str, place: int) -> Mapping[str, str]:
        attributes: dict[str, str] = {}
        while (found := _ATTRIBUTE.match(self._source, place)) is not None:
            value = found[2] or ""
            attributes[found[1].lower()] = _decoded(value[1:-1] if value[:1] in {'"', "'"} else value)
            place = found.end()
        end = _TAG_END.match(self._source, place)
        if end is None:
            self._refuse(self._place, f"the tag <{name} is not complete. Look for its > and its quotes.")
        self._place = end.end()
        return attributes

    def _formatting(
        self, name: str, attributes: Mapping[str, str], place: int
    ) -> tuple[str, str] | tuple[str, None]:
        """What the tag makes of its text, and what it points to."""
        made: tuple[str, str] | None = None
        if name == "span" and attributes.get("class") != "tg-spoiler":
            self._refuse(place, 'the tag <span> must be <span class="tg-spoiler">.')
        elif name == "tg-emoji":
            made = custom_emoji(attributes.get("emoji-id", ""))
            if made is None:
                self._refuse(place, 'the tag <tg-emoji> must name an emoji: <tg-emoji emoji-id="…">.')
        elif name == "tg-time":
            made = date_time(attributes.get("unix", ""), attributes.get("format", ""))
            if made is None:
                self._refuse(place, f"the tag <tg-time> must say when and how: {_TIME_EXAMPLE}.")
        elif name == "a":
            made = link(attributes.get("href", ""))
            if made is None:
                self._refuse(place, f"a link needs an address that Telegram opens: {_LINK_EXAMPLE}.")
        elif name == "blockquote" and "expandable" in attributes:
            return "expandable_blockquote", None
        return made or (_TAGS[name], None)

    def _close_tag(self) -> None:
        found = _CLOSING.match(self._source, self._place)
        if found is None:
            self._refuse(self._place, "this closing tag is not complete.")
        if not self._open:
            self._refuse(self._place, f"{found[0]} closes nothing.")
        tag = self._open.pop()
        if found[1].lower() != tag.name:
            self._refuse(self._place, f"{found[0]} comes where </{tag.name}> must come.")
        self._place = found.end()
        self._spans.append(self._made_by(tag))

    def _made_by(self, tag: _OpenTag) -> Span:
        language = None
        if tag.name == "pre":
            language = self._language_of_block(tag.start)
        elif tag.name == "code" and self._open and self._open[-1].name == "pre":
            named = tag.attributes.get("class", "").removeprefix("language-")
            language = named if 0 < len(named) <= LONGEST_LANGUAGE else None
        return Span(tag.kind, tag.start, self._length, tag.url, language)

    def _language_of_block(self, start: int) -> str | None:
        """What `<pre><code class="language-…">` says, when the code fills the block."""
        inner = self._spans[-1] if self._spans else None
        fills = inner is not None and (inner.type, inner.start, inner.end) == ("code", start, self._length)
        return inner.language if inner is not None and fills else None

    def _refuse(self, place: int, what: str) -> NoReturn:
        line = self._source.count("\n", 0, place) + 1
        column = place - self._source.rfind("\n", 0, place)
        raise Invalid.field("/text", f"Line {line}, column {column}: {what}")


def _character(reference: re.Match[str]) -> str | None:
    """What `&…;` stands for; None for a number that is no character."""
    hexadecimal, decimal, name = reference.groups()
    if name is not None:
        return _NAMED.get(name, reference[0])
    number = int(hexadecimal, 16) if hexadecimal is not None else int(decimal)
    if number == 0 or number > _LARGEST_CHARACTER or number in _SURROGATES:
        return None
    return chr(number)


def _decoded(value: str) -> str:
    return _REFERENCE.sub(lambda found: _character(found) or found[0], value)


def _instead_of(name: str) -> str:
    if name in {"br", "p", "div"}:
        return "Write a line break as it is."
    return "It knows: " + ", ".join(sorted(_TAGS)) + "."
