"""Every sentence that a person reads in the chat: short, friendly, no jargon, no ids."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from core.model.answer import Answer
from core.model.question import Question, TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.policy.policy import CommandRule

TOAST_LIMIT = 200
"""Characters that Telegram shows of a button's acknowledgement (Bot API, answerCallbackQuery)."""

BUTTON_GONE = "This button no longer works."
ONLY_PEOPLE = "Only a person can answer this. Please answer as yourself."
NOT_YOURS = "This question is for somebody else."
USE_BUTTONS = "Please use the buttons under the question."
WHICH_QUESTION = "More than one question is open. Please reply to the one that you mean."
NOTHING_OPEN = "I have no open question for you right now. Send /help to see what I can do."
UNKNOWN_COMMAND = "Sorry, I do not know that command. Send /help to see what I can do."


def thanks(answer: Answer) -> str:
    """Acknowledges the answer that has just counted."""
    return _toast(f"Thank you! You chose “{answer.label}”.")


def too_late(task: Task) -> str:
    """Says why a question can no longer be answered."""
    if task.state is TaskState.EXPIRED:
        return "The time to answer this question is over."
    if task.state is TaskState.ANSWERED and task.decision is not None and task.decision.by is not None:
        return _toast(f"{task.decision.by.name} has already answered: {_said(task.decision)}.")
    return "This question was withdrawn."


def how_to_answer(words: TextInput, *, has_options: bool) -> str:
    """The line under a question that takes a written answer."""
    way = "Tap a button, or reply to this message" if has_options else "Reply to this message"
    return f"{way}: {words.placeholder}" if words.placeholder else f"{way} with your answer."


def please_again(question: Question) -> str:
    """The line under an open question after a time in which answers may have been lost."""
    if question.input is None:
        return "Sorry, I was away for a while. If you have already tapped a button, please tap it again."
    return "Sorry, I was away for a while. If you have already answered, please answer again."


def outcome(task: Task) -> str:
    """The line under a question that is over: who decided what, and when."""
    decision = task.decision
    if task.state is TaskState.CANCELLED or (decision is None and task.state is not TaskState.EXPIRED):
        return f"This question was withdrawn on {_when(task.updated_at)}."
    if decision is None:
        return "Nobody answered in time."
    if decision.by is None:
        return f"Nobody answered in time, so “{decision.label}” counts."
    verb = "chose" if decision.choice is not None else "answered"
    return f"{decision.by.name} {verb} {_said(decision)} on {_when(decision.at)}."


def welcome(name: str) -> str:
    """The reply to /start."""
    return (
        f"Hello {name}! I bring you messages and questions from your team's services. "
        "When a question comes, just tap a button or reply to it. Send /help to see what else I can do."
    )


def help_text(rules: Iterable[CommandRule]) -> str:
    """The reply to /help: what this person may run here."""
    own = [f"/{rule.name} {rule.usage}".rstrip() + _described(rule) for rule in rules]
    lines = [
        "I bring you messages and questions from your team's services.",
        "Tap a button under a question to answer it, or reply to it when it asks for words.",
        "",
        *own,
        "/help – this message",
        "/whoami – your Telegram id, for whoever runs this bot",
    ]
    return "\n".join(lines)


def who_you_are(person: int, chat: int) -> str:
    """The reply to /whoami: the one place where a person is shown ids, because they are asked for."""
    if chat == person:
        return f"Your Telegram id is {person}. Whoever runs this bot needs it to give you permissions."
    return (
        f"Your Telegram id is {person}, and the id of this chat is {chat}. "
        "Whoever runs this bot needs them to give you permissions."
    )


def not_allowed(name: str) -> str:
    """The reply to a command that this person may not run."""
    return f"Sorry, you may not use /{name} here. Whoever runs this bot can allow it."


def not_yet(name: str) -> str:
    """The reply to a command that is allowed, while commands do not reach services yet."""
    return f"Sorry, I cannot pass /{name} on yet."


def _described(rule: CommandRule) -> str:
    return f" – {rule.description}" if rule.description else ""


def _said(answer: Answer) -> str:
    said = answer.label if answer.choice is not None else answer.text
    return f"“{_shortened(said or '')}”"


def _shortened(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _toast(text: str) -> str:
    return _shortened(text, TOAST_LIMIT)


def _when(at: datetime) -> str:
    return f"{at.day} {at:%B %Y} at {at:%H:%M} UTC"
