"""Presses: what a tap changes, and which jobs follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.inbox.presses import decide_press
from core.jobs.kinds.finalize import finalize_job
from core.model.effect import Effect, Notice
from core.model.task import Change
from core.model.transition import Step, TaskState
from core.model.update import Carrier
from core.presentation import phrases
from core.presentation.render import fingerprint, parts_of
from tests.fakes.formatter import PlainFormatter
from tests.fakes.world import ADA, CHANNEL, EVE, KEYS
from tests.unit.inbox.samples import ANYONE, NOW, context, question, tap

PRESS = "press-9001"


def test_an_answer_ends_what_else_was_to_happen_to_the_question_and_is_shown_in_the_chat() -> None:
    task = question()
    press, data = tap(task)
    answer = task.question.answer_by_option(0, ADA, NOW)
    assert answer is not None
    answered = task.answered(NOW, answer)
    assert decide_press(press, data, [task], context()) == Effect(
        changes=(Change(answered, Step.ANSWERED, person=ADA.id, update=9001, choice="deploy"),),
        jobs=(finalize_job(answered, NOW),),
        cancels=(task.id,),
        notice=Notice(PRESS, "Thank you! You chose “Deploy”."),
    )


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.SENDING, TaskState.UNKNOWN])
def test_an_answer_proves_what_was_shown_when_nobody_knew_that_the_question_was_asked(
    state: TaskState,
) -> None:
    task = question(state, message_ids=())
    effect = decide_press(*tap(task), [task], context())
    (change,) = effect.changes
    assert change.shown == fingerprint(*parts_of(task, PlainFormatter(), KEYS[-1]))
    assert change.task.message_ids == (4711,)
    assert effect.jobs == (finalize_job(change.task, NOW),)


@pytest.mark.parametrize("state", [TaskState.ANSWERED, TaskState.EXPIRED, TaskState.CANCELLED])
def test_a_late_tap_takes_the_buttons_away_and_changes_nothing(state: TaskState) -> None:
    task = question(state)
    effect = decide_press(*tap(task), [task], context())
    assert effect == Effect(
        jobs=(finalize_job(task, NOW),), notice=Notice(PRESS, phrases.too_late(task), popup=True)
    )


def test_many_late_taps_cost_one_job() -> None:
    task = question(TaskState.EXPIRED)
    effects = [decide_press(*tap(task, update_id=number), [task], context()) for number in range(9001, 9101)]
    assert len({job.key for effect in effects for job in effect.jobs}) == 1


def test_a_late_tap_in_an_unknown_copy_makes_it_known_and_takes_its_buttons_away() -> None:
    task = question(TaskState.EXPIRED)
    found = task.with_message(NOW, 4799)
    effect = decide_press(*tap(task, message_id=4799), [task], context())
    assert found.message_ids == (4711, 4799)
    assert effect.changes == (Change(found, Step.COPY_FOUND, update=9001),)
    assert effect.jobs == (finalize_job(found, NOW),)


def test_a_late_tap_of_somebody_who_may_not_answer_is_told_that_it_is_late() -> None:
    task = question(TaskState.EXPIRED)
    effect = decide_press(*tap(task, by=EVE), [task], context())
    assert effect.notice == Notice(PRESS, phrases.too_late(task), popup=True)


def test_a_refused_tap_stands_in_the_history_and_causes_nothing() -> None:
    task = question()
    assert decide_press(*tap(task, by=EVE), [task], context()) == Effect(
        changes=(Change(task, Step.ANSWER_REFUSED, person=EVE.id, update=9001),),
        notice=Notice(PRESS, phrases.NOT_YOURS, popup=True),
    )


def test_a_group_that_has_become_a_supergroup_is_still_the_chat_of_its_questions() -> None:
    task = question(chat=-42)
    followed = replace(context(), is_same_chat=lambda chat, other: (chat, other) == (-42, press.chat))
    press, data = tap(task)
    assert decide_press(press, data, [task], followed).changes
    assert not decide_press(press, data, [task], context()).changes


def test_a_button_of_a_channel_that_is_known_by_its_name_counts_wherever_telegram_says_it_is() -> None:
    task = question(chat=CHANNEL, respondents=ANYONE)
    assert decide_press(*tap(task), [task], context()).changes


def test_what_telegram_says_of_the_message_is_read_only_when_it_matters() -> None:
    def unread() -> Carrier:
        pytest.fail("The message was read.")

    task = question()
    press, data = tap(task)
    assert decide_press(replace(press, carrier=unread), data, [task], context()).changes


def test_a_forged_button_costs_neither_a_job_nor_a_row_of_history() -> None:
    task = question()
    press, data = tap(task)
    gone = Effect(notice=Notice(PRESS, phrases.BUTTON_GONE, popup=True))
    assert decide_press(press, replace(data, mac=bytes(10)), [task], context()) == gone
    assert decide_press(press, None, [], context()) == gone
