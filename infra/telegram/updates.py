"""A Telegram update, from bytes to what it means to us: pure, quick, and never an exception."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from core.model.person import Person
from core.model.update import (
    ButtonPressed,
    Carrier,
    CommandReceived,
    Ignored,
    MembershipChanged,
    TextReceived,
    Unreadable,
    Update,
)

_NO_PERSONS: Final = frozenset({777000, 136817688, 1087968824})
"""Telegram itself, "Channel Bot" and "Group Anonymous Bot". Source: https://core.telegram.org/bots/api#message."""

_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@([A-Za-z0-9_]{1,64}))?")
_LEADING_ID = re.compile(rb'\s*\{\s*"update_id"\s*:\s*([0-9]{1,18})\s*[,}]')

_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Id = Annotated[int, Field(ge=0, lt=2**63)]
# PostgreSQL stores no NUL, and Telegram sends none.
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _User(_Model):
    id: _Id
    is_bot: bool
    first_name: _Text
    last_name: _Text | None = None
    username: _Text | None = None


class _Chat(_Model):
    id: _Number
    type: str


class _Author(_Model):
    is_bot: bool


class _Replied(_Model):
    message_id: _Id
    forum_topic_created: Any = None
    sender: _Author | None = Field(default=None, alias="from")
    text: _Text | None = None


class _Entity(_Model):
    type: str
    offset: int
    length: int


class _Message(_Model):
    message_id: _Id
    chat: _Chat
    sender: _User | None = Field(default=None, alias="from")
    text: _Text | None = None
    entities: tuple[_Entity, ...] = ()
    message_thread_id: _Id | None = None
    is_topic_message: bool = False
    reply_to_message: _Replied | None = None
    sender_chat: Any = None
    forward_origin: Any = None
    via_bot: Any = None


class _Pressed(_Model):
    """The message under a button, which may be one that the bot can no longer see."""

    message_id: _Id
    chat: _Chat


class _Press(_Model):
    id: _Text
    sender: _User = Field(alias="from")
    message: _Pressed | None = None
    data: _Text | None = None


class _Member(_Model):
    status: str
    is_member: bool = False
    can_send_messages: bool = False


class _Membership(_Model):
    """What the bot is in a chat from now on. Source: https://core.telegram.org/bots/api#chatmemberupdated."""

    chat: _Chat
    new_chat_member: _Member


class _Update(_Model):
    update_id: _Id
    message: _Message | None = None
    callback_query: _Press | None = None
    my_chat_member: _Membership | None = None


def parse_update(raw: bytes) -> Update:
    """What an update means to us.

    Source: https://core.telegram.org/bots/api#update

    Args:
        raw: the body as Telegram posted it; its size was checked before.

    Returns:
        `Unreadable` for what is no update; everything else that we do not know is `Ignored`.
    """
    try:
        update = _Update.model_validate_json(raw)
    except ValidationError as error:
        return Unreadable(_find_update_id(raw), _first_problem(error), raw)
    if update.callback_query is not None:
        return _press(update.update_id, update.callback_query, raw)
    if update.message is not None:
        return _message(update.update_id, update.message, raw)
    if update.my_chat_member is not None:
        return _membership(update.update_id, update.my_chat_member)
    kinds = ", ".join(sorted(_keys(raw) - {"update_id"})) or "nothing"
    return Ignored(update.update_id, f"An update of a kind that is not handled ({kinds}).")


def _press(update_id: int, press: _Press, raw: bytes) -> Update:
    if press.data is None:
        return Ignored(update_id, "A button press without data.")
    if press.message is None:
        return Ignored(update_id, "A button press under a message of inline mode.")
    return ButtonPressed(
        update_id=update_id,
        press_id=press.id,
        person=_person(press.sender),
        chat=press.message.chat.id,
        message_id=press.message.message_id,
        data=press.data,
        carrier=partial(_carrier, raw),
    )


def _membership(update_id: int, changed: _Membership) -> MembershipChanged:
    member = changed.new_chat_member
    can_write = member.status in {"creator", "administrator", "member"} or (
        member.status == "restricted" and member.is_member and member.can_send_messages
    )
    return MembershipChanged(update_id, changed.chat.id, can_write)


def _carrier(raw: bytes) -> Carrier:
    """The message that was pressed: hardly ever wanted, so it is read only then, and is never an error."""
    try:
        message = _object(raw)["callback_query"]["message"]
        author = message["from"]["id"] if "from" in message else None
        rows = message["reply_markup"]["inline_keyboard"]
        found = [button.get("callback_data") for row in rows for button in row]
    except (AttributeError, KeyError, TypeError):
        return Carrier()
    return Carrier(author, tuple(data for data in found if isinstance(data, str)))


def _message(update_id: int, message: _Message, raw: bytes) -> Update:
    person = None if message.sender is None else _person(message.sender)
    if message.sender_chat is not None or person is None:
        return Ignored(update_id, "A message that no person wrote (a channel, an anonymous admin, or a bot).")
    if message.forward_origin is not None:
        return Ignored(update_id, "A forwarded message.")
    if message.via_bot is not None:
        return Ignored(update_id, "A message written through another bot.")
    if message.text is None:
        return Ignored(update_id, f"A message without text ({_content(raw)}).")
    return _command(update_id, person, message, message.text) or TextReceived(
        update_id=update_id,
        person=person,
        chat=message.chat.id,
        private=message.chat.type == "private",
        message_id=message.message_id,
        text=message.text,
        topic=_topic(message),
        reply_to=_reply_to(message),
        replied_text=_replied_text(message),
    )


def _command(update_id: int, person: Person, message: _Message, text: str) -> CommandReceived | None:
    """The command, when Telegram marked the very beginning as one and nothing sticks to it."""
    length = next((e.length for e in message.entities if e.type == "bot_command" and e.offset == 0), None)
    # A command is ASCII, so UTF-16 units and characters are the same here.
    found = None if length is None else _COMMAND.match(text)
    if found is None or found.end() != length or not (text[length:] == "" or text[length].isspace()):
        return None
    name, bot = found.groups()
    return CommandReceived(
        update_id=update_id,
        person=person,
        chat=message.chat.id,
        private=message.chat.type == "private",
        message_id=message.message_id,
        name=name.lower(),
        text=text[length:].strip(),
        topic=_topic(message),
        addressed_to=None if bot is None else bot.lower(),
    )


def _person(user: _User) -> Person | None:
    if user.is_bot or user.id in _NO_PERSONS:
        return None
    name = user.first_name if user.last_name is None else f"{user.first_name} {user.last_name}"
    return Person(user.id, name.strip(), user.username)


def _topic(message: _Message) -> int | None:
    # Without is_topic_message the number names a thread of replies in a plain group.
    return message.message_thread_id if message.is_topic_message else None


def _reply_to(message: _Message) -> int | None:
    replied = message.reply_to_message
    # In a topic, Telegram shows every message as a reply to the one that created the topic.
    if replied is None or replied.forum_topic_created is not None:
        return None
    return replied.message_id


def _replied_text(message: _Message) -> str | None:
    replied = message.reply_to_message
    if replied is None or replied.sender is None or not replied.sender.is_bot:
        return None
    return replied.text


def _find_update_id(raw: bytes) -> int | None:
    """The id of an update that is broken elsewhere."""
    update_id = _object(raw).get("update_id")
    if isinstance(update_id, int) and not isinstance(update_id, bool) and 0 <= update_id < 2**63:
        return update_id
    found = _LEADING_ID.match(raw)
    return None if found is None else int(found[1])


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    return f"{place}: {problem['msg']}." if place else f"{problem['msg']}."


_CONTENTS: Final = (
    "photo", "video", "voice", "audio", "document", "animation", "sticker", "video_note", "location",
    "contact", "poll", "dice", "new_chat_members", "left_chat_member", "pinned_message",
)  # fmt: skip


def _content(raw: bytes) -> str:
    message = _object(raw).get("message")
    known = message if isinstance(message, dict) else {}
    return next((kind for kind in _CONTENTS if kind in known), "of another kind")


def _keys(raw: bytes) -> set[str]:
    return set(_object(raw))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        parsed = from_json(raw)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
