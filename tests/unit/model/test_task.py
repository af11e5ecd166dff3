"""Tasks: every method in every state, against the one table of transitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.failure import LOST, Failure
from core.model.message import Deletion, Edit, Message
from core.model.question import Question, Respondents
from core.model.task import Change, IllegalTransition, Task, TaskKind
from core.model.transition import (
    DECIDED_STATES,
    FINAL_STATES,
    OPEN_QUESTION_STATES,
    TRANSITIONS,
    Step,
    TaskState,
)
from tests.fakes.clock import START
from tests.fakes.world import ADA, YES_NO

LATER = START + timedelta(seconds=7)
FAILURE = Failure("telegram_rejected", "Telegram said no.", 400, "Bad Request: chat not found")
ANSWER = Answer(LATER, ADA, "deploy", "Deploy")

METHODS: Mapping[TaskState, Callable[[Task], Task]] = {
    TaskState.QUEUED: lambda task: task.queued_again(LATER, FAILURE, LATER),
    TaskState.SENDING: lambda task: task.sending(LATER),
    TaskState.SENT: lambda task: task.sent(LATER),
    TaskState.ASKED: lambda task: task.asked(LATER),
    TaskState.ANSWERED: lambda task: task.answered(LATER, ANSWER),
    TaskState.EXPIRED: lambda task: task.expired(LATER),
    TaskState.CANCELLED: lambda task: task.cancelled(LATER),
    TaskState.FAILED: lambda task: task.failed(LATER, FAILURE),
    TaskState.UNKNOWN: lambda task: task.unknown(LATER, FAILURE),
}


def question(state: TaskState = TaskState.SENDING, on_expiry: str | None = None) -> Task:
    content = Question(
        Message("Deploy?"), Respondents(people=frozenset({ADA.id})), YES_NO, on_expiry=on_expiry
    )
    return Task(
        id="tsk_1",
        bot=42,
        kind=TaskKind.QUESTION,
        state=state,
        service="ci",
        chat=Chat(ADA.id),
        content=content,
        created_at=START,
        updated_at=START,
        expires_at=START + timedelta(hours=1),
    )


@pytest.mark.parametrize("source", TaskState)
@pytest.mark.parametrize("target", TaskState)
def test_a_step_is_possible_exactly_when_the_table_names_it(source: TaskState, target: TaskState) -> None:
    task = question(source)
    if target in TRANSITIONS[source]:
        after = METHODS[target](task)
        assert after.state is target
        assert after.updated_at == LATER
    else:
        with pytest.raises(IllegalTransition, match=f"cannot go from {source} to {target}") as caught:
            METHODS[target](task)
        assert caught.value.task is task


def test_the_table_names_every_state_and_only_states() -> None:
    assert set(TRANSITIONS) == set(TaskState)
    assert set().union(*TRANSITIONS.values()) <= set(TaskState)


def test_a_final_state_has_no_successor_but_for_unknown() -> None:
    assert {state for state in FINAL_STATES if TRANSITIONS[state]} == {TaskState.UNKNOWN}
    assert TRANSITIONS[TaskState.UNKNOWN] == {TaskState.SENT, TaskState.ASKED, TaskState.ANSWERED}


def test_every_state_that_is_not_final_leads_to_the_end() -> None:
    for state in set(TaskState) - FINAL_STATES:
        assert TRANSITIONS[state] & FINAL_STATES, f"{state} would last for ever"


def test_an_answer_counts_in_every_open_state_and_in_no_other() -> None:
    takes_answers = {state for state in TaskState if TaskState.ANSWERED in TRANSITIONS[state]}
    assert takes_answers == OPEN_QUESTION_STATES


def test_a_question_whose_send_was_unclear_takes_answers_while_it_waits_for_another_try() -> None:
    unclear = Failure("outcome_unknown", "Telegram did not say so in time.")
    waiting = question().unclear(unclear, LATER)
    assert waiting.state in OPEN_QUESTION_STATES
    assert (waiting.error, waiting.not_before) == (unclear, LATER)


def test_a_decided_question_stays_decided() -> None:
    for state in DECIDED_STATES:
        assert not TRANSITIONS[state]


@pytest.mark.parametrize("state", TaskState)
def test_a_task_is_final_exactly_in_the_final_states(state: TaskState) -> None:
    assert question(state).final is (state in FINAL_STATES)


@pytest.mark.parametrize("target", sorted(FINAL_STATES | {TaskState.ASKED}))
def test_what_is_not_tried_again_waits_for_nothing(target: TaskState) -> None:
    waiting = question().unclear(FAILURE, LATER)
    assert METHODS[target](waiting).not_before is None


def test_being_sent_is_no_longer_put_off() -> None:
    waiting = question().queued_again(START, FAILURE, LATER)
    assert waiting.sending(LATER).not_before is None


def test_being_taken_over_says_why_and_is_no_longer_put_off() -> None:
    taken = question().unclear(FAILURE, LATER).taken_over(LOST)
    assert (taken.state, taken.error, taken.not_before) == (TaskState.SENDING, LOST, None)


def test_a_new_try_keeps_the_reason_and_the_time() -> None:
    waiting = question().queued_again(START, FAILURE, LATER)
    assert (waiting.error, waiting.not_before) == (FAILURE, LATER)


@pytest.mark.parametrize("target", [TaskState.SENT, TaskState.ASKED, TaskState.ANSWERED])
def test_success_clears_what_went_wrong_before(target: TaskState) -> None:
    tried = replace(question(), error=FAILURE)
    assert METHODS[target](tried).error is None


@pytest.mark.parametrize("target", [TaskState.FAILED, TaskState.UNKNOWN])
def test_a_bad_end_says_why(target: TaskState) -> None:
    assert METHODS[target](question()).error == FAILURE


def test_the_answer_that_decides_is_kept_with_all_answers() -> None:
    answered = question(TaskState.ASKED).answered(LATER, ANSWER)
    assert (answered.decision, answered.answers) == (ANSWER, (ANSWER,))


def test_an_expired_question_is_decided_by_nobody_or_by_its_own_words() -> None:
    assert question(TaskState.ASKED).expired(LATER).decision is None
    decision = question(TaskState.ASKED, on_expiry="cancel").expired(LATER).decision
    assert decision == Answer(LATER, None, "cancel", "Cancel")


def test_messages_are_told_once_each_in_order_and_keep_the_state() -> None:
    task = question(TaskState.ANSWERED)
    grown = task.with_message(LATER, 4711).with_message(LATER, 4712)
    assert grown.message_ids == (4711, 4712)
    assert grown.with_message(LATER, 4711) is grown
    assert grown.state is TaskState.ANSWERED


def test_a_copy_of_a_question_that_is_over_leaves_the_time_of_its_end() -> None:
    answered = question(TaskState.ASKED).answered(LATER, ANSWER)
    copied = answered.with_message(LATER + timedelta(seconds=1), 4712)
    assert (copied.updated_at, copied.state) == (LATER, TaskState.ANSWERED)


def test_a_new_task_whose_turn_has_not_come_is_queued_and_no_step_was_made() -> None:
    waiting = question().waiting()
    assert replace(waiting, state=TaskState.SENDING) == question()
    assert (waiting.state, waiting.steps) == (TaskState.QUEUED, 1)


def test_each_stored_step_counts_and_makes_no_other_task() -> None:
    stored = question().after_step()
    assert stored.steps == 2
    assert stored == question()


def test_a_task_is_a_question_by_its_content() -> None:
    asked = question()
    assert asked.is_question
    assert asked.question.options == YES_NO
    for content in (Message("Hello"), Edit("Hello"), Deletion()):
        told = replace(asked, kind=TaskKind.MESSAGE, content=content)
        assert not told.is_question
        with pytest.raises(TypeError, match="tsk_1 is a message, not a question"):
            _ = told.question


def test_a_change_is_named_after_the_state_it_leads_to() -> None:
    change = Change.to_state(question(TaskState.ASKED).answered(LATER, ANSWER), person=ADA.id, update=9001)
    assert (change.step, change.person, change.update, change.jti) == (Step.ANSWERED, ADA.id, 9001, None)
    assert change.choice == "deploy"
    assert change.ends_task


def test_a_change_that_keeps_a_final_state_does_not_end_the_task_again() -> None:
    assert not Change(question(TaskState.ANSWERED), Step.CLOSED).ends_task
    assert not Change.to_state(question().asked(LATER)).ends_task


def test_every_state_is_the_name_of_a_step() -> None:
    assert {state.value for state in TaskState} <= {step.value for step in Step}


def test_no_step_is_told_to_be_earlier_than_the_one_before() -> None:
    earlier = START - timedelta(milliseconds=20)
    asked = question()
    assert asked.with_message(earlier, 7).updated_at == asked.updated_at
    assert asked.asked(earlier).updated_at == asked.updated_at
