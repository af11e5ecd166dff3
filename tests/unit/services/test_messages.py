"""MessageService: a message is sent, corrected and taken back by the service that it belongs to."""

from __future__ import annotations

import pytest

from core.model.errors import AlreadyFinal, ChatForbidden, IdempotencyMismatch, Invalid, NotFound
from core.model.message import Edit, LinkButton, Message
from core.model.task import TaskKind
from core.model.transition import TaskState
from core.services.tasks import Submission
from tests.fakes.clock import START
from tests.fakes.formatter import PlainFormatter
from tests.fakes.messenger import BLOCKED, DELIVERED, UNCLEAR, UNCLEAR_LOST, Hang, Outcome
from tests.fakes.world import ADA, BEN, BILLING, CI, GROUP, NARROW_CI, Gateway, World, key

LINKS = ((LinkButton("Log", "https://ci.example/1"),),)


async def test_a_message_becomes_a_task_with_everything_it_says(gateway: Gateway) -> None:
    task = await gateway.messages.send(
        Message("Hello"),
        Submission(CI, 25),
        chat="ops",
        topic=7,
        expires_in=60,
        metadata={"build": "1234"},
    )
    assert (task.kind, task.state, task.service, task.jti) == (
        TaskKind.MESSAGE,
        TaskState.SENT,
        "ci",
        CI.jti,
    )
    assert (task.chat.id, task.chat.alias, task.chat.topic) == (GROUP, "ops", 7)
    assert (task.created_at, (task.expires_at - START).total_seconds()) == (START, 60)
    assert task.metadata == {"build": "1234"}
    assert task.token == b"", "Only buttons need a token."


@pytest.mark.parametrize(
    ("chat", "text", "pointer"),
    [("nowhere", "Hello", "/chat"), (ADA.id, "BROKEN", "/text"), (ADA.id, "", "/text")],
)
async def test_what_does_not_validate_is_told_with_its_place(
    gateway: Gateway, chat: int | str, text: str, pointer: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await gateway.tell(text, chat=chat)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert gateway.world.store.tasks == {}


async def test_an_unknown_chat_does_not_hide_a_wrong_text(gateway: Gateway) -> None:
    with pytest.raises(Invalid) as caught:
        await gateway.tell("BROKEN", chat="nowhere")
    assert [problem.pointer for problem in caught.value.problems] == ["/chat", "/text"]


async def test_a_chat_that_no_role_names_is_forbidden(gateway: Gateway) -> None:
    with pytest.raises(ChatForbidden):
        await gateway.messages.send(Message("Hello"), Submission(NARROW_CI), chat=GROUP)
    assert gateway.world.store.tasks == {}


async def test_an_edit_is_a_task_of_its_own(gateway: Gateway) -> None:
    message = await gateway.tell("Deploying", wait=25)
    edit = await gateway.messages.edit(message.id, Edit("Deployed", buttons=LINKS), Submission(CI, 25))
    assert (edit.kind, edit.state, edit.of) == (TaskKind.EDIT, TaskState.SENT, message.id)
    assert gateway.world.messenger.last.text == "Deployed"
    assert [button.url for button in gateway.world.messenger.last.buttons] == ["https://ci.example/1"]
    assert gateway.row(message) == message


async def test_a_deletion_is_a_task_of_its_own(gateway: Gateway) -> None:
    message = await gateway.tell(wait=25)
    deletion = await gateway.messages.delete(message.id, Submission(CI, 25))
    assert (deletion.kind, deletion.state, deletion.of) == (TaskKind.DELETION, TaskState.SENT, message.id)
    assert gateway.world.messenger.last.now is None


async def test_a_deletion_that_telegram_refuses_fails_with_its_words(gateway: Gateway) -> None:
    message = await gateway.tell(wait=25)
    gateway.world.messenger.script(BLOCKED, verb="delete")
    deletion = await gateway.messages.delete(message.id, Submission(CI, 25))
    assert deletion.state is TaskState.FAILED
    assert deletion.error is not None
    assert deletion.error.error_code == 403


async def test_an_edit_must_need_as_many_telegram_messages_as_before() -> None:
    gateway = World(formatter=PlainFormatter(limit=10)).start()
    message = await gateway.tell("short", wait=25)
    with pytest.raises(Invalid, match="does not validate") as caught:
        await gateway.correct(message, "much longer than before")
    (problem,) = caught.value.problems
    assert problem.pointer == "/text"
    assert "needs 3 Telegram messages and the message has 1" in problem.detail


async def test_an_edit_with_broken_markup_is_refused(gateway: Gateway) -> None:
    message = await gateway.tell(wait=25)
    with pytest.raises(Invalid):
        await gateway.correct(message, "BROKEN")


async def test_nobody_corrects_another_service_s_message(gateway: Gateway) -> None:
    message = await gateway.tell(wait=25)
    for message_id in (message.id, "tsk_nothing"):
        with pytest.raises(NotFound):
            await gateway.messages.edit(message_id, Edit("Mine"), Submission(BILLING))
        with pytest.raises(NotFound):
            await gateway.messages.delete(message_id, Submission(BILLING))
    assert gateway.world.messenger.last.text == "Hello"


async def test_a_repeated_correction_finds_its_task_whatever_has_become_of_the_message(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(Hang())
    message = await gateway.tell()
    edit, deletion = (Submission(CI, 0.0, key(name, route=name)) for name in ("edit", "delete"))
    edited = await gateway.messages.edit(message.id, Edit("Corrected"), edit)
    deleted = await gateway.messages.delete(message.id, deletion)
    await gateway.runner.stop(0)
    assert gateway.row(message).state is TaskState.UNKNOWN
    assert (await gateway.messages.edit(message.id, Edit("Corrected"), edit)).id == edited.id
    assert (await gateway.messages.delete(message.id, deletion)).id == deleted.id
    with pytest.raises(AlreadyFinal):
        await gateway.messages.delete(message.id, Submission(CI))


async def test_a_question_is_no_message(gateway: Gateway) -> None:
    question = await gateway.ask()
    await gateway.settled()
    with pytest.raises(NotFound, match="This service has no message tsk_"):
        await gateway.messages.delete(question.id, Submission(CI))
    with pytest.raises(NotFound, match="This service has no message tsk_"):
        await gateway.correct(question, "Not a question")


async def test_a_role_that_names_only_sending_corrects_nothing(gateway: Gateway) -> None:
    message = await gateway.messages.send(Message("Hello"), Submission(NARROW_CI, 25), chat=ADA.id)
    with pytest.raises(ChatForbidden):
        await gateway.messages.edit(message.id, Edit("Bye"), Submission(NARROW_CI))
    with pytest.raises(ChatForbidden):
        await gateway.messages.delete(message.id, Submission(NARROW_CI))


@pytest.mark.parametrize(("outcome", "state"), [(BLOCKED, "failed"), (UNCLEAR, "unknown")])
async def test_a_message_that_is_not_known_to_be_there_cannot_be_corrected(
    gateway: Gateway, outcome: Outcome, state: str
) -> None:
    gateway.world.messenger.script(outcome)
    message = await gateway.tell(wait=25)
    with pytest.raises(AlreadyFinal, match=f"This message is {state}") as caught:
        await gateway.messages.delete(message.id, Submission(CI))
    assert caught.value.task == message
    with pytest.raises(AlreadyFinal, match=f"This message is {state}") as caught:
        await gateway.correct(message, "Bye")
    assert caught.value.task == message


@pytest.mark.parametrize(("outcome", "state"), [(BLOCKED, "failed"), (UNCLEAR_LOST, "unknown")])
async def test_what_stands_of_a_message_can_be_deleted_but_not_edited(outcome: Outcome, state: str) -> None:
    gateway = World(formatter=PlainFormatter(limit=10)).start()
    gateway.world.messenger.script(DELIVERED, outcome)
    message = await gateway.tell("a" * 10 + "b" * 10, wait=25)
    assert (message.state, len(message.message_ids)) == (state, 1)
    gateway.world.messenger.forget_script()
    with pytest.raises(
        AlreadyFinal, match=f"This message is {state}, and not known to be all in the chat"
    ) as caught:
        await gateway.correct(message, "Bye")
    assert caught.value.task == message
    # A chat that could not be reached is left alone for a while.
    await gateway.pass_time(600)
    deletion = await gateway.messages.delete(message.id, Submission(CI, 25))
    assert (deletion.state, deletion.error) == (TaskState.SENT, None)
    assert gateway.world.messenger.last.now is None
    assert gateway.row(message) == message


async def test_buttons_that_are_too_much_are_told_beside_a_wrong_text(gateway: Gateway) -> None:
    message = await gateway.tell(wait=25)
    many = ((LinkButton("Log", "https://ci.example/1"),) * 8,) * 13
    with pytest.raises(Invalid) as caught:
        await gateway.messages.send(Message("BROKEN", buttons=many), Submission(CI), chat=ADA.id)
    assert [problem.pointer for problem in caught.value.problems] == ["/text", "/buttons"]
    with pytest.raises(Invalid) as caught:
        await gateway.messages.edit(message.id, Edit("BROKEN", buttons=many), Submission(CI))
    assert [problem.pointer for problem in caught.value.problems] == ["/text", "/buttons"]


async def test_what_is_wrong_with_an_edit_is_told_before_the_message_is_looked_at(gateway: Gateway) -> None:
    used = Submission(CI, 25, key("one", route="edit"))
    message = await gateway.tell(wait=25)
    await gateway.messages.edit(message.id, Edit("Corrected"), used)
    other = Submission(CI, 25, key("one", "other", route="edit"))
    with pytest.raises(IdempotencyMismatch):
        await gateway.messages.edit(message.id, Edit("Other"), other)
    with pytest.raises(Invalid):
        await gateway.messages.edit(message.id, Edit("BROKEN"), other)
    gateway.world.messenger.script(BLOCKED)
    failed = await gateway.tell(chat=BEN.id, wait=25)
    assert failed.state is TaskState.FAILED
    with pytest.raises(Invalid):
        await gateway.correct(failed, "BROKEN")
