"""What people do: press, write, start, block; each becomes an update for the bot."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from itertools import count

from infra.sandbox import render
from infra.sandbox.double import TelegramDouble
from infra.sandbox.markup import FormattedText, finish, parse
from infra.sandbox.world import ChangeKind, Chat, Message, Person, Press, StoredFile


@dataclass(frozen=True, slots=True)
class Said:
    """What a person puts into a chat besides the text.

    Attributes:
        location: latitude and longitude in degrees.
    """

    reply_to: Message | None = None
    topic: int | None = None
    forwarded_from: Person | None = None
    file: StoredFile | None = None
    location: tuple[float, float] | None = None


def say(double: TelegramDouble, person: Person, chat: Chat, text: str, said: Said | None = None) -> Message:
    """Let a person write into a chat; the bot is told unless privacy mode keeps it out.

    Raises:
        ValueError: the person is not in that chat, has blocked the bot, or says nothing.
    """
    said = said or Said()
    _must_be_able_to_write(person, chat)
    body = _body(text, said)
    topic = _topic(chat, said)
    message = Message(
        chat,
        next(chat.message_ids),
        person,
        int(time.time()),
        text=body.text,
        entities=body.entities,
        topic=topic,
        reply_to=said.reply_to,
        file=said.file,
        location=said.location,
        forwarded_from=said.forwarded_from,
    )
    if chat.is_private:
        person.started = True
    return _show(double, message)


def edit(double: TelegramDouble, person: Person, message: Message, text: str) -> Message:
    """Let a person change what he wrote.

    Raises:
        ValueError: it is somebody else's message.
    """
    if message.sender is not person:
        raise ValueError(f"Message {message.id} is not {person.name}'s.")
    body = parse(text, "")
    double.world.edit_message(message, body.text, body.entities, None)
    if double.bot_sees(message):
        double.push(message.chat, "edited_message", render.message(double.world, message))
    return message


def press(
    double: TelegramDouble, person: Person, message: Message, data: str, *, lifetime: float | None = None
) -> Press:
    """Let a person press a button, or a modified Telegram app send any data.

    The bot may answer for `lifetime` seconds; None is the usual.
    """
    kept = double.timing.presses_kept if lifetime is None else lifetime
    made = Press(str(secrets.randbits(63)), person, message, data, time.monotonic() + kept)
    double.world.add_press(made)
    payload = render.callback_query(double.world, made)
    made.update = double.updates.push(("presses", person.id), "callback_query", payload)
    return made


def start(double: TelegramDouble, person: Person, payload: str = "") -> Message:
    """Press Start, or open a deep link `?start=<payload>`."""
    chat = double.world.open_private_chat(person)
    if person.blocked:
        unblock(double, person)
    return say(double, person, chat, f"/start {payload}".strip())


def block(double: TelegramDouble, person: Person) -> None:
    """Block the bot: it can write no more."""
    _set_blocked(double, person, blocked=True)


def unblock(double: TelegramDouble, person: Person) -> None:
    """Let the bot write again."""
    _set_blocked(double, person, blocked=False)


def set_bot_status(double: TelegramDouble, chat: Chat, status: str, by: Person | None = None) -> None:
    """Make the bot `member`, `administrator`, `left` or `kicked` in a group."""
    old, chat.bot_status = chat.bot_status, status
    actor = by or next(iter(chat.members.values()), double.world.bot)
    _tell_membership(double, chat, actor, (old, status))
    double.world.happened(ChangeKind.CHAT, chat=chat)


def upgrade(double: TelegramDouble, group: Chat) -> Chat:
    """Turn a group into a supergroup: a new id, and messages that say so in both.

    Raises:
        ValueError: it is no group, or has been upgraded already.
    """
    if group.kind != "group" or group.migrated_to is not None:
        raise ValueError(f"Chat {group.id} is not a group that can be upgraded.")
    new_id = -1_000_000_000_000 - abs(group.id)
    supergroup = Chat(new_id, "supergroup", group.title, members=dict(group.members), message_ids=count(1))
    double.world.add_chat(supergroup)
    group.migrated_to = new_id
    actor = next(iter(group.members.values()), double.world.bot)
    for chat, service in (
        (group, {"migrate_to_chat_id": new_id}),
        (supergroup, {"migrate_from_chat_id": group.id}),
    ):
        _show(double, Message(chat, next(chat.message_ids), actor, int(time.time()), service=service))
    return supergroup


def _show(double: TelegramDouble, message: Message) -> Message:
    double.world.add_message(message)
    if double.bot_sees(message):
        message.update = double.push(message.chat, "message", render.message(double.world, message))
    return message


def _body(text: str, said: Said) -> FormattedText:
    """What is said in words; a file or a place needs none."""
    if text.strip():
        return finish(FormattedText(text))
    if said.file is None and said.location is None:
        raise ValueError("A message needs a text.")
    return FormattedText("")


def _topic(chat: Chat, said: Said) -> int | None:
    """The topic it goes to: the one that is named, or that of the message replied to."""
    topic = said.topic or (said.reply_to.topic if said.reply_to else None)
    if topic is not None and topic not in (chat.topics or {}):
        raise ValueError(f"Chat {chat.id} has no topic {topic}; it has {sorted(chat.topics or ())}.")
    return topic


def _must_be_able_to_write(person: Person, chat: Chat) -> None:
    if person.id not in chat.members:
        raise ValueError(f"{person.name} ({person.id}) is not in chat {chat.id}.")
    if chat.is_private and person.blocked:
        raise ValueError(f"{person.name} has blocked the bot and has to unblock it first.")


def _set_blocked(double: TelegramDouble, person: Person, *, blocked: bool) -> None:
    chat = double.world.open_private_chat(person)
    if person.blocked != blocked:
        person.blocked = blocked
        statuses = ("member", "kicked") if blocked else ("kicked", "member")
        _tell_membership(double, chat, person, statuses)
        double.world.happened(ChangeKind.CHAT, chat=chat)


def _tell_membership(double: TelegramDouble, chat: Chat, by: Person, statuses: tuple[str, str]) -> None:
    payload = render.member_update(chat, by, double.world.bot, statuses, int(time.time()))
    double.updates.push(("membership", chat.id), "my_chat_member", payload)
