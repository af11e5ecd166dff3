"""People: who answer what they see, once, twice, late, or although it is none of their business."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from infra.sandbox import Change, ChangeKind
from infra.sandbox.world import Message
from tests.nemesis.facts import Act
from tests.nemesis.plan import Plan, PlannedPress, PlannedTask
from tests.nemesis.truth import Telegram, marker_in, nap

LABELS = {"yes": "Yes", "no": "No"}


@dataclass(slots=True, eq=False)
class People:
    """Watches all chats, and lets people do what the plan says.

    Attributes:
        acts: what they have done.
    """

    telegram: Telegram
    plan: Plan
    acts: list[Act] = field(default_factory=list)
    _copies: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _acting: set[asyncio.Task[None]] = field(default_factory=set)
    _questions: dict[str, PlannedTask] = field(default_factory=dict)

    def watch(self) -> None:
        """From now on, look at every message."""
        self._questions = {task.marker: task for task in self.plan.tasks if task.presses}
        self.telegram.sandbox.world.watchers.append(self._notice)

    async def command(self, begun: float) -> None:
        """Send the planned commands, at their times after `begun` (Unix time)."""
        for planned in self.plan.commands:
            await nap(begun + planned.at - time.time())
            await self.say_whoami(planned.person)

    async def say_whoami(self, number: int) -> None:
        """Send one command now."""
        said = await self.telegram.persons[number].says(None, "/whoami")
        self._note("command", said.update, number, said, said="/whoami")

    async def done(self) -> None:
        """Wait until everybody has done what he was about to do."""
        while self._acting:
            await asyncio.gather(*self._acting)

    def _notice(self, change: Change) -> None:
        message = change.message
        if change.kind is not ChangeKind.SENT or message is None:
            return
        task = self._questions.get(marker_in(change.text) or "")
        if task is None or message.sender is not self.telegram.sandbox.world.bot:
            return
        self._copies[task.marker] += 1
        if self._copies[task.marker] == 1:
            for number, press in enumerate(task.presses):
                self._begin(self._act(task, message, press, number))
        else:
            # Who sees the same question again answers it again.
            dice = random.Random(f"{self.plan.seed}/{task.marker}/{self._copies[task.marker]}")  # noqa: S311 - no secret
            press = task.presses[-1]
            again = PlannedPress(round(dice.uniform(0, 1), 3), press.person, press.choice)
            self._begin(self._act(task, message, again, 10 * self._copies[task.marker]))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        acting = asyncio.create_task(work)
        self._acting.add(acting)
        acting.add_done_callback(self._acting.discard)

    async def _act(self, task: PlannedTask, message: Message, press: PlannedPress, number: int) -> None:
        person = self.telegram.persons[press.person]
        # A phone shows buttons a while after they are gone.
        data = {button.text: button.data for button in message.buttons}.get(LABELS.get(press.choice, ""))
        await nap(press.delay)
        if task.written:
            words = f"My words number {number}"
            said = await person.says(message.chat.id, words, reply_to=message)
            self._note("words", said.update, person.id, said, marker=task.marker, said=words)
        elif data is not None:
            pressed = await person.forges(message, data)
            self._note("press", pressed.update, person.id, message, marker=task.marker, said=press.choice)

    def _note(
        self,
        kind: str,
        update: int | None,
        person: int,
        message: Message,
        *,
        marker: str | None = None,
        said: str,
    ) -> None:
        assert update is not None, "The bot is told of everything that people do here."
        act = Act(kind, update, time.time(), person, message.chat.id, message.id, marker, said)
        self.acts.append(act)
