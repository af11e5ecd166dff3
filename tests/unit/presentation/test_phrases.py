"""What a person reads: whole sentences, short enough, and without ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.identity import GatewayIdentity
from core.model.message import Message
from core.model.person import Person
from core.model.question import Question, TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.policy.policy import CommandRule
from core.presentation import phrases
from core.presentation.phrases import TOAST_LIMIT
from core.services.factory import TaskFactory
from tests.fakes.clock import START, HandClock
from tests.fakes.world import ADA, BOT, KEYS, YES_NO

CHOSEN = Answer(START, ADA, "deploy", "Deploy")
WRITTEN = Answer(START, ADA, text="next\n  Thursday", value="next\n  Thursday")
NOBODY = Answer(START, None, "cancel", "Cancel")
RULES = (
    CommandRule("deploy", "ci", "Deploys a branch", "<branch>"),
    CommandRule("status", "ci"),
)

CONSTANTS = (
    phrases.BUTTON_GONE,
    phrases.ONLY_PEOPLE,
    phrases.NOT_YOURS,
    phrases.USE_BUTTONS,
    phrases.WHICH_QUESTION,
    phrases.NOTHING_OPEN,
    phrases.UNKNOWN_COMMAND,
)

TASK = TaskFactory(GatewayIdentity(BOT, "process-1", KEYS), HandClock(), lambda: "0" * 26).task(
    Question(Message("Deploy?"), options=YES_NO), service="ci", chat=Chat(ADA.id), expires_in=3600
)


def decided(state: TaskState, decision: Answer | None) -> Task:
    return replace(TASK, state=state, decision=decision)


@pytest.fixture
def said() -> list[str]:
    ends = [
        decided(TaskState.ANSWERED, CHOSEN),
        decided(TaskState.ANSWERED, WRITTEN),
        decided(TaskState.EXPIRED, None),
        decided(TaskState.EXPIRED, NOBODY),
        decided(TaskState.CANCELLED, None),
    ]
    return list(everything(ends))


def everything(ends: list[Task]) -> Iterator[str]:
    yield from CONSTANTS
    yield phrases.thanks(CHOSEN)
    for task in ends:
        yield phrases.too_late(task)
        yield phrases.outcome(task)
    yield phrases.please_again(TASK.question)
    yield phrases.please_again(replace(TASK.question, input=TextInput()))
    yield phrases.welcome("Ada")
    yield phrases.help_text(RULES)
    yield phrases.not_allowed("deploy")
    yield phrases.not_yet("deploy")


def test_every_sentence_begins_and_ends_as_one(said: list[str]) -> None:
    for text in said:
        first = text.splitlines()[0]
        assert first[0].isupper(), text
        assert first[-1] in ".!?", text


def test_nobody_is_shown_an_id_or_a_word_of_the_trade(said: list[str]) -> None:
    for text in said:
        assert str(ADA.id) not in text
        for word in ("task", "tsk_", "None", "null", "callback", "token", "state"):
            assert word not in text, text


def test_whoever_asks_who_he_is_is_told_his_id() -> None:
    assert "815" in phrases.who_you_are(815, 815)
    assert "-100" not in phrases.who_you_are(815, 815)
    assert "-1001234" in phrases.who_you_are(815, -1001234)


def test_ids_are_told_with_what_they_are_needed_for() -> None:
    assert phrases.who_you_are(815, 815).endswith("Whoever runs this bot needs it to give you permissions.")
    assert phrases.who_you_are(815, -1).endswith("Whoever runs this bot needs them to give you permissions.")


def test_a_late_press_is_told_why() -> None:
    answered = decided(TaskState.ANSWERED, CHOSEN)
    assert phrases.too_late(answered) == "Ada L. has already answered: “Deploy”."
    expired = decided(TaskState.EXPIRED, NOBODY)
    assert phrases.too_late(expired) == "The time to answer this question is over."
    cancelled = decided(TaskState.CANCELLED, None)
    assert phrases.too_late(cancelled) == "This question was withdrawn."


def test_the_outcome_tells_who_decided_what_and_when() -> None:
    chosen = phrases.outcome(decided(TaskState.ANSWERED, CHOSEN))
    assert chosen == "Ada L. chose “Deploy” on 22 November 2026 at 10:00 UTC."
    written = phrases.outcome(decided(TaskState.ANSWERED, WRITTEN))
    assert written == "Ada L. answered “next Thursday” on 22 November 2026 at 10:00 UTC."


def test_the_outcome_of_an_expired_question_tells_what_counts() -> None:
    assert phrases.outcome(decided(TaskState.EXPIRED, None)) == "Nobody answered in time."
    counts = phrases.outcome(decided(TaskState.EXPIRED, NOBODY))
    assert counts == "Nobody answered in time, so “Cancel” counts."


def test_the_outcome_of_a_withdrawn_question_tells_when() -> None:
    withdrawn = phrases.outcome(decided(TaskState.CANCELLED, None))
    assert withdrawn == "This question was withdrawn on 22 November 2026 at 10:00 UTC."


@given(st.text(max_size=300), st.text(min_size=1, max_size=300), st.text(max_size=5000))
def test_a_toast_is_never_longer_than_telegram_shows(name: str, label: str, text: str) -> None:
    by = Person(815, name)
    chosen, written = Answer(START, by, "deploy", label), Answer(START, by, text=text, value=text)
    for answer in (chosen, written):
        late = replace(TASK, state=TaskState.ANSWERED, decision=answer)
        assert len(phrases.too_late(late)) <= TOAST_LIMIT
    assert len(phrases.thanks(chosen)) <= TOAST_LIMIT


def test_every_other_toast_fits_too() -> None:
    for text in CONSTANTS:
        assert len(text) <= TOAST_LIMIT


def test_help_shows_the_person_s_commands_with_their_arguments() -> None:
    lines = phrases.help_text(RULES).splitlines()
    assert "/deploy <branch> – Deploys a branch" in lines
    assert "/status" in lines
    assert lines[-2].startswith("/help")
    assert lines[-1].startswith("/whoami")


def test_help_for_a_stranger_shows_no_commands_but_those_for_everybody() -> None:
    commands = [line.split()[0] for line in phrases.help_text(()).splitlines() if line.startswith("/")]
    assert commands == ["/help", "/whoami"]
