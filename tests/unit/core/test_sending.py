"""Sending: what becomes of a task for everything that Telegram can do to it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from core.jobs.deadlines import BATCH
from core.jobs.limits import Pacer, Urgency
from core.jobs.outcomes import UNCLEAR_TRIES
from core.jobs.performing import Performer
from core.model.errors import StorageUnavailable
from core.model.message import Chat, Format, Message
from core.model.task import Failure, Task, TaskState
from core.model.update import Notice
from core.ports import FormattedText, Migrated, Rejected
from core.services.factory import LEASE
from core.services.messages import MessageRequest
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
from tests.fakes.world import ADA, BEN, CI, GROUP, Gateway, World, key, turns, until

REFUSED = Outcome(done=False, error=Rejected(Failure("telegram_rejected", "No.", 400, "Bad Request: no")))
LONG = "a" * 10 + "b" * 10 + "c" * 5


@pytest.fixture
def short_messages(world: World) -> World:
    """Telegram messages of ten characters, so that a text soon needs several."""
    world.formatter = PlainFormatter(limit=10, room=0)
    return world


class _BrokenFormatter(PlainFormatter):
    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        raise ZeroDivisionError(f"a bug in {markup} of {len(text)} characters, {reserve} of them kept free")


# Done


async def test_a_message_that_is_delivered_is_sent(gateway: Gateway) -> None:
    task = await gateway.tell("Hello")
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.message_ids, row.error, row.lease) == (TaskState.SENT, (4711,), None, None)
    assert gateway.world.waker.hints == [task.id]


async def test_a_question_that_is_delivered_is_asked_and_nobody_is_woken_for_it(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ASKED
    assert gateway.world.waker.hints == []


async def test_topic_and_chat_reach_telegram(gateway: Gateway) -> None:
    task = gateway.sender.drafter.draft(
        Message("Hello"), service="ci", chat=Chat(GROUP, "ops", topic=7), expires_in=60
    )
    await gateway.desk.submit(task, Submission(CI))
    await gateway.settled()
    (call,) = gateway.world.messenger.calls
    assert (call.chat, call.topic) == (GROUP, 7)


async def test_a_task_that_is_already_in_hand_is_not_performed_twice(gateway: Gateway) -> None:
    task = await gateway.tell()
    gateway.sender.begin(task)
    gateway.sender.begin(task)
    await gateway.settled()
    assert gateway.said() == ["Hello"]


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
    assert (row.state, row.attempts) == (TaskState.QUEUED, 0)
    assert row.not_before == START + timedelta(seconds=17)


async def test_a_task_that_cannot_be_tried_again_in_time_fails_at_once(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(61))
    task = await gateway.tell(expires_in=60)
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_unavailable")
    assert gateway.world.waker.hints == [task.id]


# Rejected


async def test_what_telegram_refuses_fails_with_its_words_and_is_not_repeated(gateway: Gateway) -> None:
    gateway.world.messenger.script(BLOCKED)
    task = await gateway.ask()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.lease) == (TaskState.FAILED, None)
    assert row.error is not None
    assert (row.error.code, row.error.error_code) == ("recipient_unreachable", 403)
    assert row.error.description == "Forbidden: bot was blocked by the user"
    await gateway.pass_time(3000)
    assert len(gateway.said()) == 1


# Unclear


@pytest.mark.parametrize("outcome", [UNCLEAR, UNCLEAR_LOST], ids=["done", "not done"])
async def test_a_message_with_an_unclear_outcome_is_unknown_and_never_sent_again(
    gateway: Gateway, outcome: object
) -> None:
    gateway.world.messenger.script(UNCLEAR if outcome is UNCLEAR else UNCLEAR_LOST)
    task = await gateway.tell()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.UNKNOWN, "outcome_unknown")
    await gateway.pass_time(3000)
    assert len(gateway.said()) == 1


async def test_a_question_with_an_unclear_outcome_is_asked_again(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    await gateway.settled()
    await gateway.pass_time(1)
    assert gateway.row(task).state is TaskState.ASKED
    assert len(gateway.world.messenger.chat) == 2


async def test_a_question_that_stays_unclear_is_unknown_after_a_few_tries(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR_LOST] * 20)
    task = await gateway.ask()
    for _ in range(20):
        await gateway.settled()
        await gateway.pass_time(60)
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.UNKNOWN, "outcome_unknown")
    assert len(gateway.said()) == 1 + UNCLEAR_TRIES


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
    await gateway.timekeeper.sweep()
    await second.arrived.wait()
    await gateway.press("Deploy")
    await until(lambda: len(gateway.sender.errands.running) == 1)
    second.release()
    await gateway.settled()
    assert [shown.buttons for shown in gateway.world.messenger.chat.values()] == [(), ()]


async def test_an_answer_corrects_a_question_whose_outcome_is_unknown(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR] * (1 + UNCLEAR_TRIES))
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


@pytest.mark.usefixtures("short_messages")
async def test_a_waiting_deletion_takes_away_what_stands_of_a_message_that_then_failed(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(DELIVERED, NOT_REACHED, REFUSED)
    message = await gateway.tell(LONG)
    deletion = await gateway.telling.delete(message.id, Submission(CI))
    edit = await gateway.correct(message, LONG)
    await gateway.settled()
    for _ in range(5):
        await gateway.pass_time(1)
    assert gateway.row(message).state is TaskState.FAILED
    assert gateway.row(deletion).state is TaskState.SENT
    assert [shown.now for shown in gateway.world.messenger.chat.values()] == [None]
    row = gateway.row(edit)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_rejected")


@pytest.mark.usefixtures("short_messages")
async def test_only_the_last_part_of_a_long_question_is_closed(gateway: Gateway) -> None:
    await gateway.ask(LONG)
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    texts = [shown.text for shown in gateway.world.messenger.chat.values()]
    assert texts[:2] == ["a" * 10, "b" * 10]
    assert texts[2].startswith("c" * 5 + "\n\nAda L. chose")


# Order


async def test_one_chat_gets_its_messages_one_after_the_other_in_order(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    for text in ("first", "second", "third"):
        await gateway.tell(text)
    await hang.arrived.wait()
    await turns()
    assert gateway.said() == ["first"]
    hang.release()
    await gateway.settled()
    assert [shown.text for shown in gateway.world.messenger.chat.values()] == ["first", "second", "third"]


async def test_a_chat_that_hangs_holds_up_no_other_chat(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    await gateway.tell("to Ada")
    await hang.arrived.wait()
    other = await gateway.tell("to Ben", chat=BEN.id)
    await until(lambda: gateway.row(other).state is TaskState.SENT)
    hang.release()
    await gateway.settled()


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
    assert (row.state, row.message_ids, row.closed) == (TaskState.ANSWERED, (4711,), True)
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
    row = gateway.row(task)
    assert (row.state, row.closed) == (TaskState.CANCELLED, True)
    assert gateway.world.messenger.last.text.startswith("Deploy?\n\nThis question was withdrawn")


# Leases


async def test_a_task_waits_in_the_queue_for_its_chat_and_gets_its_lease_when_it_is_its_turn(
    gateway: Gateway,
) -> None:
    first, second = Hang(), Hang()
    gateway.world.messenger.script(first, second)
    await gateway.tell("first")
    task = await gateway.tell("second")
    await first.arrived.wait()
    assert (task.state, task.lease) == (TaskState.QUEUED, None)
    gateway.world.clock.advance(20)
    first.release()
    await second.arrived.wait()
    lease = gateway.row(task).lease
    assert lease is not None
    assert lease.until == START + timedelta(seconds=20) + LEASE
    assert gateway.world.store.steps_of(task.id) == ["queued", "sending"]
    second.release()
    await gateway.settled()
    assert gateway.said() == ["first", "second"]


async def test_what_a_chat_is_told_keeps_its_order_when_the_first_has_to_wait(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, NOT_REACHED)
    tasks = [await gateway.tell(text) for text in ("one", "two", "three")]
    elsewhere = await gateway.tell("elsewhere", chat=BEN.id)
    await gateway.settled()
    assert [gateway.row(task).state for task in tasks] == [TaskState.QUEUED] * 3
    await gateway.pass_time(1)
    for _ in range(5):
        await gateway.pass_time(2)
    assert [gateway.row(task).state for task in (*tasks, elsewhere)] == [TaskState.SENT] * 4
    assert [shown.text for shown in gateway.world.messenger.chat.values() if shown.chat == ADA.id] == [
        "one",
        "two",
        "three",
    ]


async def test_what_stood_behind_a_task_goes_on_in_the_next_process(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(hang)
    await gateway.tell("first")
    behind = await gateway.tell("second")
    await hang.arrived.wait()
    await gateway.crash()
    other = world.start()
    await other.pass_time(LEASE.total_seconds() + 1)
    await other.settled()
    assert other.row(behind).state is TaskState.SENT


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
    assert gateway.sender.chats.is_same(GROUP, -1009)
    again = await gateway.tell("Hello", chat=GROUP, wait=5)
    assert (again.state, again.chat.id) == (TaskState.SENT, -1009)


async def test_a_supergroup_that_moves_on_and_on_is_given_up(gateway: Gateway) -> None:
    moved = Outcome(done=False, error=Migrated(-1009))
    gateway.world.messenger.script(moved, moved)
    task = await gateway.tell("Hello", chat=GROUP, wait=5)
    assert (task.state, task.error and task.error.code) == (TaskState.FAILED, "telegram_rejected")


async def test_f19_a_task_that_another_process_took_over_is_let_go(world: World, gateway: Gateway) -> None:
    first = Hang()
    world.messenger.script(first)
    await gateway.tell("first")
    task = await gateway.ask("second")
    await first.arrived.wait()
    world.clock.advance(31)
    other = world.start()
    await other.timekeeper.sweep()
    await until(lambda: other.row(task).state is TaskState.ASKED)
    first.release()
    await gateway.settled()
    await other.settled()
    assert gateway.said().count("second") == 1


async def test_f19_a_late_outcome_does_not_overwrite_what_another_process_found_out(
    world: World, gateway: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    world.clock.advance(31)
    other = world.start()
    await other.timekeeper.sweep()
    await other.settled()
    assert gateway.row(task).state is TaskState.UNKNOWN
    hang.release(BLOCKED)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.UNKNOWN


async def test_a_late_delivery_turns_unknown_into_the_truth(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    world.clock.advance(31)
    other = world.start()
    await other.timekeeper.sweep()
    await other.settled()
    hang.release()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.message_ids, row.error) == (TaskState.SENT, (4711,), None)


async def test_a_late_delivery_of_a_question_that_waits_elsewhere_is_enough(
    world: World, gateway: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang, NOT_REACHED)
    task = await gateway.ask()
    await hang.arrived.wait()
    world.clock.advance(31)
    other = world.start()
    await other.timekeeper.sweep()
    await other.settled()
    # The first process may have delivered it: it has not certainly failed, whatever the second one meets.
    assert (gateway.row(task).state, gateway.row(task).in_doubt) == (TaskState.SENDING, True)
    hang.release()
    await gateway.settled()
    for _ in range(5):
        await other.pass_time(10)
    assert gateway.row(task).state is TaskState.ASKED


# Recovery


async def test_a_message_that_a_dead_process_held_becomes_unknown(world: World, gateway: Gateway) -> None:
    world.messenger.script(Hang())
    task = await gateway.tell()
    await turns()
    await gateway.crash()
    other = world.start()
    await other.pass_time(31)
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.UNKNOWN, "outcome_unknown")
    assert world.waker.hints == [task.id]
    assert len(gateway.said()) == 1


async def test_a_question_that_a_dead_process_held_is_asked_again(world: World, gateway: Gateway) -> None:
    world.messenger.script(Hang())
    task = await gateway.ask()
    await turns()
    await gateway.crash()
    other = world.start()
    assert await other.pass_time(29) == 0
    await other.pass_time(2)
    assert gateway.row(task).state is TaskState.ASKED


async def test_a_question_whose_time_was_over_while_nobody_lived_is_not_asked(
    world: World, gateway: Gateway
) -> None:
    world.messenger.script(Hang())
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    await turns()
    await gateway.crash()
    other = world.start()
    await other.pass_time(3600)
    await other.pass_time(1)
    assert gateway.row(task).state is TaskState.EXPIRED
    assert len(gateway.said()) == 1


async def test_what_this_process_has_in_hand_is_not_recovered(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.clock.advance(31)
    await gateway.timekeeper.sweep()
    await turns()
    assert gateway.row(task).state is TaskState.SENDING
    hang.release()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(DELIVERED, TaskState.SENT), (later(5), TaskState.QUEUED), (NOT_REACHED, TaskState.QUEUED)],
    ids=["delivered", "told to wait", "not reached"],
)
async def test_f14_an_outcome_that_is_known_outlasts_a_database_that_is_down(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, outcome: Outcome, state: TaskState
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.store.down = True
    hang.release(outcome)
    await asyncio.sleep(100)
    gateway.world.store.down = False
    assert gateway.row(task).state is TaskState.SENDING
    await gateway.settled()
    assert gateway.row(task).state is state
    assert caplog.text.count("What came of a task could not be stored yet; it is tried again") == 1
    assert len(gateway.said()) == 1


async def test_an_outcome_is_stored_once_although_the_answer_of_the_database_was_lost(
    gateway: Gateway,
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.store.lose("amend")
    hang.release(DELIVERED)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT
    assert gateway.world.store.steps_of(task.id) == ["sending", "sent"]


async def test_f14_a_message_whose_commit_got_lost_is_sent_although_its_service_was_told_of_trouble(
    gateway: Gateway,
) -> None:
    gateway.world.store.lose("add")
    with pytest.raises(StorageUnavailable):
        await gateway.tell("Hello", idempotency=key("once"))
    again = await gateway.tell("Hello", idempotency=key("once"), wait=0)
    assert (again.state, gateway.said()) == (TaskState.SENDING, [])
    await gateway.pass_time(11)
    assert (gateway.row(again).state, gateway.said()) == (TaskState.SENT, ["Hello"])


async def test_f14_what_was_taken_from_the_queue_by_a_lost_commit_is_sent(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(5))
    task = await gateway.tell("Hello")
    await gateway.settled()
    gateway.world.store.lose("claim")
    gateway.world.clock.advance(6)
    with pytest.raises(StorageUnavailable):
        await gateway.timekeeper.sweep()
    assert gateway.row(task).state is TaskState.SENDING
    await gateway.pass_time(11)
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 2, "The first call was told to wait."


async def test_what_a_bug_let_go_of_after_telegram_was_asked_is_not_asked_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Performer, "_delivered", stumble)
    task = await gateway.tell("Hello")
    await gateway.settled()
    monkeypatch.undo()
    await gateway.pass_time(15)
    assert (gateway.row(task).state, len(gateway.said())) == (TaskState.SENDING, 1)
    await gateway.pass_time(20)
    assert (gateway.row(task).state, len(gateway.said())) == (TaskState.UNKNOWN, 1)


@pytest.fixture
async def taken_over_in_trouble(
    world: World, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Gateway, Task]]:
    """A process that takes over what a dead one was sending, just as the database breaks off."""
    first = world.start()
    world.messenger.script(Hang(done_first=True))
    task = await first.tell()
    await turns()
    await first.crash()
    second = world.start()
    world.clock.advance(31)
    if request.param == "its commit is lost":
        world.store.lose("abandoned")
    else:
        taking = world.store.hold("abandoned")
    sweeping = asyncio.create_task(second.timekeeper.sweep())
    if request.param != "its commit is lost":
        await taking.arrived.wait()
        world.store.down = True
        taking.released.set()
    with pytest.raises(StorageUnavailable):
        await sweeping
    world.store.down = False
    yield second, task
    await second.sender.stop(0)


@pytest.mark.parametrize(
    "taken_over_in_trouble", ["its commit is lost", "the database goes away behind it"], indirect=True
)
async def test_what_a_dead_process_may_have_sent_is_not_sent_again_when_taking_it_over_goes_wrong(
    taken_over_in_trouble: tuple[Gateway, Task],
) -> None:
    gateway, task = taken_over_in_trouble
    assert gateway.world.store.steps_of(task.id) == ["sending", "taken_over"]
    await gateway.pass_time(15)
    assert len(gateway.said()) == 1
    assert gateway.row(task).state is TaskState.UNKNOWN


async def test_a_question_that_kills_whoever_sends_it_is_given_up(world: World) -> None:
    task = None
    for _ in range(UNCLEAR_TRIES + 3):
        gateway = world.start()
        world.messenger.script(Hang())
        if task is None:
            task = await gateway.ask()
        else:
            world.clock.advance(31)
            await gateway.timekeeper.sweep()
        await turns()
        await gateway.crash()
    gateway = world.start()
    await gateway.pass_time(31)
    assert task is not None
    assert gateway.row(task).state is TaskState.UNKNOWN
    assert len(gateway.said()) == 1 + UNCLEAR_TRIES
    await gateway.sender.stop(0)


# Edits and deletions


async def test_an_edit_changes_the_message(gateway: Gateway) -> None:
    message = await gateway.tell("Deploying", wait=5)
    edit = await gateway.correct(message, "Deployed", wait=5)
    assert edit.state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


async def test_an_edit_waits_until_its_message_is_sent(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, NOT_REACHED)
    message = await gateway.tell("Deploying")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    assert gateway.row(edit).state is TaskState.QUEUED
    assert gateway.world.messenger.of("edit") == []
    for _ in range(5):
        await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


async def test_an_edit_of_a_message_that_was_never_sent_fails(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, REFUSED)
    message = await gateway.tell("Deploying")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    for _ in range(3):
        await gateway.pass_time(1)
    row = gateway.row(edit)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_rejected")


@pytest.mark.usefixtures("short_messages")
async def test_an_edit_that_turns_out_not_to_fit_its_message_fails(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED)
    message = await gateway.tell("short")
    edit = await gateway.correct(message, LONG)
    await gateway.settled()
    for _ in range(3):
        await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.FAILED


async def test_an_edit_with_an_unclear_outcome_is_done_again(gateway: Gateway) -> None:
    message = await gateway.tell("Deploying", wait=5)
    gateway.world.messenger.script(UNCLEAR_LOST, verb="edit")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


@pytest.mark.usefixtures("short_messages")
async def test_a_deletion_takes_every_part_away(gateway: Gateway) -> None:
    message = await gateway.tell(LONG, wait=5)
    deletion = await gateway.telling.delete(message.id, Submission(CI, 5))
    assert deletion.state is TaskState.SENT
    assert [shown.now for shown in gateway.world.messenger.chat.values()] == [None, None, None]


# Closing


async def test_a_closing_that_does_not_reach_telegram_is_done_later(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, verb="edit")
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert not gateway.row(task).closed
    await gateway.pass_time(11)
    assert gateway.row(task).closed
    assert gateway.world.messenger.last.buttons == ()


async def test_closings_that_do_not_succeed_rest_longer_and_longer_and_stand_before_no_other(
    gateway: Gateway,
) -> None:
    stuck = []
    for _ in range(BATCH + 5):
        task = await gateway.ask()
        await gateway.settled()
        gateway.world.messenger.script(NOT_REACHED, verb="edit")
        await gateway.press("Deploy")
        await gateway.settled()
        stuck.append(task)
    edits = len(gateway.world.messenger.of("edit"))
    gateway.world.messenger.script(*[NOT_REACHED] * 10_000, verb="edit")
    for _ in range(60):
        await gateway.pass_time(1)
    assert len(gateway.world.messenger.of("edit")) - edits <= 4 * len(stuck)
    gateway.world.messenger.forget_script()
    gateway.world.store.tasks = {stuck[-1].id: gateway.row(stuck[-1]), **gateway.world.store.tasks}
    for _ in range(12):
        await gateway.pass_time(60)
    assert all(gateway.row(task).closed for task in stuck)
    assert gateway.sender.closer.resting == 0


async def test_a_closing_that_telegram_refuses_is_not_repeated(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.world.messenger.script(BLOCKED, verb="edit")
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.row(task).closed
    assert "could not be edited: This person has blocked the bot." in caplog.text
    await gateway.pass_time(60)
    assert len(gateway.world.messenger.of("edit")) == 1


async def test_a_closing_that_hangs_is_not_begun_a_second_time(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang, verb="edit")
    await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await hang.arrived.wait()
    gateway.world.clock.advance(11)
    await gateway.timekeeper.sweep()
    await turns()
    assert len(gateway.world.messenger.of("edit")) == 1
    hang.release()
    await gateway.settled()


async def test_a_question_that_was_never_delivered_needs_no_closing(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED)
    task = await gateway.ask()
    await gateway.settled()
    await gateway.withdraw(task)
    await gateway.pass_time(60)
    assert gateway.world.messenger.of("edit") == []


# Acknowledging


async def test_an_acknowledgement_that_fails_is_logged_and_harms_nothing(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.world.messenger.script(*[NOT_REACHED] * 10, verb="acknowledge")
    gateway.sender.closer.acknowledge(Notice("press-1", "Thank you!"))
    await gateway.settled()
    assert len(gateway.world.messenger.of("acknowledge")) < 10, "Nobody sees it any more."
    assert "A call to Telegram did not succeed: Telegram cannot be reached" in caplog.text


async def test_an_acknowledgement_that_did_not_come_through_is_repeated(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, UNCLEAR, verb="acknowledge")
    gateway.sender.closer.acknowledge(Notice("press-1", "Thank you!", popup=True))
    await gateway.settled()
    calls = gateway.world.messenger.of("acknowledge")
    assert [(call.press_id, call.text, call.popup) for call in calls] == [("press-1", "Thank you!", True)] * 3


async def test_an_acknowledgement_that_would_come_too_late_is_not_waited_for(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(3600), verb="acknowledge")
    gateway.sender.closer.acknowledge(Notice("press-1", "Thank you!"))
    begun = asyncio.get_running_loop().time()
    await gateway.settled()
    assert asyncio.get_running_loop().time() - begun < 1
    assert len(gateway.world.messenger.of("acknowledge")) == 1


async def test_a_chat_that_was_told_to_wait_gets_nothing_else_meanwhile(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(30))
    await gateway.tell("first")
    await gateway.tell("second")
    other = await gateway.tell("to Ben", chat=BEN.id, wait=5)
    await gateway.settled()
    assert other.state is TaskState.SENT
    assert gateway.said() == ["first", "to Ben"]
    await gateway.pass_time(30)
    assert gateway.said() == ["first", "to Ben", "first", "second"]


async def test_two_chats_that_are_told_to_wait_make_the_whole_bot_wait(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(30), later(20))
    await gateway.tell("to Ada")
    await gateway.tell("to Ben", chat=BEN.id)
    await gateway.settled()
    task = await gateway.tell("to the group", chat=GROUP)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.QUEUED
    assert gateway.row(task).attempts == 0
    await gateway.pass_time(30)
    assert gateway.row(task).state is TaskState.SENT


async def test_a_bug_is_logged_with_its_traceback_and_stops_nothing_else(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    sound = gateway.sender.performer.formatter
    gateway.sender.performer.formatter = _BrokenFormatter()
    task = await gateway.tell("one")
    await gateway.settled()
    gateway.sender.performer.formatter = sound
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
    assert "a bug in plain of 3 characters" in caplog.text
    assert gateway.row(task).state is TaskState.SENDING
    other = await gateway.tell("two", chat=BEN.id, wait=5)
    assert other.state is TaskState.SENT


async def test_a_message_that_may_arrive_twice_is_sent_again_after_an_unclear_outcome(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(UNCLEAR, UNCLEAR_LOST)
    request = MessageRequest(ADA.id, Message("Twice rather than never", resend=True))
    task = await gateway.telling.send(request, Submission(CI, 0.0))
    await gateway.settled()
    assert (gateway.row(task).state, gateway.row(task).in_doubt) == (TaskState.SENDING, True)
    for _ in range(3):
        await gateway.pass_time(2)
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 3


async def test_a_message_that_may_arrive_twice_is_sent_again_after_a_crash(
    world: World, gateway: Gateway
) -> None:
    hang = Hang(done_first=True)
    world.messenger.script(hang)
    request = MessageRequest(ADA.id, Message("Twice rather than never", resend=True))
    task = await gateway.telling.send(request, Submission(CI, 0.0))
    await hang.arrived.wait()
    await gateway.crash()
    other = world.start()
    await other.pass_time(LEASE.total_seconds() + 1)
    assert other.row(task).state is TaskState.SENT


async def test_what_a_dead_process_may_have_delivered_never_certainly_fails(
    world: World, gateway: Gateway
) -> None:
    world.messenger.script(Hang(done_first=True), REFUSED)
    task = await gateway.ask()
    await turns()
    await gateway.crash()
    other = world.start()
    await other.pass_time(LEASE.total_seconds() + 1)
    assert other.row(task).state is TaskState.UNKNOWN
    assert other.row(task).in_doubt


async def test_what_is_stuck_in_a_call_is_over_soon_after_its_time(gateway: Gateway) -> None:
    hangs = Hang(done_first=True), Hang()
    gateway.world.messenger.script(*hangs)
    message = await gateway.tell(expires_in=5)
    question = await gateway.ask(chat=BEN.id, expires_in=5)
    for hang in hangs:
        await hang.arrived.wait()
    gateway.world.clock.advance(7)
    await gateway.timekeeper.sweep()
    assert gateway.row(message).state is TaskState.UNKNOWN
    assert gateway.row(question).state is TaskState.EXPIRED
    for hang in hangs:
        hang.release()
    await gateway.settled()
    assert gateway.row(message).state is TaskState.SENT, "What comes of it later is believed."
    assert (gateway.row(question).state, gateway.row(question).closed) == (TaskState.EXPIRED, True)


# Stopping


async def test_stopping_lets_what_is_being_sent_end(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    stopping = asyncio.create_task(gateway.sender.stop(10))
    await turns()
    assert not stopping.done()
    hang.release()
    await stopping
    assert gateway.row(task).state is TaskState.SENT


async def test_stopping_lets_go_of_what_takes_too_long_and_its_row_says_so(gateway: Gateway) -> None:
    hangs = Hang(), Hang()
    gateway.world.messenger.script(*hangs)
    message, question = await gateway.tell(), await gateway.ask(chat=BEN.id)
    for hang in hangs:
        await hang.arrived.wait()
    behind = await gateway.tell("behind it")
    await gateway.sender.stop(2)
    rows = [gateway.row(task) for task in (message, question, behind)]
    assert [row.state for row in rows] == [TaskState.UNKNOWN, TaskState.SENDING, TaskState.QUEUED]
    assert [row.in_doubt for row in rows] == [True, True, False]
    assert not gateway.sender.errands.running
    other = gateway.world.start()
    await other.pass_time(1)
    assert [other.row(task).state for task in (question, behind)] == [TaskState.ASKED, TaskState.SENT]


async def test_what_is_let_go_of_in_a_call_is_in_doubt_although_it_was_not_reached_before(
    gateway: Gateway,
) -> None:
    hang = Hang()
    gateway.world.messenger.script(NOT_REACHED, hang)
    task = await gateway.ask()
    await gateway.settled()
    gateway.world.clock.advance(1)
    await gateway.timekeeper.sweep()
    await hang.arrived.wait()
    await gateway.sender.stop(0)
    row = gateway.row(task)
    assert (row.state, row.in_doubt) == (TaskState.SENDING, True)


async def test_stopping_without_a_database_says_that_its_rows_could_not_be_told(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.store.down = True
    await gateway.sender.stop(2)
    assert gateway.row(task).state is TaskState.SENDING
    assert "the lease's end will show it" in caplog.text


async def test_stopping_lets_what_follows_from_the_last_send_end_too(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    await hang.arrived.wait()
    await gateway.withdraw(task)
    stopping = asyncio.create_task(gateway.sender.stop(10))
    await turns()
    hang.release()
    await stopping
    assert not gateway.sender.errands.running, "The closing is still under way."
    assert gateway.row(task).closed


async def test_stopping_without_any_grace_drops_what_has_not_begun_without_a_trace(gateway: Gateway) -> None:
    task = gateway.sender.drafter.draft(Message("Hello"), service="ci", chat=Chat(ADA.id), expires_in=60)
    await gateway.world.store.add(task, None)
    gateway.sender.begin(task)
    await gateway.sender.stop(0)
    gc.collect()
    assert gateway.said() == []
    assert gateway.row(task).state is TaskState.QUEUED


async def test_stopping_with_nothing_to_do_returns_at_once(gateway: Gateway) -> None:
    before = asyncio.get_running_loop().time()
    await gateway.sender.stop(10)
    assert asyncio.get_running_loop().time() == before


# A gone row


async def test_a_task_that_was_forgotten_meanwhile_troubles_nobody(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    del gateway.world.store.tasks[task.id]
    hang.release()
    await gateway.settled()
    assert gateway.world.waker.hints == []


async def test_a_task_without_a_lease_is_not_sent_by_somebody_who_does_not_hold_it(gateway: Gateway) -> None:
    task = await gateway.tell("held by nobody")
    await gateway.settled()
    nobody_s: Task = replace(gateway.row(task), state=TaskState.SENDING, lease=None, message_ids=())
    gateway.world.store.tasks[task.id] = nobody_s
    gateway.sender.begin(nobody_s)
    await gateway.settled()
    assert gateway.said() == ["held by nobody"]


async def test_a_question_with_an_unclear_outcome_says_so_while_it_waits(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    await gateway.settled()
    unclear = Failure("outcome_unknown", "Telegram did it, and did not say so in time.")
    assert gateway.row(task).error == unclear
    assert ADA.name not in unclear.detail


async def test_t21_who_never_gets_a_turn_goes_back_to_the_queue_and_is_never_unknown(world: World) -> None:
    gateway, other = world.start(), world.start()
    pacer = Pacer(2, asyncio.get_running_loop().time)
    gateway.sender.pacer = gateway.sender.performer.pacer = gateway.sender.closer.pacer = pacer
    over = asyncio.Event()

    async def flood() -> None:
        while not over.is_set():
            await gateway.sender.pacer.turn(BEN.id, "flood", Urgency.QUESTION)

    flooding = [asyncio.create_task(flood()) for _ in range(3)]
    await asyncio.sleep(5)
    task = await gateway.tell("Hello")
    for _ in range(20):
        await asyncio.sleep(3)
        world.clock.advance(3)
        await gateway.timekeeper.sweep()
        await other.timekeeper.sweep()
    assert gateway.said() == []
    assert set(world.store.steps_of(task.id)) == {"sending", "queued"}
    over.set()
    await asyncio.gather(*flooding)
    await other.sender.stop(0)
    await gateway.pass_time(1)
    assert (gateway.row(task).state, gateway.said()) == (TaskState.SENT, ["Hello"])
