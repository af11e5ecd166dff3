"""Use case: an update arrived. What it does is stored together with it, in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from core.inbox.commands import decide_command, is_for_this_bot, is_refused
from core.inbox.decisions import Context
from core.inbox.feedback import Feedback
from core.inbox.presses import decide_press
from core.inbox.replies import decide_reply, decide_words
from core.jobs.background import run_to_completion
from core.jobs.chats import ChatBook
from core.jobs.runner import Runner
from core.metrics import UpdateMetrics
from core.model.effect import Notice, UpdateDecision
from core.model.identity import GatewayIdentity
from core.model.lookup import ByMessage, ByToken, Lookup, OpenQuestions
from core.model.transition import Step
from core.model.update import (
    ButtonPressed,
    CommandReceived,
    Ignored,
    MembershipChanged,
    TextReceived,
    Unreadable,
    Update,
)
from core.policy.policy import Policy
from core.ports import Clock, Formatter, InboxStore
from core.presentation.buttons import ButtonData
from core.services.factory import TaskFactory

log = logging.getLogger("telegate.inbox")

STEPS: Final = MappingProxyType(
    {
        Step.ANSWERED: "Question answered.",
        Step.ANSWER_REFUSED: "Answer refused: this person may not answer the question.",
        Step.COPY_FOUND: "A button was tapped in an unknown copy of a question that is over.",
    }
)
"""The steps that an update can make a task take, and what the log says of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """Takes updates, each exactly once.

    Attributes:
        username: the bot's name in `/command@name`, without @; None until Telegram has told it.
        metrics: what became of updates.
    """

    store: InboxStore
    policy: Callable[[], Policy]
    factory: TaskFactory
    runner: Runner
    feedback: Feedback
    chats: ChatBook
    formatter: Formatter
    identity: GatewayIdentity
    clock: Clock
    username: Callable[[], str | None]
    metrics: UpdateMetrics = field(default_factory=UpdateMetrics)

    async def take(self, update: Update) -> str:
        """Store an update with its effect; then, without waiting for it, let happen what follows.

        Returns:
            What became of it: one of `core.metrics.EFFECTS`.

        Raises:
            StorageUnavailable: nothing was stored; Telegram has to bring the update again.
            TelegramUnavailable: it names a bot, and the name of this one is not known yet; the same.
        """
        # Whoever brings the update may hang up: what follows from what is stored has to happen all the same.
        return await run_to_completion(self._measured(update))

    async def _measured(self, update: Update) -> str:
        effect, begun = "refused", time.perf_counter()
        try:
            effect = await self._take(update)
            return effect
        finally:
            self.metrics.effects.count(effect)
            self.metrics.seconds.observe(time.perf_counter() - begun)

    async def _take(self, update: Update) -> str:
        match update:
            case Unreadable():
                return await self._quarantine(update)
            case Ignored():
                log.debug("Update ignored: %s", update.reason, extra={"action": "ignored"})
                return "ignored"
            case MembershipChanged():
                if update.can_write:
                    await self.chats.reached(update.chat)
                return "taken"
            case ButtonPressed():
                await self.chats.reached(update.chat)
                return await self._take_press(update)
            case TextReceived():
                await self.chats.reached(update.chat)
                return await self._take_text(update)
            case CommandReceived():
                await self.chats.reached(update.chat)
                return await self._take_command(update)

    async def _quarantine(self, update: Unreadable) -> str:
        await self.store.quarantine(update.update_id, update.reason, update.raw)
        log.warning(
            "Update quarantined, because it could not be read: %s",
            update.reason,
            extra={"action": "quarantined", "update": update.update_id},
        )
        return "quarantined"

    async def _take_press(self, press: ButtonPressed) -> str:
        data = ButtonData.unpack(press.data)
        lookup = None if data is None else ByToken(data.token)
        context = self._context()
        effect = await self._receive(
            press.update_id, lookup, lambda tasks: decide_press(press, data, tasks, context)
        )
        if effect == "duplicate":
            # Whoever took it first may have died before it said so, and the button still looks busy.
            self.feedback.acknowledge(Notice(press.press_id, ""))
        return effect

    async def _take_text(self, text: TextReceived) -> str:
        lookup: Lookup
        if text.reply_to is not None:
            lookup, decide = ByMessage(text.chat, text.reply_to), decide_reply
        elif text.private:
            lookup, decide = OpenQuestions(text.chat), decide_words
        else:
            return "ignored"
        context = self._context()
        reply = self.factory.reply(text.chat, text.topic, text.message_id, context.now)
        return await self._receive(text.update_id, lookup, lambda tasks: decide(text, tasks, context, reply))

    async def _take_command(self, command: CommandReceived) -> str:
        policy = self.policy()
        if not is_for_this_bot(command, policy, self.username()):
            return "ignored"
        reply = self.factory.reply(command.chat, command.topic, command.message_id, self.clock.now())
        effect = await self._receive(
            command.update_id, None, lambda _tasks: decide_command(command, policy, reply)
        )
        if effect == "taken" and is_refused(command, policy):
            log.warning(
                "Command refused: this person may not run it.",
                extra={"action": "command_refused", "person": command.person.id, "command": command.name},
            )
        return effect

    def _context(self) -> Context:
        return Context(
            now=self.clock.now(),
            policy=self.policy(),
            identity=self.identity,
            formatter=self.formatter,
            is_same_chat=self.chats.is_same,
        )

    async def _receive(self, update_id: int, lookup: Lookup | None, decide: UpdateDecision) -> str:
        committed = await self.store.receive(update_id, lookup, decide, lease=self.runner.lease())
        if committed is None:
            log.info("Duplicate update ignored.", extra={"action": "duplicate", "update": update_id})
            return "duplicate"
        self.runner.follow(committed)
        effect = committed.effect
        for change in effect.changes:
            log.info(
                STEPS[change.step],
                extra={
                    "action": change.step.value,
                    "task": change.task.id,
                    "service": change.task.service,
                    "person": change.person,
                    "update": change.update,
                },
            )
        if effect.notice is not None:
            self.feedback.acknowledge(effect.notice)
        if effect.orphan is not None:
            self.feedback.strip(effect.orphan)
        return "taken"
