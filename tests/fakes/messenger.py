"""Telegram, as far as tasks need it: a chat in memory, with outcomes that a test writes down before.

A call takes the next outcome of its script, or succeeds when the script is at its end:

    messenger.script(later(5), UNCLEAR, DELIVERED)

What was *done* is in `chat`, what was *asked for* in `calls`; that these two differ is the whole difficulty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected, TelegateError
from core.model.failure import Failure
from core.model.part import Button, Part

_Deed: TypeAlias = Callable[[], None]

Verb: TypeAlias = Literal["send", "edit", "delete", "strip", "acknowledge"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one call.

    Attributes:
        done: whether Telegram does it.
        error: what the caller is told instead of success, or None.
    """

    done: bool = True
    error: TelegateError | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """A call that says nothing until it is released, and may have been done long before.

    Attributes:
        done_first: whether Telegram has done it when the call begins to hang.
        arrived: is set when the call hangs.
    """

    done_first: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _then: list[Outcome] = field(default_factory=list)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self, outcome: Outcome | None = None) -> None:
        """Let the call end, as if it had never hung when no outcome is given."""
        self._then.append(DELIVERED if outcome is None else outcome)
        self._released.set()

    @property
    def released(self) -> bool:
        """Whether the call may end."""
        return self._released.is_set()

    async def outcome(self) -> Outcome:
        """What becomes of the call, as soon as it is released."""
        self.arrived.set()
        await self._released.wait()
        return self._then[0]


DELIVERED: Final = Outcome()
NOT_REACHED: Final = Outcome(done=False, error=NotDelivered("Telegram cannot be reached: no route to host."))
UNCLEAR: Final = Outcome(done=True, error=DeliveryUnknown("Telegram did it, and did not say so in time."))
UNCLEAR_LOST: Final = Outcome(
    done=False, error=DeliveryUnknown("Telegram did not do it, and did not say so.")
)
BLOCKED: Final = Outcome(
    done=False,
    error=Rejected(
        Failure(
            "recipient_unreachable",
            "This person has blocked the bot.",
            403,
            "Forbidden: bot was blocked by the user",
        )
    ),
)


def later(seconds: float) -> Outcome:
    """Telegram says 429: not now, but after so many seconds."""
    return Outcome(done=False, error=NotDelivered("Telegram asks for a pause.", retry_after=seconds))


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it came.

    Attributes:
        text: what is said, or what the person who pressed a button sees.
        message_id: of the message that is edited or deleted.
        press_id: of the press that is acknowledged.
        popup: whether an acknowledgement has to be closed.
    """

    verb: Verb
    chat: int | str | None = None
    topic: int | None = None
    message_id: int | None = None
    part: Part | None = None
    text: str = ""
    press_id: str = ""
    popup: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the chat shows it.

    Attributes:
        first: what it said when it was sent.
        now: what it says now; None when it was taken away.
    """

    chat: int | str
    message_id: int
    first: Part
    now: Part | None

    @property
    def text(self) -> str:
        """What it says now."""
        return "" if self.now is None else self.now.body.text

    @property
    def buttons(self) -> tuple[Button, ...]:
        """Its buttons now, row by row."""
        return () if self.now is None else tuple(button for row in self.now.keyboard for button in row)

    @property
    def first_buttons(self) -> tuple[Button, ...]:
        """The buttons that it was sent with: a press can come late."""
        return tuple(button for row in self.first.keyboard for button in row)


class ScriptedMessenger:
    """The port `Messenger`.

    Attributes:
        calls: every call, in order, also those that failed.
        chat: every message that was delivered, by its id.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.chat: dict[int, Shown] = {}
        self._script: dict[Verb, deque[Outcome | Hang]] = {}

    def script(self, *outcomes: Outcome | Hang, verb: Verb = "send") -> None:
        """Write down what becomes of the next calls of this verb."""
        self._script.setdefault(verb, deque()).extend(outcomes)

    def forget_script(self) -> None:
        """Let every call from here on succeed."""
        self._script.clear()

    def of(self, verb: Verb) -> list[Call]:
        """Every call of this verb, in order."""
        return [call for call in self.calls if call.verb == verb]

    def delivered(self, text: str) -> list[Shown]:
        """Every message that was sent with this text."""
        return [shown for shown in self.chat.values() if shown.first.body.text == text]

    @property
    def last(self) -> Shown:
        """The message that was delivered last."""
        shown = next(reversed(self.chat.values()), None)
        if shown is None:
            raise AssertionError("No message was delivered.")
        return shown

    async def send(self, chat: int | str, topic: int | None, part: Part) -> int:
        """See `core.ports.Messenger.send`."""
        done: list[int] = []

        def deliver() -> None:
            message_id = 4711 + len(self.chat)
            self.chat[message_id] = Shown(chat, message_id, first=part, now=part)
            done.append(message_id)

        await self._perform(Call("send", chat, topic, part=part, text=part.body.text), deliver)
        return done[0]

    async def edit(self, chat: int | str, message_id: int, part: Part) -> None:
        """See `core.ports.Messenger.edit`."""

        def change() -> None:
            shown = self._found(chat, message_id)
            self.chat[message_id] = Shown(chat, message_id, first=shown.first, now=part)

        call = Call("edit", chat, message_id=message_id, part=part, text=part.body.text)
        await self._perform(call, change)

    async def delete(self, chat: int | str, message_id: int) -> None:
        """See `core.ports.Messenger.delete`."""

        def remove() -> None:
            shown = self._found(chat, message_id)
            self.chat[message_id] = Shown(chat, message_id, first=shown.first, now=None)

        await self._perform(Call("delete", chat, message_id=message_id), remove)

    async def strip(self, chat: int | str, message_id: int) -> None:
        """See `core.ports.Messenger.strip`."""

        def change() -> None:
            shown = self._found(chat, message_id)
            assert shown.now is not None
            self.chat[message_id] = replace(shown, now=replace(shown.now, keyboard=()))

        await self._perform(Call("strip", chat, message_id=message_id), change)

    async def acknowledge(self, press_id: str, text: str, *, popup: bool) -> None:
        """See `core.ports.Messenger.acknowledge`."""
        await self._perform(Call("acknowledge", text=text, press_id=press_id, popup=popup), lambda: None)

    async def _perform(self, call: Call, do: _Deed) -> None:
        self.calls.append(call)
        script = self._script.get(call.verb)
        planned = script.popleft() if script else DELIVERED
        done = isinstance(planned, Hang) and planned.done_first
        if done:
            do()
        # A call takes time: whoever else is ready comes first.
        await asyncio.sleep(0)
        outcome = await planned.outcome() if isinstance(planned, Hang) else planned
        if outcome.done and not done:
            do()
        if outcome.error is not None:
            raise _fresh(outcome.error)

    def _found(self, chat: int | str, message_id: int) -> Shown:
        shown = self.chat.get(message_id)
        if shown is None or shown.now is None or shown.chat != chat:
            words = "Bad Request: message to edit not found"
            raise Rejected(Failure("telegram_rejected", "There is no such message.", 400, words))
        return shown


def _fresh(error: TelegateError) -> TelegateError:
    """The same error anew: an exception that is raised twice drags its first traceback along."""
    if isinstance(error, Rejected):
        return Rejected(error.failure)
    if isinstance(error, Migrated):
        return Migrated(error.chat)
    return type(error)(error.detail, retry_after=error.retry_after)
