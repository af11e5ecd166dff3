"""Parts: the Telegram messages that one task becomes."""

from __future__ import annotations

from dataclasses import dataclass

from core.model.question import Style


@dataclass(frozen=True, slots=True)
class Entity:
    """A piece of formatting; offset and length in UTF-16 units.

    Source: https://core.telegram.org/bots/api#messageentity
    """

    type: str
    offset: int
    length: int
    url: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class FormattedText:
    """At most 4,096 characters with their formatting, as Telegram takes them."""

    text: str
    entities: tuple[Entity, ...] = ()


@dataclass(frozen=True, slots=True)
class Button:
    """One of Telegram's inline buttons: it opens `url` or sends `data` back."""

    text: str
    url: str | None = None
    data: str | None = None
    style: Style | None = None


Keyboard = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One Telegram message of a task; a long text needs several.

    Attributes:
        reply_to: the message id that it answers, or None.
        reply_required: whether Telegram shall refuse the message when what it answers is gone.
        keyboard: rows of buttons under it; empty for none.
    """

    body: FormattedText
    reply_to: int | None = None
    reply_required: bool = True
    keyboard: Keyboard = ()
    silent: bool = False
    protect: bool = False
    preview: bool = False
