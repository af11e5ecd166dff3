"""Questions: who may answer, and what an answer is."""

from __future__ import annotations

import pytest

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.message import Message
from core.model.question import Option, Question, Respondents, TextInput
from tests.fakes.clock import START
from tests.fakes.world import ADA, EVE, YES_NO


def roles_of(person: int) -> frozenset[str]:
    return frozenset({"operator", "on_call"}) if person == ADA.id else frozenset()


def question(respondents: Respondents | None = None, on_expiry: str | None = None) -> Question:
    return Question(
        Message("Deploy?"), respondents or Respondents(anyone=True), YES_NO, TextInput(), on_expiry=on_expiry
    )


@pytest.mark.parametrize(
    ("respondents", "ada", "eve"),
    [
        (Respondents(people=frozenset({ADA.id})), True, False),
        (Respondents(roles=frozenset({"operator"})), True, False),
        (Respondents(roles=frozenset({"auditor"})), False, False),
        (Respondents(people=frozenset({EVE.id}), roles=frozenset({"operator"})), True, True),
        (Respondents(anyone=True), True, True),
        (Respondents(), False, False),
    ],
)
def test_a_respondent_is_named_or_has_a_role_or_is_anyone(
    respondents: Respondents, ada: bool, eve: bool
) -> None:
    assert respondents.include(ADA.id, roles_of) is ada
    assert respondents.include(EVE.id, roles_of) is eve


def test_a_pressed_button_gives_its_option_as_the_answer() -> None:
    assert question().answer_by_option(1, ADA, START) == Answer(START, ADA, "cancel", "Cancel")


@pytest.mark.parametrize("index", [-1, 2, 255])
def test_a_button_that_is_not_there_gives_no_answer(index: int) -> None:
    assert question().answer_by_option(index, ADA, START) is None


def test_written_words_are_kept_as_they_were_written() -> None:
    answer = question().answer_by_text("  Thursday,\n probably ", ADA, START)
    assert answer == Answer(START, ADA, text="  Thursday,\n probably ", value="  Thursday,\n probably ")


def test_what_counts_when_nobody_answers_is_said_by_nobody() -> None:
    assert question().answer_on_expiry(START) is None
    assert question(on_expiry="cancel").answer_on_expiry(START) == Answer(START, None, "cancel", "Cancel")


@pytest.mark.parametrize(("chat", "private"), [(815, True), (-100, False), ("@announcements", False)])
def test_a_private_chat_is_known_by_its_positive_id(chat: int | str, private: bool) -> None:
    assert Chat(chat).is_private is private


def test_an_option_is_found_by_its_id_only() -> None:
    assert question().option("deploy") == Option("deploy", "Deploy")
    with pytest.raises(KeyError, match="nothing"):
        question().option("nothing")
