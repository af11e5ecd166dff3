"""Sending: what becomes of a message or a question for everything that Telegram can do to it."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from core.jobs.kinds import send
from core.jobs.kinds.send import Send
from core.model.chat import Chat
from core.model.errors import Migrated
from core.model.failure import BUG, Failure
from core.model.message import Format, Message
from core.model.part import FormattedText
from core.model.task import Task
from core.model.transition import TaskState
from core.services.tasks import Submission
from tests.fakes.clock import START
from tests.fakes.formatter import PlainFormatter
from tests.fakes.messenger import (
    BLOCKED,
    DELIVERED,
    NOT_REACHED,
    UNCLEAR,
    UNCLEAR_LOST,
    Hang,
    Outcome,
    later,
)
from tests.fakes.world import ADA, BEN, CI, GROUP, Gateway, World, until
from tests.unit.jobs.samples import LONG, REFUSED

TRIES = Send.retry.unclear_tries or 0
TWICE_RATHER_THAN_NEVER = Message("Twice rather than never", resend=True)


class _BrokenFormatter(PlainFormatter):
    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        raise ZeroDivisionError(f"a bug in {markup} of {len(text)} characters, {reserve} of them kept free")


def ended(gateway: Gateway, task: Task) -> tuple[TaskState, str | None]:
    """How a task has ended, and the code of its error."""
    row = gateway.row(task)
    return row.state, None if row.error is None else row.error.code


# Done


async def test_a_message_that_is_delivered_is_sent(gateway: Gateway) -> None:
    task = await gateway.tell("Hello")
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.message_ids, row.error) == (TaskState.SENT, (4711,), None)
    assert gateway.world.store.jobs == []
    assert gateway.world.notifier.hints == [task.id]


async def test_a_question_that_is_delivered_is_asked(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ASKED
    assert [job.kind for job in gateway.jobs_of(task)] == ["expire"]
    assert gateway.world.notifier.hints == [task.id]


async def test_topic_and_chat_reach_telegram(gateway: Gateway) -> None:
    task = gateway.factory.task(
        Message("Hello"), service="ci", chat=Chat(GROUP, "ops", topic=7), expires_in=60
    )
    await gateway.tasks.submit(task, Submission(CI))
    await gateway.settled()
    (call,) = gateway.world.messenger.calls
    assert (call.chat, call.topic) == (GROUP, 7)


# Not reached


async def test_a_task_that_does_not_reach_telegram_waits_twice_as_long_each_time(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[NOT_REACHED] * 9)
    task = await gateway.ask(expires_in=86_400)
    await gateway.settled()
    pauses: list[float] = []
    while (row := gateway.row(task)).state is TaskState.QUEUED:
        assert row.error is not None
        assert row.error.code == "telegram_unavailable"
        assert row.not_before is not None
        pauses.append((row.not_before - gateway.world.clock.now()).total_seconds())
        await gateway.pass_time(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (row.state, row.error) == (TaskState.ASKED, None)


async def test_before_its_pause_is_over_a_task_is_not_tried_again(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED)
    await gateway.tell()
    await gateway.settled()
    await gateway.pass_time(0.9)
    assert gateway.said() == ["Hello"]
    await gateway.pass_time(0.1)
    assert gateway.said() == ["Hello", "Hello"]


async def test_a_pause_that_telegram_names_is_kept_and_is_no_attempt(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(17))
    task = await gateway.tell()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.not_before) == (TaskState.QUEUED, START + timedelta(seconds=17))
    assert [job.attempts for job in gateway.jobs_of(task)] == [0]


async def test_a_task_that_cannot_be_tried_again_in_time_fails_at_once(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(61))
    task = await gateway.tell(expires_in=60)
    await gateway.settled()
    assert ended(gateway, task) == (TaskState.FAILED, "telegram_unavailable")
    assert gateway.world.notifier.hints == [task.id]


# Rejected


async def test_what_telegram_refuses_fails_with_its_words_and_is_not_repeated(gateway: Gateway) -> None:
    gateway.world.messenger.script(BLOCKED)
    task = await gateway.ask()
    await gateway.settled()
    assert ended(gateway, task) == (TaskState.FAILED, "recipient_unreachable")
    error = gateway.row(task).error
    assert error is not None
    assert (error.error_code, error.description) == (403, "Forbidden: bot was blocked by the user")
    assert gateway.jobs_of(task) == [], "Nothing expires that was never asked."
    await gateway.pass_time(3000)
    assert len(gateway.said()) == 1


async def test_a_chat_that_cannot_be_reached_is_not_tried_again_until_the_person_writes(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(BLOCKED)
    first = await gateway.tell("one", wait=5)
    second = await gateway.tell("two", wait=5)
    assert [task.error and task.error.code for task in (first, second)] == ["recipient_unreachable"] * 2
    assert gateway.said() == ["one"]
    await gateway.write("Hello?")
    await gateway.settled()
    third = await gateway.tell("three", wait=5)
    assert third.state is TaskState.SENT


async def test_a_group_that_has_become_a_supergroup_gets_its_message_there(gateway: Gateway) -> None:
    gateway.world.messenger.script(Outcome(done=False, error=Migrated(-1009)))
    task = await gateway.tell("Hello", chat=GROUP, wait=5)
    assert (task.state, task.chat.id) == (TaskState.SENT, -1009)
    assert gateway.world.messenger.last.chat == -1009
    assert gateway.chats.is_same(GROUP, -1009)
    again = await gateway.tell("Hello", chat=GROUP, wait=5)
    assert (again.state, again.chat.id) == (TaskState.SENT, -1009)


async def test_a_supergroup_that_moves_on_and_on_is_given_up(gateway: Gateway) -> None:
    moved = Outcome(done=False, error=Migrated(-1009))
    gateway.world.messenger.script(moved, moved)
    task = await gateway.tell("Hello", chat=GROUP, wait=5)
    assert ended(gateway, task) == (TaskState.FAILED, "telegram_rejected")


# Unclear


@pytest.mark.parametrize("outcome", [UNCLEAR, UNCLEAR_LOST], ids=["done", "not done"])
async def test_a_message_with_an_unclear_outcome_is_unknown_and_never_sent_again(
    gateway: Gateway, outcome: Outcome
) -> None:
    gateway.world.messenger.script(outcome)
    task = await gateway.tell()
    await gateway.settled()
    assert ended(gateway, task) == (TaskState.UNKNOWN, "outcome_unknown")
    await gateway.pass_time(3000)
    assert len(gateway.said()) == 1


async def test_a_message_that_may_arrive_twice_is_sent_again_after_an_unclear_outcome(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(UNCLEAR, UNCLEAR_LOST)
    task = await gateway.messages.send(TWICE_RATHER_THAN_NEVER, Submission(CI), chat=ADA.id)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENDING
    assert [job.in_doubt for job in gateway.jobs_of(task)] == [True]
    for _ in range(3):
        await gateway.pass_time(2)
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 3


async def test_a_question_with_an_unclear_outcome_is_asked_again(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    await gateway.settled()
    await gateway.pass_time(1)
    assert gateway.row(task).state is TaskState.ASKED
    assert len(gateway.world.messenger.chat) == 2


async def test_a_question_with_an_unclear_outcome_says_so_while_it_waits(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    await gateway.settled()
    unclear = Failure("outcome_unknown", "Telegram did it, and did not say so in time.")
    assert gateway.row(task).error == unclear
    assert ADA.name not in unclear.detail


async def test_a_question_that_stays_unclear_is_unknown_after_a_few_tries(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR_LOST] * 20)
    task = await gateway.ask()
    for _ in range(20):
        await gateway.settled()
        await gateway.pass_time(60)
    assert ended(gateway, task) == (TaskState.UNKNOWN, "outcome_unknown")
    assert len(gateway.said()) == 1 + TRIES


async def test_an_unclear_question_that_runs_out_of_time_has_not_failed(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR, UNCLEAR, UNCLEAR)
    task = await gateway.ask(expires_in=5)
    for _ in range(5):
        await gateway.settled()
        await gateway.pass_time(2)
    over = {TaskState.UNKNOWN, TaskState.EXPIRED}
    assert gateway.row(task).state in over, "A copy stands in the chat: it did not certainly fail."


async def test_a_question_that_was_unclear_once_never_certainly_failed(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR, *[NOT_REACHED] * 20)
    task = await gateway.ask(expires_in=20)
    for _ in range(15):
        await gateway.settled()
        await gateway.pass_time(2)
    over = {TaskState.UNKNOWN, TaskState.EXPIRED}
    assert gateway.row(task).state in over, "A copy stands in the chat: it did not certainly fail."


async def test_a_question_in_doubt_that_cannot_be_asked_again_in_time_expires_with_what_then_counts(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(*[UNCLEAR] * 3)
    task = await gateway.ask(expires_in=5, on_expiry="cancel")
    for _ in range(5):
        await gateway.settled()
        await gateway.pass_time(2)
    row = gateway.row(task)
    assert (row.state, row.decision and row.decision.choice) == (TaskState.EXPIRED, "cancel")


async def test_every_copy_of_a_question_is_closed_when_one_is_answered(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    await gateway.ask()
    await gateway.settled()
    await gateway.pass_time(1)
    first, second = gateway.world.messenger.chat.values()
    await gateway.press("Deploy", under=first)
    await gateway.settled()
    first, second = gateway.world.messenger.chat.values()
    assert first.text == second.text == "Deploy?\n\nAda L. chose “Deploy” on 22 November 2026 at 10:00 UTC."
    assert first.buttons == second.buttons == ()


async def test_an_answer_to_an_unclear_question_counts_before_it_is_asked_again(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.pass_time(60)
    assert gateway.row(task).state is TaskState.ANSWERED
    assert len(gateway.said()) == 1
    assert gateway.world.messenger.last.buttons == ()


async def test_an_answer_counts_while_an_unclear_question_waits_for_telegram(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR, later(600))
    task = await gateway.ask()
    await gateway.settled()
    await gateway.pass_time(1)
    assert len(gateway.said()) == 2
    await gateway.press("Deploy")
    assert gateway.row(task).state is TaskState.ANSWERED
    await gateway.settled()


async def test_a_copy_that_is_delivered_after_the_answer_loses_its_buttons_too(gateway: Gateway) -> None:
    second = Hang()
    gateway.world.messenger.script(UNCLEAR, second)
    await gateway.ask()
    await gateway.settled()
    gateway.world.clock.advance(1)
    await gateway.scheduler.claim_due()
    await second.arrived.wait()
    await gateway.press("Deploy")
    await until(lambda: len(gateway.runner.background.running) == 1)
    second.release()
    await gateway.settled()
    assert [shown.buttons for shown in gateway.world.messenger.chat.values()] == [(), ()]


async def test_an_answer_corrects_a_question_whose_outcome_is_unknown(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR] * (1 + TRIES))
    task = await gateway.ask()
    for _ in range(10):
        await gateway.settled()
        await gateway.pass_time(60)
    assert gateway.row(task).state is TaskState.UNKNOWN
    await gateway.press("Deploy")
    assert gateway.row(task).state is TaskState.ANSWERED


# Several parts


@pytest.mark.usefixtures("short_messages")
async def test_a_long_message_is_sent_part_by_part(gateway: Gateway) -> None:
    task = await gateway.tell(LONG)
    await gateway.settled()
    assert gateway.said() == ["a" * 10, "b" * 10, "c" * 5]
    assert gateway.row(task).message_ids == (4711, 4712, 4713)
    assert gateway.world.store.steps_of(task.id) == ["sending", "part_sent", "part_sent", "sent"]


@pytest.mark.usefixtures("short_messages")
async def test_a_long_message_goes_on_where_it_was_interrupted(gateway: Gateway) -> None:
    gateway.world.messenger.script(DELIVERED, NOT_REACHED)
    task = await gateway.tell(LONG)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.QUEUED
    await gateway.pass_time(1)
    assert gateway.said() == ["a" * 10, "b" * 10, "b" * 10, "c" * 5]
    assert gateway.row(task).message_ids == (4711, 4712, 4713)
    assert gateway.row(task).state is TaskState.SENT


@pytest.mark.usefixtures("short_messages")
async def test_a_message_that_fails_half_way_says_how_much_of_it_stands(gateway: Gateway) -> None:
    gateway.world.messenger.script(DELIVERED, REFUSED, DELIVERED, DELIVERED, BLOCKED)
    told = []
    for _ in range(2):
        row = await gateway.tell(LONG, wait=25)
        assert row.error is not None
        told.append((len(row.message_ids), row.error.code, row.error.detail))
    delete = f"DELETE /v1/messages/{row.id} takes them away."
    assert told[0][:2] == (1, "telegram_rejected")
    assert told[0][2].startswith("No. The first of its 3 parts stands in the chat; DELETE /v1/messages/tsk_")
    person = "This person has blocked the bot."
    stands = f"{person} The first 2 of its 3 parts stand in the chat; {delete}"
    assert told[1] == (2, "recipient_unreachable", stands)


@pytest.mark.usefixtures("short_messages")
async def test_a_message_that_expires_half_way_says_how_much_of_it_stands(gateway: Gateway) -> None:
    gateway.world.messenger.script(DELIVERED, *[later(40)] * 2)
    task = await gateway.tell(LONG, expires_in=60)
    await gateway.settled()
    for _ in range(8):
        await gateway.pass_time(10)
    row = gateway.row(task)
    assert row.error is not None
    assert (row.state, row.error.code) == (TaskState.FAILED, "telegram_unavailable")
    assert "The first of its 3 parts stands in the chat" in row.error.detail


@pytest.mark.usefixtures("short_messages")
async def test_a_question_that_fails_half_way_says_how_much_of_it_stands(gateway: Gateway) -> None:
    gateway.world.messenger.script(DELIVERED, REFUSED)
    task = await gateway.ask(LONG)
    await gateway.settled()
    error = gateway.row(task).error
    assert error is not None
    assert error.detail == "No. The first of its 3 parts stands in the chat."


# Early answers


async def test_a_press_before_the_sender_has_stored_asked_counts(gateway: Gateway) -> None:
    hang = Hang(done_first=True)
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    await hang.arrived.wait()
    assert gateway.row(task).state is TaskState.SENDING
    await gateway.press("Deploy")
    assert gateway.row(task).state is TaskState.ANSWERED
    hang.release()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.message_ids, gateway.is_closed(task)) == (TaskState.ANSWERED, (4711,), True)
    assert gateway.world.messenger.last.buttons == ()


async def test_a_question_that_is_withdrawn_while_it_is_sent_is_closed_when_it_arrives(
    gateway: Gateway,
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    await hang.arrived.wait()
    await gateway.withdraw(task)
    hang.release()
    await gateway.settled()
    assert (gateway.row(task).state, gateway.is_closed(task)) == (TaskState.CANCELLED, True)
    assert gateway.world.messenger.last.text.startswith("Deploy?\n\nThis question was withdrawn")


# Time, bugs, and rows that are gone


async def test_what_is_stuck_in_a_call_is_over_soon_after_its_time(gateway: Gateway) -> None:
    hangs = Hang(done_first=True), Hang()
    gateway.world.messenger.script(*hangs)
    message = await gateway.tell(expires_in=5)
    question = await gateway.ask(chat=BEN.id, expires_in=5)
    for hang in hangs:
        await hang.arrived.wait()
    gateway.world.clock.advance(7)
    await gateway.scheduler.claim_due()
    await until(lambda: all(gateway.row(task).final for task in (message, question)))
    assert gateway.row(message).state is TaskState.UNKNOWN
    assert gateway.row(question).state is TaskState.EXPIRED
    for hang in hangs:
        hang.release()
    await gateway.settled()
    assert gateway.row(message).state is TaskState.SENT, "What comes of it later is believed."
    assert (gateway.row(question).state, gateway.is_closed(question)) == (TaskState.EXPIRED, True)


async def test_a_bug_is_logged_with_its_traceback_and_stops_nothing_else(
    world: World, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    world.formatter = _BrokenFormatter()
    broken = world.start()
    world.formatter = PlainFormatter()
    task = await broken.tell("one")
    await broken.settled()
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
    assert "a bug in plain of 3 characters" in caplog.text
    assert gateway.row(task).state is TaskState.UNKNOWN
    other = await gateway.tell("two", chat=BEN.id, wait=5)
    assert other.state is TaskState.SENT


@pytest.mark.parametrize("place", ["before it is stored", "while it is stored"])
async def test_what_came_of_a_call_is_unknown_when_a_bug_loses_it_and_the_message_is_not_sent_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def stumble(*_: object, **__: object) -> object:
        raise ZeroDivisionError("a bug")

    def decide_by_mistake(*_: object, **__: object) -> object:
        return stumble

    monkeypatch.setattr(send, "_delivered", stumble if place == "before it is stored" else decide_by_mistake)
    task = await gateway.tell("Hello")
    await gateway.settled()
    for _ in range(4):
        await gateway.pass_time(10)
    assert (gateway.row(task).state, gateway.row(task).error) == (TaskState.UNKNOWN, BUG)
    assert len(gateway.said()) == 1


async def test_a_task_that_was_forgotten_meanwhile_troubles_nobody(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    del gateway.world.store.tasks[task.id]
    hang.release()
    await gateway.settled()
    assert gateway.world.notifier.hints == []
    assert gateway.world.store.jobs == []
