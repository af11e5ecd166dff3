"""Use case: an update arrived. What it does is stored together with it, in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from core.jobs.background import to_its_end
from core.jobs.sending import Sender
from core.metrics import UpdateFigures
from core.model.errors import TelegramUnavailable
from core.model.message import Chat
from core.model.question import Person
from core.model.task import OPEN_QUESTION_STATES, Change, Task, TaskState
from core.model.update import (
    ButtonPressed,
    ByMessage,
    ByToken,
    CommandReceived,
    Effect,
    Ignored,
    Lookup,
    Notice,
    OpenQuestions,
    Orphan,
    TextReceived,
    Unreadable,
    Update,
)
from core.policy.policy import FOR_EVERY_PERSON, Policy
from core.ports import InboxStore
from core.presentation import phrases
from core.presentation.buttons import ButtonData, are_of_one_question
from core.presentation.render import fingerprint, parts_of
from core.services.factory import Drafter

log = logging.getLogger("telegate.inbox")


@dataclass(frozen=True, slots=True)
class Inbox:
    """Takes updates, each exactly once.

    Attributes:
        username: the bot's name in `/command@name`, without @; None until Telegram has told it.
        figures: what became of updates.
    """

    store: InboxStore
    policy: Callable[[], Policy]
    drafter: Drafter
    sender: Sender
    username: Callable[[], str | None]
    figures: UpdateFigures = field(default_factory=UpdateFigures)

    async def take(self, update: Update) -> str:
        """Store an update with its effect; then, without waiting for it, tell whoever is concerned.

        Returns:
            What became of it: one of `core.metrics.EFFECTS`.

        Raises:
            StorageUnavailable: nothing was stored; Telegram has to bring the update again.
            TelegramUnavailable: it names a bot, and the name of this one is not known yet; the same.
        """
        # Whoever brings the update may hang up: what is stored is still to be told to whoever is concerned.
        return await to_its_end(self._measured(update))

    async def _measured(self, update: Update) -> str:
        effect, begun = "refused", time.perf_counter()
        try:
            effect = await self._take(update)
            return effect
        finally:
            self.figures.effects.count(effect)
            self.figures.seconds.observe(time.perf_counter() - begun)

    async def _take(self, update: Update) -> str:
        """Returns one of `core.metrics.EFFECTS`."""
        match update:
            case Unreadable():
                return await self._put_aside(update)
            case Ignored():
                log.debug("An update means nothing to us: %s", update.reason, extra={"action": "ignored"})
            case ButtonPressed():
                await self.sender.chats.ready()
                return await self._take_press(update)
            case TextReceived():
                await self.sender.chats.reached(update.chat)
                return await self._take_text(update)
            case CommandReceived():
                await self.sender.chats.reached(update.chat)
                if self._is_for_us(update):
                    return await self._receive(update.update_id, None, lambda _tasks: self._command(update))
        return "ignored"

    async def _take_press(self, press: ButtonPressed) -> str:
        data = ButtonData.unpack(press.data)
        lookup = None if data is None else ByToken(data.token)
        effect = await self._receive(press.update_id, lookup, lambda tasks: self._press(press, data, tasks))
        if effect == "duplicate":
            # Whoever took it first may have died before it said so, and the button still looks busy.
            self.sender.closer.acknowledge(Notice(press.press_id, ""))
        return effect

    async def _put_aside(self, update: Unreadable) -> str:
        await self.store.quarantine(update.update_id, update.reason, update.raw)
        log.warning(
            "An update could not be read and was put aside: %s",
            update.reason,
            extra={"action": "quarantined", "update": update.update_id},
        )
        return "quarantined"

    async def _receive(
        self, update_id: int, lookup: Lookup | None, judge: Callable[[Sequence[Task]], Effect]
    ) -> str:
        effect = await self.store.receive(update_id, lookup, judge)
        if effect is None:
            log.info(
                "An update came again; it had its effect.", extra={"action": "duplicate", "update": update_id}
            )
            return "duplicate"
        for change in effect.changes:
            _log_change(change)
            if change.ends_task:
                self.sender.outcomes.ended(change.task)
            else:
                self.sender.outcomes.stepped(change.task)
        if effect.notice is not None:
            self.sender.closer.acknowledge(effect.notice)
        for reply in effect.replies:
            self.sender.take(reply)
        if effect.close is not None:
            self.sender.closer.close(effect.close)
        if effect.orphan is not None:
            self.sender.closer.strip(effect.orphan)
        return "taken"

    # A button

    def _press(self, press: ButtonPressed, data: ButtonData | None, tasks: Sequence[Task]) -> Effect:
        task = tasks[0] if tasks else None
        if data is None or task is None or not self._genuine(press, data, task):
            orphan = self._orphan(press, data) if data is not None and task is None else None
            return Effect(notice=Notice(press.press_id, phrases.BUTTON_GONE, popup=True), orphan=orphan)
        if press.person is None:
            return _notice(press, phrases.ONLY_PEOPLE, popup=True)
        if task.state not in OPEN_QUESTION_STATES:
            return self._too_late(press, task)
        if not self._may_answer(press.person, task):
            return _refusal(task, press, press.person)
        now = self.drafter.clock.now()
        answer = task.question.answer_by_option(data.option, press.person, now)
        if answer is None:
            return _notice(press, phrases.BUTTON_GONE, popup=True)
        decided = task.with_message(now, press.message_id).answered(now, answer)
        change = self._answer(task, decided, press.person, press.update_id)
        return Effect(changes=(change,), notice=Notice(press.press_id, phrases.thanks(answer)))

    def _too_late(self, press: ButtonPressed, task: Task) -> Effect:
        """Say so, and take away the buttons of what was pressed, be it a copy that nobody knew of."""
        found = task.with_message(self.drafter.clock.now(), press.message_id)
        changes = () if found is task else (Change(found, "copy_found", update=press.update_id),)
        notice = Notice(press.press_id, phrases.too_late(task), popup=True)
        return Effect(changes=changes, notice=notice, close=found)

    def _orphan(self, press: ButtonPressed, data: ButtonData) -> Orphan | None:
        """The message that was pressed, when it is ours for certain, and its question is not known any more.

        A modified client can name any message and send any data, but Telegram tells by itself which buttons
        that message carries. A key of ours proves that we made the one that was pressed. When the database,
        and the keys with it, was replaced, it has to be this bot's message, with nothing but the buttons of
        one question: a question of this database would carry its own token there, which leads to it.
        """
        carrier, identity = press.carrier(), self.drafter.identity
        if press.data not in carrier.buttons:
            return None
        looks_ours = carrier.author == identity.bot and are_of_one_question(carrier.buttons)
        is_ours = looks_ours or data.genuine(identity.keys, press.chat)
        return Orphan(press.chat, press.message_id) if is_ours else None

    def _genuine(self, press: ButtonPressed, data: ButtonData, task: Task) -> bool:
        """Whether we made this button, for this chat; a channel known by its name has no id to compare.

        A modified client can press a button of one message under another one. Under a message that is not
        known to be the question's, only a button that Telegram says to be there counts.
        """
        here = isinstance(task.chat.id, str) or self.sender.chats.is_same(task.chat.id, press.chat)
        signed = here and data.genuine(self.drafter.identity.keys, task.chat.id)
        return signed and (press.message_id in task.message_ids or press.data in press.carrier().buttons)

    # Words

    async def _take_text(self, text: TextReceived) -> str:
        if text.reply_to is not None:
            lookup: Lookup = ByMessage(text.chat, text.reply_to)
            return await self._receive(text.update_id, lookup, lambda tasks: self._replied(text, tasks))
        if text.private:
            lookup = OpenQuestions(text.chat)
            return await self._receive(text.update_id, lookup, lambda tasks: self._wrote(text, tasks))
        return "ignored"

    def _replied(self, text: TextReceived, tasks: Sequence[Task]) -> Effect:
        """Words that reply to one message: they can only be meant for its question."""
        task = self._replied_question(text, tasks)
        if task is None:
            return self._hint(text, phrases.NOTHING_OPEN)
        if task.state not in OPEN_QUESTION_STATES:
            return self._say(text, phrases.too_late(task))
        if task.question.input is None:
            return self._hint(text, phrases.USE_BUTTONS)
        if not self._may_answer(text.person, task):
            return self._stranger(text, task)
        return self._written(text, task)

    def _replied_question(self, text: TextReceived, tasks: Sequence[Task]) -> Task | None:
        """The question of the message that was replied to, or the one that says just what it says.

        The words can be quicker than what tells that the message was delivered, and a copy of it may never
        be told of. Of several that say the same, none is meant for certain.
        """
        known = [task for task in tasks if task.is_question and text.reply_to in task.message_ids]
        if known or text.reply_to is None:
            return next(iter(known), None)
        alike = [task for task in tasks if self._says(task, text.replied_text)]
        return alike[0].with_message(self.drafter.clock.now(), text.reply_to) if len(alike) == 1 else None

    def _says(self, task: Task, words: str | None) -> bool:
        if words is None or not task.is_question:
            return False
        sender = self.sender
        return parts_of(task, sender.formatter, self.drafter.identity.keys[-1])[-1].body.text == words

    def _wrote(self, text: TextReceived, tasks: Sequence[Task]) -> Effect:
        """Words that reply to nothing, in a private chat: clear only when one question waits for words."""
        mine = [task for task in tasks if self._may_answer(text.person, task)]
        wordy = [task for task in mine if task.question.input is not None]
        if len(wordy) == 1:
            return self._written(text, wordy[0])
        if wordy:
            return self._say(text, phrases.WHICH_QUESTION)
        return self._say(text, phrases.USE_BUTTONS if mine else phrases.NOTHING_OPEN)

    def _written(self, text: TextReceived, task: Task) -> Effect:
        now = self.drafter.clock.now()
        answer = task.question.answer_by_text(text.text, text.person, now)
        change = self._answer(task, task.answered(now, answer), text.person, text.update_id)
        return Effect(changes=(change,))

    def _stranger(self, text: TextReceived, task: Task) -> Effect:
        refused = Change(task, "answer_refused", person=text.person.id, update=text.update_id)
        said = self._say(text, phrases.NOT_YOURS)
        return Effect(changes=(refused,), replies=said.replies)

    def _hint(self, text: TextReceived, words: str) -> Effect:
        """Say it where only this person reads it; in a group it would be noise."""
        return self._say(text, words) if text.private else Effect()

    # Commands

    def _is_for_us(self, command: CommandReceived) -> bool:
        """In a group, a command without `@bot` that we do not know is meant for another bot."""
        if command.addressed_to is None:
            ours = command.name in FOR_EVERY_PERSON or command.name in self.policy().commands
            return command.private or ours
        username = self.username()
        if username is None:
            # Telegram brings it again; by then it has told who we are.
            raise TelegramUnavailable(_NAME_UNKNOWN, retry_after=3)
        return command.addressed_to == username.lower()

    def _command(self, command: CommandReceived) -> Effect:
        return self._say(command, self._command_reply(command, self.policy()))

    def _command_reply(self, command: CommandReceived, policy: Policy) -> str:
        match command.name:
            case "start":
                return phrases.welcome(command.person.name)
            case "help":
                return phrases.help_text(policy.commands_for(command.person.id, command.chat))
            case "whoami":
                return phrases.who_you_are(command.person.id, command.chat)
        if command.name not in policy.commands:
            return phrases.UNKNOWN_COMMAND
        if not policy.may_run(command.person.id, command.name, command.chat):
            log.warning(
                "A person may not run this command.",
                extra={"action": "command_refused", "person": command.person.id, "command": command.name},
            )
            return phrases.not_allowed(command.name)
        return phrases.not_yet(command.name)

    # Both

    def _answer(self, before: Task, decided: Task, by: Person, update_id: int) -> Change:
        """The step of an answer. One to a question that nobody knew to be asked proves what was shown."""
        shown = None
        if before.state is not TaskState.ASKED:
            keys = self.drafter.identity.keys
            shown = fingerprint(parts_of(before, self.sender.formatter, keys[-1])[-1])
        return Change.to_state(decided, person=by.id, update=update_id, shown=shown)

    def _may_answer(self, person: Person, task: Task) -> bool:
        return task.question.respondents.include(person.id, self.policy().roles_of_person)

    def _say(self, to: TextReceived | CommandReceived, words: str) -> Effect:
        chat = Chat(to.chat, topic=to.topic)
        return Effect(replies=(self.drafter.reply(words, chat, to.message_id),))


_NAME_UNKNOWN = "Telegram has not told the bot's name yet, so this command may be for another bot."


def _notice(press: ButtonPressed, words: str, *, popup: bool) -> Effect:
    return Effect(notice=Notice(press.press_id, words, popup))


def _refusal(task: Task, press: ButtonPressed, person: Person) -> Effect:
    refused = Change(task, "answer_refused", person=person.id, update=press.update_id)
    return Effect(changes=(refused,), notice=Notice(press.press_id, phrases.NOT_YOURS, popup=True))


STEPS: Final = MappingProxyType(
    {
        "answered": "A question is answered.",
        "answer_refused": "A person's answer was refused.",
        "copy_found": "Somebody pressed a button in an unknown copy of a question that is over.",
    }
)
"""The steps that an update can make a task take, and what the log says of each."""


def _log_change(change: Change) -> None:
    log.info(
        STEPS.get(change.what, "An update made a task take a step."),
        extra={
            "action": change.what,
            "task": change.task.id,
            "service": change.task.service,
            "person": change.person,
            "update": change.update,
        },
    )
