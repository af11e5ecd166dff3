"""The Python side of the sandbox: start it, let people act, look at what happened."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

from infra.sandbox import people
from infra.sandbox.calls import CallLog
from infra.sandbox.double import TelegramDouble
from infra.sandbox.faults import Fault, FaultKind, FaultPlan
from infra.sandbox.parameters import Upload
from infra.sandbox.people import Said
from infra.sandbox.scripts import Script
from infra.sandbox.updates import Timing, UpdateQueues
from infra.sandbox.world import Change, Chat, Message, Person, Press, World, first_world

if TYPE_CHECKING:
    from infra.sandbox.port import Port

BOT_ID = 110_201_543

T = TypeVar("T")


def new_token() -> str:
    """A token of a bot that does not exist, another with each call: whoever has it can speak as the bot."""
    return f"{BOT_ID}:{secrets.token_urlsafe(26)}"


class Sandbox:
    """A running sandbox; made by `Sandbox.start`.

    Attributes:
        token: what `BOT_TOKEN` has to be.
        world: persons, chats, messages, as they are.
        updates: what goes to the webhook; `updates.attempts` is every POST.
        faults: what goes wrong now.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        time_scale: float = 1.0,
        timing: Timing | None = None,
        kept: int = 10_000,
    ) -> None:
        token = new_token() if token is None else token
        bot_id = int(token.partition(":")[0])
        timing = timing or Timing(scale=time_scale)
        self.token = token
        self.world: World = first_world(bot_id, kept)
        self.faults = FaultPlan()
        self.updates = UpdateQueues(timing, self.faults, self.world.stir, kept)
        self.double = TelegramDouble(
            token, self.world, self.updates, self.faults, CallLog(kept), timing, [0.0]
        )
        self._host = host
        self._wanted_port = port
        self._strangers = count(9_000_001)
        self._shown: dict[int, int] = {}
        self._opened: Port | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        *,
        token: str | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        time_scale: float = 1.0,
        timing: Timing | None = None,
        kept: int = 10_000,
    ) -> AsyncIterator[Self]:
        """Run a sandbox while the block runs.

        Args:
            token: the bot's token, `<digits>:<anything>`; None makes one that nobody can guess.
            port: to listen on; 0 takes any that is free.
            host: address to listen on.
            time_scale: factor on the waits between webhook retries, for example 0.01 in tests.
            timing: all durations at once; then `time_scale` does not count.
            kept: how many calls, changes and attempts each log keeps.

        Raises:
            OSError: the port is taken.
        """
        sandbox = cls(token=token, port=port, host=host, time_scale=time_scale, timing=timing, kept=kept)
        await sandbox.open()
        try:
            yield sandbox
        finally:
            await sandbox.close()

    async def open(self) -> None:
        """Begin to listen; `start` does it for you.

        Raises:
            OSError: the port is taken.
        """
        from infra.sandbox.keys import PORT  # noqa: PLC0415 - the HTTP server is loaded when one is wanted
        from infra.sandbox.port import Port  # noqa: PLC0415 - the same
        from infra.sandbox.server import build_application  # noqa: PLC0415 - the same

        app = build_application(self.double)
        port = Port(app, self._host, self._wanted_port)
        app[PORT] = port
        await port.open()
        self._opened = port

    async def close(self) -> None:
        """Stop listening and posting."""
        self.faults.lift()
        await self.updates.close()
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    @property
    def _port(self) -> Port:
        if self._opened is None:
            raise RuntimeError("The sandbox is not running: use `async with Sandbox.start() as sandbox:`.")
        return self._opened

    @property
    def api_url(self) -> str:
        """What goes into `TELEGRAM_API_URL`; also base of `/bot<token>/` and `/file/bot<token>/`."""
        return f"http://{self._host}:{self._port.number}"

    @property
    def page_url(self) -> str:
        """The chat page's address."""
        return f"{self.api_url}/"

    @property
    def calls(self) -> CallLog:
        """Every Bot API call, oldest first."""
        return self.double.calls

    @property
    def truth(self) -> list[Change]:
        """What really happened in the chats, oldest first, whatever the caller was told."""
        return list(self.world.truth)

    def person(self, person_id: int) -> ScriptedPerson:
        """Somebody of this world.

        Raises:
            LookupError: there is nobody with that id.
        """
        if person_id not in self.world.persons:
            raise LookupError(f"The sandbox has no person {person_id}; it has {sorted(self.world.persons)}.")
        return ScriptedPerson(self.double, self.world.persons[person_id])

    def add_person(
        self,
        person_id: int,
        first_name: str,
        last_name: str = "",
        username: str = "",
        *,
        started: bool = True,
    ) -> ScriptedPerson:
        """Let somebody exist; `started` opens the private chat."""
        person = Person(person_id, first_name, last_name, username, started=started)
        return ScriptedPerson(self.double, self.world.add_person(person))

    def stranger(self) -> ScriptedPerson:
        """Somebody whom the bot never met and who is in no chat."""
        number = next(self._strangers)
        return self.add_person(number, "Stranger", str(number), started=False)

    def chat(self, chat_id: int) -> ChatView:
        """A chat of this world; a person's id names the private chat.

        Raises:
            LookupError: there is no such chat.
        """
        if chat_id not in self.world.chats:
            raise LookupError(f"The sandbox has no chat {chat_id}; it has {sorted(self.world.chats)}.")
        return ChatView(self.double, self.world.chats[chat_id])

    def add_group(
        self,
        chat_id: int,
        title: str,
        members: list[ScriptedPerson],
        *,
        kind: str = "supergroup",
        topics: dict[int, str] | None = None,
    ) -> ChatView:
        """Let a `group`, `supergroup` or `channel` exist, with the bot in it."""
        persons = {member.id: member.person for member in members}
        chat = Chat(chat_id, kind, title, members=persons, topics=topics)
        return ChatView(self.double, self.world.add_chat(chat))

    def fault(
        self,
        kind: FaultKind | str,
        *,
        method: str | None = None,
        chat: int | None = None,
        times: int | None = 1,
        **details: Any,
    ) -> Fault:
        """Let something go wrong for the next `times` calls (None: until `fault.lift()`).

        Args:
            kind: see `FaultKind`.
            method: only for calls of this method.
            chat: only for calls to this chat.
            times: for how many calls.
            details: `effect`, `status`, `description`, `retry_after`, `seconds`, `size` of `Fault`.

        Raises:
            ValueError: there is no such kind.
        """
        return self.faults.add(Fault(FaultKind(kind), method=method, chat=chat, times=times, **details))

    def down(self) -> AbstractAsyncContextManager[None]:
        """Refuse connections while the block runs."""
        return self._port.down()

    def script(
        self, person: ScriptedPerson, *, answer: str, times: int | None = None, delay: float = 0.0
    ) -> Script:
        """Let a person answer by himself when a question arrives: press that button, or write that reply.

        Args:
            person: who answers.
            answer: the label of a button; for a message that asks for a reply, the text.
            times: how many questions he answers; None for all, until `script.lift()`.
            delay: seconds before he answers.
        """
        return Script(self.double, person.person, answer, times, delay).attach()

    async def next_message(self, chat: ChatView | ScriptedPerson | int, within: float = 10.0) -> Message:
        """The next message of the bot in a chat: each is handed out once, in order, none is missed.

        Args:
            chat: a chat, its id, or a person for the private chat.
            within: seconds to wait at most.

        Raises:
            TimeoutError: none came.
        """
        chat_id = chat if isinstance(chat, int) else chat.id

        def unseen() -> Message | None:
            place = self.world.chats.get(chat_id)
            seen = self._shown.get(chat_id, 0)
            messages = place.messages.values() if place else ()
            bot = self.world.bot
            return next((each for each in messages if each.id > seen and each.sender is bot), None)

        message = await self.wait_for(unseen, within, f"a message in chat {chat_id}")
        self._shown[chat_id] = message.id
        return message

    async def wait_for(self, predicate: Callable[[], T | None], within: float = 10.0, what: str = "it") -> T:
        """Wait until something is so; looked at after every change in the sandbox, never by polling.

        Args:
            predicate: its first truthy value is returned.
            within: seconds to wait at most.
            what: how the error names it.

        Raises:
            TimeoutError: it did not become so.
        """
        try:
            async with asyncio.timeout(within):
                while not (found := predicate()):
                    await self.world.next_change()
                return found
        except TimeoutError as error:
            last = [f"{call.method} → {call.outcome}" for call in list(self.calls)[-5:]]
            raise TimeoutError(
                f"Waited {within} s for {what} in vain; the last calls were {last}."
            ) from error


@dataclass(frozen=True, slots=True)
class ChatView:
    """A chat, to look into and to change from outside."""

    double: TelegramDouble = field(repr=False)
    place: Chat = field(repr=False)

    @property
    def id(self) -> int:
        """The chat's id."""
        return self.place.id

    @property
    def messages(self) -> list[Message]:
        """What stands in it now, oldest first."""
        return list(self.place.messages.values())

    @property
    def last(self) -> Message:
        """The newest message.

        Raises:
            IndexError: the chat is empty.
        """
        return self.messages[-1]

    def upgrade(self) -> ChatView:
        """Turn a group into a supergroup with a new id."""
        return ChatView(self.double, people.upgrade(self.double, self.place))

    def set_bot_status(self, status: str) -> None:
        """Make the bot `member`, `administrator`, `left` or `kicked`; it is told by `my_chat_member`."""
        people.set_bot_status(self.double, self.place, status)


@dataclass(frozen=True, slots=True)
class ScriptedPerson:
    """A person whom a test lets act. Acting is instant; the webhook hears of it at its own pace."""

    double: TelegramDouble = field(repr=False)
    person: Person

    @property
    def id(self) -> int:
        """The numeric user id, which is also the id of the private chat."""
        return self.person.id

    async def taps(self, message: Message, label: str) -> Press:
        """Press the button with that label.

        Raises:
            LookupError: the message has no such button.
        """
        data = message.button(label).data
        if data is None:
            raise LookupError(f"The button {label!r} sends nothing to the bot.")
        return people.press(self.double, self.person, message, data)

    async def double_taps(self, message: Message, label: str) -> tuple[Press, Press]:
        """Press the button twice, as impatient people do."""
        return await self.taps(message, label), await self.taps(message, label)

    async def late(self, message: Message, label: str) -> Press:
        """Press, but so that the query has expired when the bot hears of it."""
        data = message.button(label).data or ""
        return people.press(self.double, self.person, message, data, lifetime=0)

    async def forges(self, message: Message, data: str) -> Press:
        """Press a button that is not there, as a modified Telegram app can."""
        return people.press(self.double, self.person, message, data)

    async def says(
        self,
        chat: ChatView | int | None,
        text: str,
        *,
        reply_to: Message | None = None,
        topic: int | None = None,
        forwarded_from: ScriptedPerson | None = None,
    ) -> Message:
        """Write into a chat; None is the private one.

        Raises:
            ValueError: he is not in that chat, or has blocked the bot.
        """
        origin = forwarded_from.person if forwarded_from else None
        said = Said(reply_to=reply_to, topic=topic, forwarded_from=origin)
        return people.say(self.double, self.person, self._place(chat), text, said)

    async def edits(self, message: Message, text: str) -> Message:
        """Change what he wrote."""
        return people.edit(self.double, self.person, message, text)

    async def sends_file(
        self,
        chat: ChatView | int | None,
        name: str,
        content: bytes,
        *,
        caption: str = "",
        reply_to: Message | None = None,
        content_type: str = "application/octet-stream",
    ) -> Message:
        """Send a document."""
        stored = self.double.store(Upload(name, content_type, content))
        said = Said(reply_to=reply_to, file=stored)
        return people.say(self.double, self.person, self._place(chat), caption, said)

    async def sends_location(
        self,
        chat: ChatView | int | None,
        latitude: float,
        longitude: float,
        *,
        reply_to: Message | None = None,
    ) -> Message:
        """Send a place, in degrees."""
        said = Said(reply_to=reply_to, location=(latitude, longitude))
        return people.say(self.double, self.person, self._place(chat), "", said)

    async def starts(self, payload: str = "") -> Message:
        """Press Start, or open the deep link with that payload."""
        return people.start(self.double, self.person, payload)

    async def blocks(self) -> None:
        """Block the bot."""
        people.block(self.double, self.person)

    async def unblocks(self) -> None:
        """Let the bot write again."""
        people.unblock(self.double, self.person)

    def _place(self, chat: ChatView | int | None) -> Chat:
        if isinstance(chat, ChatView):
            return chat.place
        chats = self.double.world.chats
        if chat is None or chat == self.person.id:
            return self.double.world.open_private_chat(self.person)
        if chat not in chats:
            raise ValueError(f"The sandbox has no chat {chat}; it has {sorted(chats)}.")
        return chats[chat]
