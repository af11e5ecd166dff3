"""People who answer by themselves when a question arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

from infra.sandbox import people
from infra.sandbox.double import TelegramDouble
from infra.sandbox.people import Said
from infra.sandbox.world import Change, ChangeKind, Message, Person

_numbers = count(1)


@dataclass(slots=True, eq=False)
class Script:
    """One person's habit: press a certain button, or write a certain reply.

    Attributes:
        answer: the label of a button, or the text for a message that asks for a reply.
        times: how many more questions are answered; None for all.
        delay: seconds before the answer.
        answered: the questions that were answered.
    """

    double: TelegramDouble = field(repr=False)
    person: Person
    answer: str
    times: int | None = None
    delay: float = 0.0
    answered: list[Message] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_numbers))

    def attach(self) -> Script:
        """Begin to watch."""
        self.double.world.watchers.append(self._saw)
        return self

    def lift(self) -> None:
        """Stop answering."""
        if self._saw in self.double.world.watchers:
            self.double.world.watchers.remove(self._saw)

    def _saw(self, change: Change) -> None:
        message = change.message
        if (
            change.kind is not ChangeKind.SENT
            or message is None
            or message.sender is not self.double.world.bot
        ):
            return
        if self.person.id not in message.chat.members or not self._can_answer(message):
            return
        self.answered.append(message)
        if self.times is not None:
            self.times -= 1
            if self.times <= 0:
                self.lift()
        asyncio.get_running_loop().call_later(self.delay, self._act, message)

    def _can_answer(self, message: Message) -> bool:
        return self.answer in message.labels or message.force_reply is not None

    def _act(self, message: Message) -> None:
        if message.deleted or self.person.blocked:
            return
        if self.answer in message.labels:
            data = message.button(self.answer).data
            if data is not None:
                people.press(self.double, self.person, message, data)
        else:
            people.say(self.double, self.person, message.chat, self.answer, Said(reply_to=message))
