"""Presses: what a tap on a button does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.inbox.decisions import Context
from core.jobs.kinds.finalize import finalize_job
from core.model.effect import Effect, Notice, Orphan
from core.model.task import Change, Task
from core.model.transition import OPEN_QUESTION_STATES, Step
from core.model.update import ButtonPressed
from core.presentation import phrases
from core.presentation.buttons import ButtonData, are_of_one_question


def decide_press(
    press: ButtonPressed, data: ButtonData | None, tasks: Sequence[Task], context: Context
) -> Effect:
    """A respondent's tap answers an open question; anybody else is told why it does not.

    Args:
        press: the update.
        data: what the button carries; None when it never was one of ours.
        tasks: the question that the button's token belongs to, if it is known.
        context: what else the decision is based on.
    """
    gone = _popup(press, phrases.BUTTON_GONE)
    task = tasks[0] if tasks else None
    if data is None:
        return gone
    if task is None:
        return replace(gone, orphan=_orphan(press, data, context))
    if not _is_genuine(press, data, task, context):
        return gone
    person = press.person
    if person is None:
        return _popup(press, phrases.ONLY_PEOPLE)
    if task.state not in OPEN_QUESTION_STATES:
        return _too_late(press, task, context)
    if not context.may_answer(person, task):
        refused = Change(task, Step.ANSWER_REFUSED, person=person.id, update=press.update_id)
        return replace(_popup(press, phrases.NOT_YOURS), changes=(refused,))
    answer = task.question.answer_by_option(data.option, person, context.now)
    if answer is None:
        return gone
    delivered = task.with_message(context.now, press.message_id)
    effect = context.answered(delivered, answer, person, press.update_id)
    return replace(effect, notice=Notice(press.press_id, phrases.thanks(answer)))


def _popup(press: ButtonPressed, words: str) -> Effect:
    return Effect(notice=Notice(press.press_id, words, popup=True))


def _is_genuine(press: ButtonPressed, data: ButtonData, task: Task, context: Context) -> bool:
    """Whether we made this button, for this chat; a channel known by its name has no id to compare.

    A modified client can press a button of one message under another one. Under a message that is not
    known to be the question's, only a button that Telegram says to be there counts.
    """
    chat = task.chat.id
    is_here = isinstance(chat, str) or context.is_same_chat(chat, press.chat)
    if not (is_here and data.genuine(context.identity.keys, chat)):
        return False
    return press.message_id in task.message_ids or press.data in press.carrier().buttons


def _orphan(press: ButtonPressed, data: ButtonData, context: Context) -> Orphan | None:
    """The message that was pressed, when it is ours for certain, and its question is not known any more.

    A modified client can name any message and send any data, but Telegram tells by itself which buttons
    that message carries. A key of ours proves that we made the one that was pressed. When the database,
    and the keys with it, was replaced, it has to be this bot's message, with nothing but the buttons of
    one question: a question of this database would carry its own token there, which leads to it.
    """
    carrier, identity = press.carrier(), context.identity
    if press.data not in carrier.buttons:
        return None
    looks_ours = carrier.author == identity.bot and are_of_one_question(carrier.buttons)
    is_ours = looks_ours or data.genuine(identity.keys, press.chat)
    return Orphan(press.chat, press.message_id) if is_ours else None


def _too_late(press: ButtonPressed, task: Task, context: Context) -> Effect:
    """Say so, and take away the buttons of what was pressed, be it a copy that nobody knew of."""
    found = task.with_message(context.now, press.message_id)
    changes = () if found is task else (Change(found, Step.COPY_FOUND, update=press.update_id),)
    late = _popup(press, phrases.too_late(task))
    return replace(late, changes=changes, jobs=(finalize_job(found, context.now),))
