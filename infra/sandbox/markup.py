"""Formatted text: HTML, MarkdownV2 and Markdown to text with entities, refused in Telegram's words.

The rules are those of the Bot API page ("Formatting options"); error texts name byte offsets of the text as
it was sent, entities count UTF-16 units.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from core.model.visibility import shows_nothing
from infra.sandbox.answers import MethodFailed, bad_request
from infra.sandbox.links import checked_link, user_of
from infra.sandbox.world import Entity

LONGEST_TEXT = 4096
"""Code points, after parsing (Bot API, sendMessage)."""

LONGEST_SOURCE = 1 << 15
"""Bytes, before parsing."""

LARGEST_FORMATTING = 9_500
"""Bytes of formatting in one message: 20 links of 446 characters pass, 25 are refused (measured on Telegram's
server). The error is in https://core.telegram.org/method/messages.sendMessage; 12 bytes are an entity's kind,
offset and length: https://core.telegram.org/type/MessageEntity
"""
_BARE_ENTITY = 12

LARGEST_EMOJI = (1 << 63) - 1

PRIORITIES = {
    "blockquote": 0,
    "expandable_blockquote": 0,
    "pre": 11,
    "code": 20,
    "date_time": 30,
    "text_link": 49,
    "text_mention": 49,
    "bold": 90,
    "italic": 91,
    "underline": 92,
    "strikethrough": 93,
    "spoiler": 94,
    "custom_emoji": 99,
}
"""Which of two entities of the same stretch comes first."""

NAMES = {
    "bold": "Bold",
    "italic": "Italic",
    "underline": "Underline",
    "strikethrough": "Strikethrough",
    "spoiler": "Spoiler",
    "code": "Code",
    "pre": "Pre",
    "text_link": "TextUrl",
    "custom_emoji": "CustomEmoji",
    "blockquote": "BlockQuote",
}
"""How error texts call them."""

MONOSPACED = frozenset({"code", "pre"})
CLOSED = MONOSPACED | {"date_time"}
WHOLE = CLOSED | {"text_link", "text_mention", "custom_emoji"}


@dataclass(frozen=True, slots=True)
class FormattedText:
    """A text and how it looks."""

    text: str
    entities: tuple[Entity, ...] = ()


def utf16_length(text: str) -> int:
    """Length in UTF-16 units, in which entities count."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def parse(text: str, mode: str, entities: Iterable[Entity] = ()) -> FormattedText:
    """Turn what `sendMessage` was given into text and entities.

    Args:
        text: the source.
        mode: `parse_mode`, in any case; empty for none.
        entities: used when there is no mode.

    Raises:
        MethodFailed: the source cannot be parsed.
    """
    if len(text.encode(errors="surrogatepass")) > LONGEST_SOURCE:
        raise bad_request("text is too long")
    reader = READERS.get(mode.lower())
    if text and mode and mode.lower() != "none":
        if reader is None:
            raise bad_request("unsupported parse_mode")
        parsed = reader(text)
    else:
        parsed = FormattedText(text, tuple(entities))
    return finish(parsed)


def finish(parsed: FormattedText) -> FormattedText:
    """Trim the text, put entities in order, and find links, mentions and commands in it.

    Source: `fix_formatted_text` in td/telegram/MessageEntity.cpp, https://github.com/tdlib/td; what Telegram
    refuses behind that is in https://core.telegram.org/method/messages.sendMessage.

    Raises:
        MethodFailed: nothing is left that can be seen, or too much formatting.
    """
    text, entities = _trim(parsed.text, _checked(parsed.text, parsed.entities))
    if not _NOT_EMPTY.search(text):
        raise bad_request("text must be non-empty")
    if shows_nothing(text):
        raise bad_request("MESSAGE_EMPTY")
    entities = _without_nesting(sorted(entities, key=_order))
    if sum(map(_size, entities)) > LARGEST_FORMATTING:
        raise bad_request("ENTITIES_TOO_LONG")
    found = _find(text, entities)
    return FormattedText(text, tuple(sorted([*entities, *found], key=_order) if found else entities))


_NOT_EMPTY = re.compile(
    "[^ \n\xa0\u1680\u180e\u2000-\u200f\u202e\u202f\u205f\u2800\u3000\ufeff\ufffc\U000e0000-\U000e007f]"
)
"""What is more than nothing: `strip_empty_characters` in td/telegram/misc.cpp, https://github.com/tdlib/td."""


def _size(entity: Entity) -> int:
    return _BARE_ENTITY + len((entity.url or "").encode()) + len((entity.language or "").encode())


def can_not_parse(reason: str) -> MethodFailed:
    """The refusal of a text whose formatting is wrong."""
    return bad_request(f"can't parse entities: {reason}")


def _order(entity: Entity) -> tuple[int, int, int]:
    return entity.offset, -entity.length, PRIORITIES.get(entity.type, 50)


def _checked(text: str, entities: tuple[Entity, ...]) -> list[Entity]:
    """The entities that have a place in the text.

    Raises:
        MethodFailed: one begins after the end, or goes beyond it.
    """
    if not entities:
        return []
    length = utf16_length(text)
    for entity in entities:
        if entity.offset < 0 or entity.offset > length:
            raise bad_request(
                f"entity begins after the end of the text at UTF-16 offset {entity.offset}"
                if entity.offset > 0
                else f"receive an entity with incorrect offset {entity.offset}"
            )
        if entity.length < 0:
            raise bad_request(f"receive an entity with incorrect length {entity.length}")
        if entity.offset + entity.length > length:
            end = entity.offset + entity.length
            raise bad_request(
                f"entity beginning at UTF-16 offset {entity.offset} ends after the end of the text "
                f"at UTF-16 offset {end}"
            )
    return [entity for entity in entities if entity.length]


def _trim(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Take out what counts for nothing, cut blanks at both ends, and the entities with them."""
    if _TAKEN_OUT.search(text):
        text, entities = _without_what_counts_for_nothing(text, entities)
    text = _CONTROL.sub(" ", text)
    stripped = text.rstrip(" \n")
    first_entity = min((entity.offset for entity in entities), default=len(stripped))
    lead = 0
    while lead < min(first_entity, len(stripped)) and stripped[lead] in " \n":
        lead += 1
    if lead == 0 and len(stripped) == len(text):
        return text, entities
    end = utf16_length(stripped)
    kept = [
        replace(entity, offset=entity.offset - lead, length=min(entity.length, end - entity.offset))
        for entity in entities
        if entity.offset < end
    ]
    return stripped[lead:], kept


_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f]")
_TAKEN_OUT = re.compile("[\r\u2028-\u202e\u030a\u0333\u033f]")
"""`clean_input_string_with_entities` in td/telegram/MessageEntity.cpp, https://github.com/tdlib/td."""


def _without_what_counts_for_nothing(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    wide = [at for at, mark in enumerate(text) if mark > "\uffff"]
    taken = [found.start() + bisect_left(wide, found.start()) for found in _TAKEN_OUT.finditer(text)]
    moved = []
    for entity in entities:
        start = entity.offset - bisect_left(taken, entity.offset)
        end = entity.offset + entity.length
        moved.append(replace(entity, offset=start, length=end - bisect_left(taken, end) - start))
    return _TAKEN_OUT.sub("", text), [entity for entity in moved if entity.length > 0]


def _without_nesting(entities: list[Entity]) -> list[Entity]:
    """Links, mentions, emoji, times and code do not overlap, and in code and times there is no formatting.

    Source: `fix_entities` in td/telegram/MessageEntity.cpp, https://github.com/tdlib/td.

    Args:
        entities: in order; of two that overlap, the first stays.
    """
    end, closed, kept = 0, Entity("", 0, 0), []
    for entity in entities:
        if entity.type in WHOLE and entity.offset < end:
            continue
        if entity.offset + entity.length <= closed.offset + closed.length:
            continue
        if entity.type in WHOLE:
            end = entity.offset + entity.length
        if entity.type in CLOSED:
            closed = entity
        kept.append(entity)
    return kept


# What Telegram finds by itself ------------------------------------------------------------------------

_FOUND = re.compile(
    r"(?P<url>https?://[^\s<>\"'`]+[^\s<>\"'`.,;:!?)\]}])"
    r"|(?P<email>[\w.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})"
    r"|(?<![\w@])(?P<mention>@[A-Za-z0-9_]{2,32})(?!\w)"
    r"|(?<![\w/<>])(?P<bot_command>/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?)(?![\w/<>])"
    r"|(?<![\w#])(?P<hashtag>#(?=\w*[^\W\d_])\w{1,256})(?![\w#])"
    r"|(?<![\w$])(?P<cashtag>\$[A-Z]{1,8})(?![\w$])"
    r"|(?<![\w@.-])(?P<bare>(?:[A-Za-z0-9-]+\.)+(?:com|org|net|io|dev|me|info|de|uk|eu|ru|app)(?:/[^\s<>\"']*[^\s<>\"'.,;:!?)])?)(?![\w@-])"
)
_HINTS = re.compile(r"[@#$/.]")
_NO_MORE_INSIDE = WHOLE


def _find(text: str, entities: list[Entity]) -> list[Entity]:
    """Links, mentions, commands, tags that stand in the text as it is."""
    if not _HINTS.search(text):
        return []
    closed = [(e.offset, e.offset + e.length) for e in entities if e.type in _NO_MORE_INSIDE]
    found = []
    for match in _FOUND.finditer(text):
        offset = utf16_length(text[: match.start()])
        length = utf16_length(match.group())
        if not any(offset < end and start < offset + length for start, end in closed):
            kind = match.lastgroup or ""
            found.append(Entity("url" if kind == "bare" else kind, offset, length))
    return found


# Links ------------------------------------------------------------------------------------------------


def _link_entity(url: str, offset: int, length: int) -> Entity | None:
    """A link or a mention of a person by id; None when the url is neither."""
    if person := user_of(url):
        return Entity("text_mention", offset, length, user_id=person)
    link = checked_link(url)
    return Entity("text_link", offset, length, url=link) if link else None


_TIME_FORMAT = re.compile("[rR]|[tTdDwW]*")
_DATE = re.compile("[0-9]{1,10}")


def is_date_time_format(text: str) -> bool:
    """Source: `FormattedDate::get_date_flags` in td/telegram/FormattedDate.cpp, https://github.com/tdlib/td."""
    return _TIME_FORMAT.fullmatch(text) is not None


def _date_time(offset: int, length: int, date: int, time_format: str) -> Entity:
    return Entity("date_time", offset, length, unix_time=date, date_time_format=time_format)


# Reading ----------------------------------------------------------------------------------------------


class _Source:
    """A text being read, and what has come out of it so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.units = 0
        self.out: list[str] = []
        self.entities: list[Entity] = []

    def peek(self, ahead: int = 0) -> str:
        """The character at the cursor, or empty at the end."""
        at = self.at + ahead
        return self.text[at] if at < len(self.text) else ""

    def starts(self, prefix: str) -> bool:
        """Whether the text goes on like that."""
        return self.text.startswith(prefix, self.at)

    def put(self, character: str) -> None:
        """Let a character come out."""
        self.out.append(character)
        self.units += 1 + (character > "\uffff")

    def byte(self, at: int) -> int:
        """The byte offset of a character."""
        return len(self.text[:at].encode(errors="surrogatepass"))

    def result(self) -> FormattedText:
        """What came out."""
        return FormattedText("".join(self.out), tuple(self.entities))


# HTML -------------------------------------------------------------------------------------------------

_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
    "tg-time": "date_time",
}
_REFERENCES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,7})|#([0-9]{1,7})|([A-Za-z]+));?")
_SURROGATES = range(0xD800, 0xE000)
_SPACES = " \t\r\n\v\0"
_TOKEN = re.compile(r"[A-Za-z0-9.-]*")
_ATTRIBUTE_NAME = re.compile(r"[^ \t\r\n\v\0=>/\"']*")


@dataclass(slots=True)
class _Tag:
    name: str
    argument: str
    date: int
    offset: int
    out_at: int


class _Html(_Source):
    """Reads HTML."""

    def read(self) -> FormattedText:
        """Read all of it."""
        open_tags: list[_Tag] = []
        while character := self.peek():
            if character == "&" and (decoded := self._reference()):
                self.put(decoded)
            elif character != "<":
                self.put(character)
                self.at += 1
            elif self.peek(1) == "/":
                self._close(open_tags)
            else:
                open_tags.append(self._open())
        if open_tags:
            raise can_not_parse(f'Can\'t find end tag corresponding to start tag "{open_tags[-1].name}"')
        return self.result()

    def _reference(self) -> str:
        """Decode a character reference; empty when the ampersand is only an ampersand."""
        match = _REFERENCE.match(self.text, self.at)
        if match is None:
            return ""
        hexadecimal, decimal, name = match.groups()
        if name:
            decoded = _REFERENCES.get(name, "")
        else:
            code = int(hexadecimal, 16) if hexadecimal else int(decimal)
            decoded = chr(code) if 0 < code < sys.maxunicode and code not in _SURROGATES else ""
        if decoded:
            self.at = match.end()
        return decoded

    def _skip_spaces(self) -> None:
        while self.peek() and self.peek() in _SPACES:
            self.at += 1

    def _name(self) -> str:
        """Read up to white space or `>`."""
        start = self.at
        while self.peek() and self.peek() not in _SPACES and self.peek() != ">":
            self.at += 1
        return self.text[start : self.at].lower()

    def _open(self) -> _Tag:
        begin = self.at
        self.at += 1
        name = self._name()
        if not self.peek():
            raise can_not_parse(f"Unclosed start tag at byte offset {self.byte(begin)}")
        if name not in _TAGS:
            raise can_not_parse(f'Unsupported start tag "{name}" at byte offset {self.byte(begin)}')
        argument, date = "", 0
        while self.peek() != ">":
            self._skip_spaces()
            if self.peek() == ">":
                break
            attribute, value = self._attribute(name, begin)
            argument = _argument(name, attribute, value) or argument
            if (name, attribute) == ("tg-time", "unix"):
                date = int(value) if _DATE.fullmatch(value) else 0
        self.at += 1
        if name == "span" and argument != "spoiler":
            raise can_not_parse(f'Tag "span" must have class "tg-spoiler" at byte offset {self.byte(begin)}')
        return _Tag(name, argument, date, self.units, len(self.out))

    def _attribute(self, tag: str, begin: int) -> tuple[str, str]:
        """Read one attribute: its name, and its value, which may be missing."""
        match = _ATTRIBUTE_NAME.match(self.text, self.at)
        attribute = match.group() if match else ""
        self.at += len(attribute)
        if not attribute:
            raise can_not_parse(f'Empty attribute name in the tag "{tag}" at byte offset {self.byte(begin)}')
        self._skip_spaces()
        if self.peek() == "=":
            self.at += 1
            self._skip_spaces()
            return attribute, self._value(tag, begin)
        if not self.peek():
            raise can_not_parse(f'Unclosed start tag "{tag}" at byte offset {self.byte(begin)}')
        return attribute, ""

    def _value(self, tag: str, begin: int) -> str:
        quote = self.peek()
        if not quote:
            raise can_not_parse(f'Unclosed start tag "{tag}" at byte offset {self.byte(begin)}')
        if quote not in "'\"":
            start = self.at
            match = _TOKEN.match(self.text, start)
            self.at += len(match.group()) if match else 0
            if self.peek() and self.peek() not in _SPACES and self.peek() != ">":
                raise can_not_parse(f"Unexpected end of name token at byte offset {self.byte(start)}")
            value = self.text[start : self.at].lower()
        else:
            value = self._quoted(quote)
        if not self.peek():
            raise can_not_parse(f"Unclosed start tag at byte offset {self.byte(begin)}")
        return value

    def _quoted(self, quote: str) -> str:
        self.at += 1
        value = []
        while self.peek() and self.peek() != quote:
            decoded = self._reference() if self.peek() == "&" else ""
            value.append(decoded or self.peek())
            self.at += 0 if decoded else 1
        self.at += 1
        return "".join(value)

    def _close(self, open_tags: list[_Tag]) -> None:
        begin = self.at
        if not open_tags:
            raise can_not_parse(f"Unexpected end tag at byte offset {self.byte(begin)}")
        self.at += 2
        name = self._name()
        self._skip_spaces()
        if self.peek() != ">":
            raise can_not_parse(f"Unclosed end tag at byte offset {self.byte(begin)}")
        tag = open_tags.pop()
        if name not in ("", tag.name):
            raise can_not_parse(
                f"Unmatched end tag at byte offset {self.byte(begin)}, "
                f'expected "</{tag.name}>", found "</{name}>"'
            )
        self.at += 1
        if self.units > tag.offset:
            self._add(tag, self.units - tag.offset)

    def _add(self, tag: _Tag, length: int) -> None:
        kind = _TAGS[tag.name]
        entity: Entity | None = Entity(kind, tag.offset, length)
        if kind == "text_link":
            entity = _link_entity(tag.argument or "".join(self.out[tag.out_at :]), tag.offset, length)
        elif kind == "custom_emoji":
            if not re.fullmatch("[0-9]{1,19}", tag.argument) or not 0 < int(tag.argument) <= LARGEST_EMOJI:
                raise can_not_parse("Invalid custom emoji identifier specified")
            entity = Entity(kind, tag.offset, length, custom_emoji_id=tag.argument)
        elif kind == "date_time":
            if not is_date_time_format(tag.argument):
                raise can_not_parse("Invalid date format used")
            entity = _date_time(tag.offset, length, tag.date, tag.argument) if tag.date else None
        elif kind == "blockquote" and tag.argument:
            entity = Entity("expandable_blockquote", tag.offset, length)
        elif kind in MONOSPACED:
            entity = self._code(tag, length)
        if entity is not None:
            self.entities.append(entity)

    def _code(self, tag: _Tag, length: int) -> Entity:
        """`<pre><code class="language-x">` is one block with a language."""
        last = self.entities[-1] if self.entities else None
        same = last is not None and (last.offset, last.length) == (tag.offset, length)
        if last is not None and same and tag.name == "pre" and last.type == "code" and last.language:
            self.entities.pop()
            return Entity("pre", tag.offset, length, language=last.language)
        return Entity(tag.name, tag.offset, length, language=tag.argument or None)

    def result(self) -> FormattedText:
        """What came out; a language counts for blocks only."""
        clean = [replace(e, language=None) if e.type == "code" else e for e in self.entities]
        return FormattedText("".join(self.out), tuple(clean))


def _argument(tag: str, attribute: str, value: str) -> str:
    match tag, attribute:
        case ("a", "href") | ("tg-emoji", "emoji-id") | ("tg-time", "format"):
            return value
        case ("code", "class") if value.startswith("language-"):
            return value.removeprefix("language-")
        case ("span", "class") if value.startswith("tg-"):
            return value.removeprefix("tg-")
        case ("blockquote", "expandable"):
            return "1"
    return ""


# MarkdownV2 -------------------------------------------------------------------------------------------

_RESERVED = frozenset("_*[]()~`>#+-=|{}.!\n")
_MARKS = {
    "*": "bold",
    "_": "italic",
    "__": "underline",
    "~": "strikethrough",
    "||": "spoiler",
    "`": "code",
    "```": "pre",
    "[": "text_link",
    "![": "custom_emoji",
}
_ENDS = {
    "bold": "*",
    "italic": "_",
    "underline": "__",
    "strikethrough": "~",
    "spoiler": "||",
    "code": "`",
    "pre": "```",
    "text_link": "]",
    "custom_emoji": "]",
}
_EMOJI_LINK = re.compile(r"tg://emoji/?\?id=([0-9]{1,19})")
_TIME_LINK = re.compile(r"tg://time/?\?(.*)", re.DOTALL)


@dataclass(slots=True)
class _Open:
    kind: str
    offset: int
    begin: int
    out_at: int
    language: str | None = None


class _MarkdownV2(_Source):
    """Reads MarkdownV2."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.open: list[_Open] = []
        self.in_quote = False
        self.quote_may_start = True

    def read(self) -> FormattedText:
        """Read all of it."""
        while character := self.peek():
            if character == "\\" and "\0" < self.peek(1) <= "~":
                self.at += 1
                self._plain(self.peek())
            elif not self._is_reserved(character):
                self._plain(character)
            elif self._ends_quote(character):
                self._end_quote(newline=True)
            elif self._ends_entity():
                self._end_entity()
            elif character == "\n":
                self._plain(character)
            else:
                self._begin(character)
        if self.in_quote:
            self._end_quote(newline=False)
        if self.open:
            raise self._no_end()
        return FormattedText("".join(self.out), tuple(sorted(self.entities, key=_order)))

    def _plain(self, character: str) -> None:
        self.put(character)
        if character != "\r":
            self.quote_may_start = character == "\n"
        self.at += 1

    def _is_reserved(self, character: str) -> bool:
        if self.open and self.open[-1].kind in MONOSPACED:
            return character == "`"
        return character in _RESERVED

    def _ends_quote(self, character: str) -> bool:
        return self.in_quote and bool(self.open) and character == "\n" and self.peek(1) != ">"

    def _ends_entity(self) -> bool:
        if not self.open or self.open[-1].kind == "blockquote":
            return False
        kind = self.open[-1].kind
        if kind == "italic" and self.starts("__"):
            return False
        return self.starts(_ENDS[kind])

    def _no_end(self) -> MethodFailed:
        last = self.open[-1]
        name = "PreCode" if last.kind == "pre" and last.language else NAMES[last.kind]
        return can_not_parse(f"Can't find end of {name} entity at byte offset {self.byte(last.begin)}")

    def _must_be_escaped(self, character: str) -> MethodFailed:
        return can_not_parse(
            f"Character '{character}' is reserved and must be escaped with the preceding '\\'"
        )

    def _begin(self, character: str) -> None:
        begin = self.at
        if character == ">":
            self._begin_quote()
            return
        mark = next((mark for mark in ("```", "__", "||", "![") if self.starts(mark)), character)
        if mark not in _MARKS:
            raise self._must_be_escaped(character)
        self.at += len(mark)
        language = self._language() if mark == "```" else None
        self.open.append(_Open(_MARKS[mark], self.units, begin, len(self.out), language))

    def _begin_quote(self) -> None:
        if not self.quote_may_start:
            raise self._must_be_escaped(">")
        if not self.in_quote:
            self.in_quote = True
            self.open.append(_Open("blockquote", self.units, self.at, len(self.out)))
        self.at += 1

    def _language(self) -> str | None:
        """The word after three backticks, and the line break after it."""
        start = self.at
        end = start
        while end < len(self.text) and self.text[end] not in _SPACES and self.text[end] != "`":
            end += 1
        language = None
        if start != end < len(self.text) and self.text[end] != "`":
            language, self.at = self.text[start:end], end
        if self.peek() and self.peek() in "\r\n":
            pair = self.peek(1) and self.peek(1) in "\r\n" and self.peek() != self.peek(1)
            self.at += 2 if pair else 1
        return language

    def _end_quote(self, *, newline: bool) -> None:
        """End a quote; `||` before its end makes it expandable."""
        kind = "blockquote"
        last = self.open[-1]
        if last.kind == "spoiler" and last.begin == self.at - 2:
            self.open.pop()
            kind = "expandable_blockquote"
        if not self.open or self.open[-1].kind != "blockquote":
            raise self._no_end()
        quote = self.open.pop()
        self.in_quote = False
        if newline:
            self._plain("\n")
        if self.units > quote.offset:
            self.entities.append(Entity(kind, quote.offset, self.units - quote.offset))

    def _end_entity(self) -> None:
        entity = self.open.pop()
        self.at += len(_ENDS[entity.kind])
        length = self.units - entity.offset
        made: Entity | None = Entity(entity.kind, entity.offset, length, language=entity.language)
        if entity.kind == "text_link":
            url = self._link() if self.peek() == "(" else "".join(self.out[entity.out_at :])
            made = _link_entity(url, entity.offset, length)
        elif entity.kind == "custom_emoji":
            made = self._emoji(entity, length)
        if made is not None and length:
            self.entities.append(made)

    def _emoji(self, entity: _Open, length: int) -> Entity:
        if self.peek() != "(":
            raise can_not_parse("The entity must contain a tg://emoji or tg://time URL")
        link = self._link()
        if emoji := _EMOJI_LINK.fullmatch(link):
            return Entity("custom_emoji", entity.offset, length, custom_emoji_id=emoji[1])
        if time := _TIME_LINK.fullmatch(link):
            given = dict(parse_qsl(time[1]))
            date, time_format = given.get("unix", ""), given.get("format", "")
            if re.fullmatch("0*[1-9][0-9]{0,9}", date) and is_date_time_format(time_format):
                return _date_time(entity.offset, length, int(date), time_format)
        raise can_not_parse("Invalid tg://emoji or tg://time URL specified")

    def _link(self) -> str:
        """Read `(…)`."""
        self.at += 1
        begin = self.at
        url = []
        while self.peek() and self.peek() != ")":
            if self.peek() == "\\" and "\0" < self.peek(1) <= "~":
                self.at += 1
            url.append(self.peek())
            self.at += 1
        if not self.peek():
            raise can_not_parse(f"Can't find end of a URL at byte offset {self.byte(begin)}")
        self.at += 1
        return "".join(url)


# Markdown (legacy) ------------------------------------------------------------------------------------


class _Markdown(_MarkdownV2):
    """Reads the older Markdown: no nesting, four marks."""

    def read(self) -> FormattedText:
        """Read all of it."""
        while character := self.peek():
            if character == "\\" and self.peek(1) and self.peek(1) in "_*`[":
                self.at += 1
                self._plain(self.peek())
            elif character in "_*`[":
                self._entity(character)
            else:
                self._plain(character)
        return self.result()

    def _entity(self, mark: str) -> None:
        begin, offset, out_at = self.at, self.units, len(self.out)
        is_block = self.starts("```")
        self.at += 3 if is_block else 1
        language = self._language() if is_block else None
        end = "```" if is_block else {"[": "]"}.get(mark, mark)
        while self.peek() and not self.starts(end):
            self._plain(self.peek())
        if not self.peek():
            raise can_not_parse(f"Can't find end of the entity starting at byte offset {self.byte(begin)}")
        self.at += len(end)
        kind = "pre" if is_block else _MARKS[mark]
        made: Entity | None = Entity(kind, offset, self.units - offset, language=language)
        if mark == "[":
            url = self._raw_link() if self.peek() == "(" else "".join(self.out[out_at:])
            made = _link_entity(url, offset, self.units - offset)
        if made is not None and made.length:
            self.entities.append(made)

    def _raw_link(self) -> str:
        end = self.text.find(")", self.at)
        end = end if end >= 0 else len(self.text)
        url = self.text[self.at + 1 : end]
        self.at = end + 1
        return url


READERS: dict[str, Callable[[str], FormattedText]] = {
    "html": lambda text: _Html(text).read(),
    "markdownv2": lambda text: _MarkdownV2(text).read(),
    "markdown": lambda text: _Markdown(text).read(),
}
