"""What a Telegram update means to us: parsed at the door, typed, frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core.model.person import Person


@dataclass(frozen=True, slots=True)
class Carrier:
    """The message under whose button somebody pressed, as Telegram tells it: no client can forge it.

    Attributes:
        author: the id of the bot that wrote it; None when Telegram does not tell.
        buttons: the data of its buttons, in order.
    """

    author: int | None = None
    buttons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ButtonPressed:
    """A person pressed a button under a message.

    Attributes:
        press_id: what the acknowledgement names (`callback_query.id`).
        person: who pressed, or None when it was no person (a bot, an anonymous admin, a channel).
        chat: the chat of the message.
        data: the button's data as it came: forgeable, to be checked.
        carrier: reads what Telegram tells about the message, for the rare case in which it matters.
    """

    update_id: int
    press_id: str
    person: Person | None
    chat: int
    message_id: int
    data: str
    carrier: Callable[[], Carrier] = field(default=Carrier, compare=False)


@dataclass(frozen=True, slots=True)
class TextReceived:
    """A person wrote something that is no command.

    Attributes:
        private: whether it is the person's own chat with the bot.
        reply_to: the id of the message it replies to, or None.
        replied_text: what that message says, when a bot wrote it.
    """

    update_id: int
    person: Person
    chat: int
    private: bool
    message_id: int
    text: str
    topic: int | None = None
    reply_to: int | None = None
    replied_text: str | None = None


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A person sent a message that starts with `/`.

    Attributes:
        name: without the slash and without `@bot`, lower case.
        addressed_to: the bot's username after `@`, lower case, or None.
        text: what follows the command, stripped.
    """

    update_id: int
    person: Person
    chat: int
    private: bool
    message_id: int
    name: str
    text: str
    topic: int | None = None
    addressed_to: str | None = None


@dataclass(frozen=True, slots=True)
class MembershipChanged:
    """The bot was let into a chat, or put out of it: unblocked or blocked, added or removed.

    Attributes:
        can_write: whether the bot may write there now.
    """

    update_id: int
    chat: int
    can_write: bool


@dataclass(frozen=True, slots=True)
class Ignored:
    """An update that is understood and means nothing to us."""

    update_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An update that cannot be read; it is kept aside with its reason.

    Attributes:
        update_id: when at least that could be read.
    """

    update_id: int | None
    reason: str
    raw: bytes


Update = ButtonPressed | TextReceived | CommandReceived | MembershipChanged | Ignored | Unreadable


def sender_of(update: Update) -> int | None:
    """The id of the person whose doing it is, when it is somebody's."""
    person = None if isinstance(update, MembershipChanged | Ignored | Unreadable) else update.person
    return None if person is None else person.id
