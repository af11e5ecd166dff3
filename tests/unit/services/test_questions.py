"""QuestionService: everything that can be wrong with a question is said at once, with its place."""

from __future__ import annotations

import pytest

from core.model.errors import ChatForbidden, Invalid
from core.model.message import Message
from core.model.question import Option, Question, Respondents, TextInput
from core.model.task import TaskKind
from core.services.tasks import Submission
from tests.fakes.clock import START
from tests.fakes.world import ADA, BEN, CANCEL, CHANNEL, CI, DEPLOY, GROUP, NARROW_CI, YES_NO, Gateway

MESSAGE = Message("Deploy?")
ANYONE = Respondents(anyone=True)


async def pointers(gateway: Gateway, question: Question, chat: int | str = ADA.id) -> list[str]:
    with pytest.raises(Invalid) as caught:
        await gateway.questions.ask(question, Submission(CI), chat=chat)
    assert gateway.world.store.tasks == {}
    for problem in caught.value.problems:
        assert problem.detail.endswith("."), problem.detail
    return [problem.pointer for problem in caught.value.problems]


async def test_a_question_becomes_a_task_with_everything_it_says(gateway: Gateway) -> None:
    task = await gateway.questions.ask(
        Question(MESSAGE, ANYONE, YES_NO, on_expiry="cancel"),
        Submission(CI),
        chat="ops",
        topic=7,
        expires_in=60,
        metadata={"build": "1234"},
    )
    assert (task.kind, task.service, task.jti) == (TaskKind.QUESTION, "ci", CI.jti)
    assert (task.chat.id, task.chat.alias, task.chat.topic) == (GROUP, "ops", 7)
    assert (task.created_at, (task.expires_at - START).total_seconds()) == (START, 60)
    assert (task.question.options, task.question.on_expiry) == (YES_NO, "cancel")
    assert task.metadata == {"build": "1234"}
    assert len(task.token) == 12
    assert task.id.startswith("tsk_")


async def test_two_questions_have_different_tokens(gateway: Gateway) -> None:
    first, second = await gateway.ask(), await gateway.ask()
    assert first.token != second.token


async def test_in_a_private_chat_that_person_may_answer(gateway: Gateway) -> None:
    task = await gateway.ask(chat="ada")
    assert task.question.respondents == Respondents(people=frozenset({ADA.id}))


async def test_a_private_chat_may_name_other_respondents(gateway: Gateway) -> None:
    named = Respondents(people=frozenset({BEN.id}))
    assert (await gateway.ask(respondents=named)).question.respondents == named


async def test_a_role_that_somebody_has_may_answer(gateway: Gateway) -> None:
    named = Respondents(roles=frozenset({"operator"}))
    assert (await gateway.ask(chat=GROUP, respondents=named)).question.respondents == named


@pytest.mark.parametrize("chat", [GROUP, "ops", CHANNEL])
async def test_where_several_read_it_must_be_said_who_may_answer(gateway: Gateway, chat: int | str) -> None:
    assert await pointers(gateway, Question(MESSAGE, options=YES_NO), chat) == ["/respondents"]


async def test_an_empty_list_of_respondents_never_means_everybody(gateway: Gateway) -> None:
    for chat in (GROUP, ADA.id):
        assert await pointers(gateway, Question(MESSAGE, Respondents(), YES_NO), chat) == ["/respondents"]


@pytest.mark.parametrize(("role", "words"), [("astronaut", "names no person role"), ("nobody", "Nobody has")])
async def test_a_role_that_nobody_can_answer_with_is_refused(gateway: Gateway, role: str, words: str) -> None:
    named = Respondents(people=frozenset({ADA.id}), roles=frozenset({role}))
    with pytest.raises(Invalid) as caught:
        await gateway.ask(respondents=named)
    (problem,) = caught.value.problems
    assert problem.pointer == "/respondents/roles"
    assert words in problem.detail


async def test_there_must_be_something_to_answer_with(gateway: Gateway) -> None:
    assert await pointers(gateway, Question(MESSAGE)) == ["/options"]
    assert (await gateway.ask(options=(), written=TextInput())).question.input == TextInput()


async def test_an_option_id_is_unique(gateway: Gateway) -> None:
    options = (DEPLOY, CANCEL, Option("deploy", "Deploy again"), Option("cancel", "Cancel again"))
    assert await pointers(gateway, Question(MESSAGE, options=options)) == ["/options/2/id", "/options/3/id"]


async def test_what_counts_on_expiry_is_one_of_the_options(gateway: Gateway) -> None:
    question = Question(MESSAGE, options=YES_NO, on_expiry="later")
    assert await pointers(gateway, question) == ["/on_expiry/choice"]


async def test_more_buttons_than_telegram_carries_are_refused_here(gateway: Gateway) -> None:
    long = tuple(Option(str(number), "🚀" * 64) for number in range(50))
    assert await pointers(gateway, Question(MESSAGE, options=long)) == ["/options"]
    escaped = tuple(Option(str(number), '"' * 64) for number in range(50))
    assert await pointers(gateway, Question(MESSAGE, options=escaped)) == ["/options"]
    short = tuple(Option(str(number), "x" * 64) for number in range(50))
    assert len((await gateway.ask(options=short)).question.options) == 50


@pytest.mark.parametrize("text", ["", "BROKEN"])
async def test_a_text_that_telegram_would_refuse_is_refused_here(gateway: Gateway, text: str) -> None:
    assert await pointers(gateway, Question(Message(text), options=YES_NO)) == ["/text"]


@pytest.mark.parametrize("chat", ["nowhere", "@x", "815"])
async def test_a_chat_that_nobody_knows_is_refused(gateway: Gateway, chat: str) -> None:
    assert await pointers(gateway, Question(MESSAGE, options=YES_NO), chat) == ["/chat"]


async def test_everything_that_is_wrong_is_said_at_once(gateway: Gateway) -> None:
    question = Question(Message("BROKEN"), Respondents(), (DEPLOY, DEPLOY), on_expiry="later")
    assert await pointers(gateway, question, GROUP) == [
        "/text",
        "/options/1/id",
        "/on_expiry/choice",
        "/respondents",
    ]


async def test_an_unknown_chat_does_not_hide_what_else_is_wrong(gateway: Gateway) -> None:
    question = Question(Message("BROKEN"), options=(DEPLOY, DEPLOY))
    found = await pointers(gateway, question, "nowhere")
    assert {"/chat", "/options/1/id", "/text"} <= set(found)


async def test_a_chat_that_no_role_names_is_forbidden(gateway: Gateway) -> None:
    question = Question(MESSAGE, ANYONE, YES_NO)
    with pytest.raises(ChatForbidden):
        await gateway.questions.ask(question, Submission(NARROW_CI), chat=GROUP)
    assert gateway.world.store.tasks == {}
    asked = await gateway.questions.ask(question, Submission(NARROW_CI), chat=ADA.id)
    assert asked.chat.id == ADA.id


async def test_fields_that_do_not_validate_are_told_before_a_chat_is_forbidden(gateway: Gateway) -> None:
    with pytest.raises(Invalid):
        await gateway.questions.ask(Question(MESSAGE), Submission(NARROW_CI), chat=GROUP)
