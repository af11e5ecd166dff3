"""The world of the sandbox: who there is, which chats, and what stands in them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count

from infra.sandbox.answers import JsonObject

SEEN_MESSAGES = 10_000
"""How many messages a chat keeps; older ones are forgotten, as if deleted."""

KEPT_BYTES = 256 << 20
"""How many bytes of files are kept; older files are forgotten."""


@dataclass(slots=True, eq=False)
class Person:
    """A Telegram user: a person, or the bot itself.

    Attributes:
        id: the numeric user id.
        first_name: what everybody has.
        last_name: not everybody has one.
        username: without `@`; not everybody has one.
        is_bot: true for the bot.
        started: pressed Start, so the bot may write to this person.
        blocked: has blocked the bot.
        deactivated: deleted the Telegram account.
    """

    id: int
    first_name: str
    last_name: str = ""
    username: str = ""
    is_bot: bool = False
    started: bool = False
    blocked: bool = False
    deactivated: bool = False

    @property
    def name(self) -> str:
        """First and last name, as a chat shows them."""
        return f"{self.first_name} {self.last_name}".strip()


@dataclass(frozen=True, slots=True)
class Entity:
    """One formatted stretch of a text; offset and length count UTF-16 units (Bot API, MessageEntity)."""

    type: str
    offset: int
    length: int
    url: str | None = None
    language: str | None = None
    user_id: int | None = None
    custom_emoji_id: str | None = None
    unix_time: int | None = None
    date_time_format: str | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """One inline button.

    Attributes:
        text: its label.
        data: what a press sends to the bot, or None when it is not that kind of button.
        style: `primary`, `success`, `danger` or None.
        raw: the button as the bot gave it.
    """

    text: str
    data: str | None
    style: str | None
    raw: JsonObject


@dataclass(frozen=True, slots=True)
class Keyboard:
    """Inline buttons under a message; `force_reply` also opens the reply field (Bot API 10.3)."""

    rows: tuple[tuple[Button, ...], ...]
    force_reply: bool = False


@dataclass(frozen=True, slots=True)
class ForceReply:
    """Opens the reply field of the person's chat."""

    placeholder: str = ""
    selective: bool = False


@dataclass(frozen=True, slots=True)
class ReplyKeyboard:
    """Buttons instead of the person's keyboard, or (without rows) their removal."""

    rows: tuple[tuple[str, ...], ...] = ()


Markup = Keyboard | ForceReply | ReplyKeyboard


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file; photos have a width and a height."""

    id: str
    unique_id: str
    path: str
    name: str
    content_type: str
    content: bytes
    is_photo: bool = False


@dataclass(frozen=True, slots=True)
class Edition:
    """What a message said before it was edited."""

    text: str
    entities: tuple[Entity, ...]
    markup: Markup | None


@dataclass(slots=True, eq=False)
class Message:
    """A message in a chat; edits change it in place, `history` keeps what it said before.

    Attributes:
        chat: where it stands.
        id: unique in its chat.
        sender: who wrote it.
        date: Unix time in seconds.
        text: what it says, or the caption of its file.
        topic: id of its topic, or None.
        service: fields of a service message, such as `migrate_to_chat_id`.
        deleted: true when it has vanished from the chat.
        update: id of the update that told the bot of it; None when the bot was told of none.
    """

    chat: Chat
    id: int
    sender: Person
    date: int
    text: str = ""
    entities: tuple[Entity, ...] = ()
    markup: Markup | None = None
    topic: int | None = None
    reply_to: Message | None = None
    file: StoredFile | None = None
    location: tuple[float, float] | None = None
    forwarded_from: Person | None = None
    service: JsonObject | None = None
    link_preview: JsonObject | None = None
    silent: bool = False
    protected: bool = False
    edit_date: int | None = None
    deleted: bool = False
    update: int | None = None
    history: list[Edition] = field(default_factory=list)

    @property
    def buttons(self) -> list[Button]:
        """Its inline buttons, row after row."""
        return list(chain.from_iterable(self.rows))

    @property
    def rows(self) -> tuple[tuple[Button, ...], ...]:
        """Its inline buttons, by row."""
        return self.markup.rows if isinstance(self.markup, Keyboard) else ()

    @property
    def labels(self) -> list[str]:
        """The labels of its inline buttons."""
        return [button.text for button in self.buttons]

    @property
    def force_reply(self) -> ForceReply | None:
        """How it asks for a reply, or None when it does not."""
        if isinstance(self.markup, Keyboard) and self.markup.force_reply:
            return ForceReply()
        return self.markup if isinstance(self.markup, ForceReply) else None

    def button(self, label: str) -> Button:
        """The button with that label, or the only one whose label contains it.

        Raises:
            LookupError: there is no such button, or more than one.
        """
        exact = [button for button in self.buttons if button.text == label]
        found = exact or [button for button in self.buttons if label.casefold() in button.text.casefold()]
        if len(found) != 1:
            raise LookupError(
                f"Message {self.id} has {len(found)} buttons {label!r}; its buttons are {self.labels}."
            )
        return found[0]


@dataclass(slots=True, eq=False)
class Chat:
    """A private chat (its id is the person's), a group, a supergroup or a channel.

    Attributes:
        kind: `private`, `group`, `supergroup` or `channel`.
        members: persons by id.
        topics: names by topic id; None when the chat has no topics.
        bot_status: `member`, `administrator`, `left` or `kicked`.
        migrated_to: the supergroup that this group became.
    """

    id: int
    kind: str
    title: str = ""
    username: str = ""
    members: dict[int, Person] = field(default_factory=dict)
    topics: dict[int, str] | None = None
    bot_status: str = "member"
    migrated_to: int | None = None
    messages: dict[int, Message] = field(default_factory=dict)
    message_ids: Iterator[int] = field(default_factory=lambda: count(1))
    instance: str = field(default_factory=lambda: str(secrets.randbits(63)))

    @property
    def partner(self) -> Person:
        """The person of a private chat."""
        return self.members[self.id]

    @property
    def is_private(self) -> bool:
        """Whether this is one person's chat with the bot."""
        return self.kind == "private"


@dataclass(slots=True, eq=False)
class Press:
    """A tap on an inline button, and what the bot answered to it.

    Attributes:
        id: `callback_query_id`.
        toast: the text shown as a toast; empty when the answer had none; None before an answer.
        alert: the text shown as an alert, or None.
        expires: on the monotonic clock, in seconds; later answers come too late.
        update: id of the update that tells the bot; None when it wants no such updates.
    """

    id: str
    person: Person
    message: Message
    data: str
    expires: float
    toast: str | None = None
    alert: str | None = None
    update: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def answered(self, within: float = 10.0) -> Press:
        """Wait for `answerCallbackQuery`, at most `within` seconds.

        Raises:
            TimeoutError: nobody answered; a person would still see the spinner.
        """
        try:
            async with asyncio.timeout(within):
                await self.done.wait()
        except TimeoutError as error:
            raise TimeoutError(f"Nobody answered the press of {self.data!r} within {within} s.") from error
        return self


class ChangeKind(StrEnum):
    """What can happen in the world."""

    SENT = "sent"
    EDITED = "edited"
    DELETED = "deleted"
    PRESSED = "pressed"
    ANSWERED = "answered"
    TYPING = "typing"
    COMMANDS = "commands"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that really happened, whatever anybody was told about it.

    Attributes:
        at: Unix time in seconds.
        text: what the message said at that moment, the toast of an answer, or the action of a typing bot.
    """

    kind: ChangeKind
    at: float
    chat: Chat | None = None
    message: Message | None = None
    press: Press | None = None
    text: str = ""


class World:
    """Everything that exists, and everybody who wants to know when it changes.

    Args:
        bot: the bot.
        kept_changes: how many changes `truth` keeps.
    """

    def __init__(self, bot: Person, kept_changes: int = 10_000) -> None:
        self.bot = bot
        self.privacy_mode = True
        self.persons: dict[int, Person] = {}
        self.chats: dict[int, Chat] = {}
        self.files: dict[str, StoredFile] = {}
        self.commands: dict[tuple[str, int, int, str], tuple[JsonObject, ...]] = {}
        self.presses: dict[str, Press] = {}
        self.truth: deque[Change] = deque(maxlen=kept_changes)
        self.watchers: list[Callable[[Change], None]] = []
        self._next: asyncio.Future[None] | None = None
        self._message_ids = count(1)

    def add_person(self, person: Person) -> Person:
        """Let a person exist; whoever started the bot has a private chat with it."""
        self.persons[person.id] = person
        if person.started or person.blocked:
            self.open_private_chat(person)
        return person

    def open_private_chat(self, person: Person) -> Chat:
        """The person's chat with the bot, made when there is none."""
        chat = self.chats.get(person.id)
        if chat is None:
            chat = Chat(person.id, "private", members={person.id: person}, message_ids=self._message_ids)
            self.add_chat(chat)
        return chat

    def add_chat(self, chat: Chat) -> Chat:
        """Let a chat exist."""
        if chat.kind == "group":
            chat.message_ids = self._message_ids
        self.chats[chat.id] = chat
        self.happened(ChangeKind.CHAT, chat=chat)
        return chat

    def add_message(self, message: Message) -> Message:
        """Put a message into its chat."""
        messages = message.chat.messages
        messages[message.id] = message
        if len(messages) > SEEN_MESSAGES:
            del messages[next(iter(messages))]
        self.happened(ChangeKind.SENT, chat=message.chat, message=message, text=message.text)
        return message

    def add_file(self, stored: StoredFile) -> StoredFile:
        """Keep a file, and forget the oldest ones when there are too many bytes."""
        self.files[stored.id] = stored
        while len(self.files) > 1 and sum(len(each.content) for each in self.files.values()) > KEPT_BYTES:
            del self.files[next(iter(self.files))]
        return stored

    def edit_message(
        self, message: Message, text: str, entities: tuple[Entity, ...], markup: Markup | None
    ) -> Message:
        """Change what a message says, and remember what it said."""
        message.history.append(Edition(message.text, message.entities, message.markup))
        message.text, message.entities, message.markup = text, entities, markup
        message.edit_date = int(time.time())
        self.happened(ChangeKind.EDITED, chat=message.chat, message=message, text=text)
        return message

    def delete_message(self, message: Message) -> None:
        """Let a message vanish."""
        message.deleted = True
        message.chat.messages.pop(message.id, None)
        self.happened(ChangeKind.DELETED, chat=message.chat, message=message, text=message.text)

    def add_press(self, press: Press) -> Press:
        """Remember a press until it is answered or forgotten."""
        self.presses[press.id] = press
        if len(self.presses) > SEEN_MESSAGES:
            del self.presses[next(iter(self.presses))]
        self.happened(ChangeKind.PRESSED, chat=press.message.chat, message=press.message, press=press)
        return press

    def answer_press(self, press: Press, text: str, *, alert: bool) -> None:
        """Show the bot's answer to a press; the spinner ends."""
        press.toast, press.alert = ("", text) if alert else (text, None)
        press.done.set()
        self.happened(
            ChangeKind.ANSWERED, chat=press.message.chat, message=press.message, press=press, text=text
        )

    def happened(
        self,
        kind: ChangeKind,
        *,
        chat: Chat | None = None,
        message: Message | None = None,
        press: Press | None = None,
        text: str = "",
    ) -> None:
        """Write a change down and tell everybody who watches."""
        change = Change(kind, time.time(), chat, message, press, text)
        self.truth.append(change)
        for watcher in tuple(self.watchers):
            watcher(change)
        self.stir()

    def stir(self) -> None:
        """Wake everybody who waits for a change."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def next_change(self) -> None:
        """Wait until something happens."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)


BOT_USERNAME = "telegate_sandbox_bot"
OPS = -1001234567890


def first_world(bot_id: int, kept_changes: int = 10_000) -> World:
    """The world of a first run, as the package's docstring describes it."""
    world = World(Person(bot_id, "Telegate Sandbox", username=BOT_USERNAME, is_bot=True), kept_changes)
    ada = world.add_person(Person(815, "Ada", "Lovelace", "ada", started=True))
    grace = world.add_person(Person(4711, "Grace", "Hopper", "grace", started=True))
    world.add_person(Person(1337, "Linus"))
    world.add_person(Person(666, "Mallory", started=True, blocked=True))
    members = {ada.id: ada, grace.id: grace}
    world.add_chat(Chat(OPS, "supergroup", "Ops", members=members, topics={7: "Deploys"}))
    return world
