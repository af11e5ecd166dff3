"""Replies: what written words change, and what is said to them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.inbox.replies import MOST_COMPARED, decide_reply, decide_words
from core.jobs.kinds.finalize import finalize_job
from core.model.effect import NOTHING, Effect
from core.model.message import Format, Message
from core.model.part import FormattedText
from core.model.question import TextInput
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from core.model.update import TextReceived
from core.presentation import phrases
from core.presentation.render import fingerprint, parts_of
from core.services.factory import jobs_of
from tests.fakes.formatter import PlainFormatter
from tests.fakes.world import ADA, EVE, KEYS
from tests.unit.inbox.samples import ANYONE, NOW, context, draft, question, told, words


class CountingFormatter(PlainFormatter):
    """Counts how often it formats something."""

    def __init__(self) -> None:
        super().__init__()
        self.formatted = 0

    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        self.formatted += 1
        return super().format(text, markup, reserve=reserve)


def wordy(number: int = 1, text: str = "When?", state: TaskState = TaskState.ASKED) -> Task:
    """A question that takes words, and of which no message is known."""
    return question(state, number=number, text=text, written=TextInput(), respondents=ANYONE, message_ids=())


def said_by(task: Task) -> str:
    """What the last message of a question says."""
    return parts_of(task, PlainFormatter(), KEYS[-1])[-1].body.text


def says(effect: Effect) -> str:
    """What the one reply of an effect says."""
    (reply,) = effect.tasks
    assert isinstance(reply.content, Message)
    assert effect.jobs == jobs_of(reply)
    return reply.content.text


def replied(text: TextReceived, tasks: Sequence[Task], formatter: PlainFormatter | None = None) -> Effect:
    return decide_reply(text, tasks, context(formatter), draft(text))


def test_words_that_answer_end_what_else_was_to_happen_to_the_question() -> None:
    task = question(written=TextInput())
    answered = task.answered(NOW, task.question.answer_by_text("Friday", ADA, NOW))
    assert replied(words(reply_to=4711), [task]) == Effect(
        changes=(Change(answered, Step.ANSWERED, person=ADA.id, update=9001),),
        jobs=(finalize_job(answered, NOW),),
        cancels=(task.id,),
    )


def test_words_to_a_question_with_no_known_message_leave_nothing_to_be_shown() -> None:
    task = wordy(state=TaskState.SENDING)
    text = words(chat=ADA.id)
    effect = decide_words(text, [task], context(), draft(text))
    assert (effect.jobs, effect.cancels) == ((), (task.id,))
    assert effect.changes[0].shown == fingerprint(*parts_of(task, PlainFormatter(), KEYS[-1]))


def test_a_refusal_stands_in_the_history_and_is_said() -> None:
    task = question(written=TextInput())
    effect = replied(words(by=EVE, reply_to=4711), [task])
    assert effect.changes == (Change(task, Step.ANSWER_REFUSED, person=EVE.id, update=9001),)
    assert says(effect) == phrases.NOT_YOURS


def test_a_reply_has_the_id_and_the_time_that_were_made_before() -> None:
    text = words(by=EVE, chat=EVE.id)
    made = draft(text)
    (reply,) = decide_words(text, [], context(), made).tasks
    assert reply == made(phrases.NOTHING_OPEN)
    assert reply.content == Message(phrases.NOTHING_OPEN, reply_to=text.message_id, reply_required=False)


@pytest.mark.parametrize("tasks", [(), (told(),), (question(),)])
def test_in_a_group_a_hint_would_be_noise(tasks: Sequence[Task]) -> None:
    assert replied(words(reply_to=4711), tasks) == NOTHING


def test_whoever_writes_too_late_is_told_so_in_a_group_as_well() -> None:
    task = question(TaskState.EXPIRED, written=TextInput())
    assert says(replied(words(reply_to=4711), [task])) == phrases.too_late(task)


# A reply to a message that is not known


def test_only_as_many_questions_are_formatted_as_it_takes() -> None:
    tasks = [wordy(number) for number in range(50, 0, -1)]
    formatter = CountingFormatter()
    effect = replied(words(reply_to=999, replied_text=said_by(tasks[0])), tasks, formatter)
    assert effect == NOTHING, "Which of them was meant?"
    assert formatter.formatted == 2


def test_only_the_newest_questions_are_compared() -> None:
    tasks = [wordy(number, f"When is day {number}?") for number in range(50, 0, -1)]
    formatter = CountingFormatter()
    answers = [
        bool(replied(words(reply_to=999, replied_text=said_by(task)), tasks, formatter).changes)
        for task in (tasks[0], tasks[MOST_COMPARED - 1], tasks[MOST_COMPARED])
    ]
    assert answers == [True, True, False]
    assert formatter.formatted == 3 * MOST_COMPARED


def test_a_message_that_no_bot_wrote_is_compared_with_nothing() -> None:
    formatter = CountingFormatter()
    assert replied(words(reply_to=999), [wordy()], formatter) == NOTHING
    assert formatter.formatted == 0


def test_the_message_that_was_replied_to_becomes_one_of_the_question_s() -> None:
    task = wordy(state=TaskState.SENDING)
    effect = replied(words(reply_to=999, replied_text=said_by(task)), [task])
    (change,) = effect.changes
    assert change.task.message_ids == (999,)
    assert effect.jobs == (finalize_job(change.task, NOW),)
