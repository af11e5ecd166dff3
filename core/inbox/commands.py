"""Commands: what a person's `/command` does."""

from __future__ import annotations

from core.inbox.decisions import say
from core.model.effect import Effect
from core.model.errors import TelegramUnavailable
from core.model.update import CommandReceived
from core.policy.policy import FOR_EVERY_PERSON, Policy
from core.presentation import phrases
from core.services.factory import Reply


def is_for_this_bot(command: CommandReceived, policy: Policy, username: str | None) -> bool:
    """Whether this bot is meant. In a group, an unknown command without `@bot` is meant for another one.

    Args:
        command: the update.
        policy: names the commands that are known.
        username: this bot's name without @; None as long as Telegram has not told it.

    Raises:
        TelegramUnavailable: the command names a bot, and this one's name is not known yet. Telegram brings
            the update again.
    """
    if command.addressed_to is None:
        return command.private or command.name in FOR_EVERY_PERSON or command.name in policy.commands
    if username is None:
        raise TelegramUnavailable(
            "Telegram has not told the bot's name yet, so this command may be for another bot.", retry_after=3
        )
    return command.addressed_to == username.lower()


def is_refused(command: CommandReceived, policy: Policy) -> bool:
    """Whether the command is one of the policy's, and not for this person in this chat."""
    return (
        command.name not in FOR_EVERY_PERSON
        and command.name in policy.commands
        and not policy.may_run(command.person.id, command.name, command.chat)
    )


def decide_command(command: CommandReceived, policy: Policy, reply: Reply) -> Effect:
    """The gateway replies to every command.

    Args:
        command: the update.
        policy: says who may run what.
        reply: makes the reply to the person.
    """
    return say(reply, _words(command, policy))


def _words(command: CommandReceived, policy: Policy) -> str:
    match command.name:
        case "start":
            return phrases.welcome(command.person.name)
        case "help":
            return phrases.help_text(policy.commands_for(command.person.id, command.chat))
        case "whoami":
            return phrases.who_you_are(command.person.id, command.chat)
    if command.name not in policy.commands:
        return phrases.UNKNOWN_COMMAND
    if is_refused(command, policy):
        return phrases.not_allowed(command.name)
    return phrases.not_yet(command.name)
