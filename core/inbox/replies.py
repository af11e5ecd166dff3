"""Replies: what a person's written words do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from core.inbox.decisions import Context, say
from core.model.effect import NOTHING, Effect
from core.model.task import Change, Task
from core.model.transition import OPEN_QUESTION_STATES, Step
from core.model.update import TextReceived
from core.presentation import phrases
from core.services.factory import Reply

MOST_COMPARED: Final = 20
"""So many open questions, the newest, are compared with a message that is not known to be of any question:
formatting takes time, and whoever else writes to the database waits meanwhile."""


def decide_reply(text: TextReceived, tasks: Sequence[Task], context: Context, reply: Reply) -> Effect:
    """Words that reply to a message can only be meant for its question.

    Args:
        text: the update.
        tasks: the task of that message, or else the questions that are open in the chat, newest first.
        context: what else the decision is based on.
        reply: makes the reply to the person.
    """
    task = _question_of_message(text, tasks, context)
    if task is None:
        return _hint(text, reply, phrases.NOTHING_OPEN)
    if task.state not in OPEN_QUESTION_STATES:
        return say(reply, phrases.too_late(task))
    if task.question.input is None:
        return _hint(text, reply, phrases.USE_BUTTONS)
    if not context.may_answer(text.person, task):
        refused = Change(task, Step.ANSWER_REFUSED, person=text.person.id, update=text.update_id)
        return replace(say(reply, phrases.NOT_YOURS), changes=(refused,))
    return _answered(text, task, context)


def decide_words(text: TextReceived, tasks: Sequence[Task], context: Context, reply: Reply) -> Effect:
    """Words that reply to nothing, in a private chat: clear only when one question waits for words.

    Args:
        text: the update.
        tasks: the questions that are open in the chat.
        context: what else the decision is based on.
        reply: makes the reply to the person.
    """
    own = [task for task in tasks if context.may_answer(text.person, task)]
    for_words = [task for task in own if task.question.input is not None]
    if len(for_words) == 1:
        return _answered(text, for_words[0], context)
    if for_words:
        return say(reply, phrases.WHICH_QUESTION)
    return say(reply, phrases.USE_BUTTONS if own else phrases.NOTHING_OPEN)


def _question_of_message(text: TextReceived, tasks: Sequence[Task], context: Context) -> Task | None:
    """The question of the message that was replied to, or the one that says just what it says.

    The words can be quicker than what tells that the message was delivered, and a copy of it may never
    be told of. Of several that say the same, none is meant for certain.
    """
    questions = [task for task in tasks if task.is_question]
    known = next((task for task in questions if text.reply_to in task.message_ids), None)
    if known is not None or text.reply_to is None or text.replied_text is None:
        return known
    newest = questions[:MOST_COMPARED]
    alike = (task for task in newest if context.last_part(task).body.text == text.replied_text)
    match list(islice(alike, 2)):
        case [only]:
            return only.with_message(context.now, text.reply_to)
        case _:
            return None


def _answered(text: TextReceived, task: Task, context: Context) -> Effect:
    answer = task.question.answer_by_text(text.text, text.person, context.now)
    return context.answered(task, answer, text.person, text.update_id)


def _hint(text: TextReceived, reply: Reply, words: str) -> Effect:
    """Say it where only this person reads it; in a group it would be noise."""
    return say(reply, words) if text.private else NOTHING
