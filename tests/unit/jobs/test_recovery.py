"""Recovery: processes die, freeze and lose their database, and nothing is sent twice, or lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from core.jobs.kinds.send import Send
from core.jobs.runner import FORGOTTEN, LEASE
from core.model.errors import StorageUnavailable
from core.model.message import Message
from core.model.task import Task
from core.model.transition import TaskState
from core.services.tasks import Submission
from tests.fakes.messenger import BLOCKED, DELIVERED, NOT_REACHED, Hang, Outcome, later
from tests.fakes.world import ADA, CI, Gateway, World, key, turns, until
from tests.unit.jobs.samples import LONG, REFUSED

TRIES = Send.retry.unclear_tries or 0
LEASE_SECONDS = LEASE.total_seconds()
FOUND_AFTER = (LEASE - FORGOTTEN).total_seconds()
"""Seconds after which a process finds what it holds and does not know of."""


@pytest.fixture
async def other(world: World) -> AsyncIterator[Gateway]:
    """Another process, which takes over what the first one lets go of."""
    other = world.start()
    yield other
    await other.runner.stop(0)


def ended(gateway: Gateway, task: Task) -> tuple[TaskState, str | None]:
    """How a task has ended, and the code of its error."""
    row = gateway.row(task)
    return row.state, None if row.error is None else row.error.code


# Processes that are only slow


async def test_a_task_in_hand_is_not_performed_twice_when_it_is_claimed_anew(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    [job] = gateway.jobs_of(task)
    gateway.runner.begin(job, gateway.row(task))
    await turns()
    hang.release()
    await gateway.settled()
    assert gateway.said() == ["Hello"]
    assert gateway.row(task).state is TaskState.SENT


async def test_a_task_that_another_process_took_over_is_let_go(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    first = Hang()
    world.messenger.script(first)
    await gateway.tell("first")
    task = await gateway.ask("second")
    await first.arrived.wait()
    world.clock.advance(LEASE_SECONDS + 1)
    await other.scheduler.claim_due()
    await until(lambda: other.row(task).state is TaskState.ASKED)
    first.release()
    await gateway.settled()
    await other.settled()
    assert gateway.said().count("second") == 1


async def test_a_late_outcome_does_not_overwrite_what_another_process_found_out(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    await other.pass_time(LEASE_SECONDS + 1)
    assert gateway.row(task).state is TaskState.UNKNOWN
    hang.release(BLOCKED)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.UNKNOWN


async def test_a_late_delivery_turns_unknown_into_the_truth(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    await other.pass_time(LEASE_SECONDS + 1)
    hang.release()
    await gateway.settled()
    row = gateway.row(task)
    assert (row.state, row.message_ids, row.error) == (TaskState.SENT, (4711,), None)


async def test_a_late_delivery_of_a_question_that_waits_elsewhere_is_enough(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang, NOT_REACHED)
    task = await gateway.ask()
    await hang.arrived.wait()
    await other.pass_time(LEASE_SECONDS + 1)
    # The first process may have delivered it: it has not certainly failed, whatever the second one meets.
    assert gateway.row(task).state is TaskState.SENDING
    assert [job.in_doubt for job in gateway.jobs_of(task) if job.kind == "send"] == [True]
    hang.release()
    await gateway.settled()
    for _ in range(5):
        await other.pass_time(10)
    assert gateway.row(task).state is TaskState.ASKED
    assert len(gateway.said()) == 2, "It stands in the chat, so it is not asked again."


async def test_what_this_process_has_in_hand_is_not_recovered(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.clock.advance(LEASE_SECONDS + 1)
    await gateway.scheduler.claim_due()
    await turns()
    assert gateway.row(task).state is TaskState.SENDING
    hang.release()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT


async def test_a_task_is_not_sent_by_somebody_who_does_not_hold_it(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell("held by nobody")
    await hang.arrived.wait()
    [job] = gateway.jobs_of(task)
    hang.release()
    await gateway.settled()
    gateway.world.store.tasks[task.id] = replace(gateway.row(task), state=TaskState.SENDING, message_ids=())
    gateway.runner.begin(job.leased(None), gateway.row(task))
    await gateway.settled()
    assert gateway.said() == ["held by nobody"]


# Processes that are dead


async def test_a_message_that_a_dead_process_held_becomes_unknown(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    world.messenger.script(Hang())
    task = await gateway.tell()
    await turns()
    await gateway.crash()
    await other.pass_time(LEASE_SECONDS + 1)
    assert ended(gateway, task) == (TaskState.UNKNOWN, "outcome_unknown")
    assert set(world.notifier.hints) == {task.id}
    assert len(gateway.said()) == 1


async def test_a_question_that_a_dead_process_held_is_asked_again(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    world.messenger.script(Hang())
    task = await gateway.ask()
    await turns()
    await gateway.crash()
    assert await other.pass_time(LEASE_SECONDS - 1) == 0
    await other.pass_time(2)
    assert gateway.row(task).state is TaskState.ASKED
    assert world.store.steps_of(task.id) == ["sending", "taken_over", "asked"]


async def test_a_message_that_may_arrive_twice_is_sent_again_after_a_crash(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    hang = Hang(done_first=True)
    world.messenger.script(hang)
    message = Message("Twice rather than never", resend=True)
    task = await gateway.messages.send(message, Submission(CI), chat=ADA.id)
    await hang.arrived.wait()
    await gateway.crash()
    await other.pass_time(LEASE_SECONDS + 1)
    assert other.row(task).state is TaskState.SENT


async def test_what_a_dead_process_may_have_delivered_never_certainly_fails(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    world.messenger.script(Hang(done_first=True), REFUSED)
    task = await gateway.ask()
    await turns()
    await gateway.crash()
    await other.pass_time(LEASE_SECONDS + 1)
    assert ended(gateway, task) == (TaskState.UNKNOWN, "outcome_unknown")


async def test_what_stood_behind_a_task_goes_on_in_the_next_process(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang)
    await gateway.tell("first")
    behind = await gateway.tell("second")
    await hang.arrived.wait()
    await gateway.crash()
    await other.pass_time(LEASE_SECONDS + 1)
    assert other.row(behind).state is TaskState.SENT


async def test_a_question_whose_time_was_over_while_nobody_lived_is_not_asked(
    world: World, gateway: Gateway, other: Gateway
) -> None:
    world.messenger.script(Hang())
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    await turns()
    await gateway.crash()
    await other.pass_time(3600)
    await other.pass_time(1)
    row = gateway.row(task)
    assert (row.state, row.decision and row.decision.choice) == (TaskState.EXPIRED, "cancel")
    assert len(gateway.said()) == 1


async def test_a_question_that_kills_whoever_sends_it_is_given_up(world: World) -> None:
    task = None
    for _ in range(TRIES + 3):
        gateway = world.start()
        world.messenger.script(Hang())
        if task is None:
            task = await gateway.ask()
        else:
            world.clock.advance(LEASE_SECONDS + 1)
            await gateway.scheduler.claim_due()
        await turns()
        await gateway.crash()
    gateway = world.start()
    await gateway.pass_time(LEASE_SECONDS + 1)
    assert task is not None
    assert gateway.row(task).state is TaskState.UNKNOWN
    assert len(gateway.said()) == 1 + TRIES
    await gateway.runner.stop(0)


# Databases that go away


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(DELIVERED, TaskState.SENT), (later(5), TaskState.QUEUED), (NOT_REACHED, TaskState.QUEUED)],
    ids=["delivered", "told to wait", "not reached"],
)
async def test_an_outcome_that_is_known_outlasts_a_database_that_is_down(
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
    assert caplog.text.count("The outcome of a job cannot be stored yet; retrying") == 1
    assert len(gateway.said()) == 1


async def test_an_outcome_is_stored_once_although_the_answer_of_the_database_was_lost(
    gateway: Gateway,
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    telling = asyncio.create_task(gateway.tell(wait=25))
    await hang.arrived.wait()
    begun = asyncio.get_running_loop().time()
    gateway.world.store.lose("complete")
    hang.release(DELIVERED)
    task = await telling
    assert task.state is TaskState.SENT
    assert asyncio.get_running_loop().time() - begun < 1, "Whoever waits is told as soon as it is known."
    assert gateway.world.store.steps_of(task.id) == ["sending", "sent"]
    assert gateway.world.store.jobs == []


@pytest.mark.usefixtures("short_messages")
async def test_a_part_is_stored_once_although_the_answer_of_the_database_was_lost(gateway: Gateway) -> None:
    gateway.world.store.lose("record")
    task = await gateway.tell(LONG)
    await gateway.settled()
    assert gateway.said() == ["a" * 10, "b" * 10, "c" * 5]
    assert gateway.world.store.steps_of(task.id) == ["sending", "part_sent", "part_sent", "sent"]


async def test_a_message_whose_commit_got_lost_is_sent_although_its_service_was_told_of_trouble(
    gateway: Gateway,
) -> None:
    gateway.world.store.lose("add")
    with pytest.raises(StorageUnavailable):
        await gateway.tell("Hello", idempotency=key("once"))
    again = await gateway.tell("Hello", idempotency=key("once"), wait=0)
    assert (again.state, gateway.said()) == (TaskState.SENDING, [])
    await gateway.pass_time(FOUND_AFTER)
    assert (gateway.row(again).state, gateway.said()) == (TaskState.SENT, ["Hello"])


async def test_what_was_claimed_by_a_lost_commit_is_sent(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(5))
    task = await gateway.tell("Hello")
    await gateway.settled()
    gateway.world.store.lose("claim")
    gateway.world.clock.advance(6)
    with pytest.raises(StorageUnavailable):
        await gateway.scheduler.claim_due()
    assert gateway.row(task).state is TaskState.SENDING
    await gateway.pass_time(FOUND_AFTER)
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 2, "The first call was told to wait."


@pytest.fixture
async def taken_over_in_trouble(
    world: World, gateway: Gateway, other: Gateway, request: pytest.FixtureRequest
) -> Task:
    """The task that a process takes over from a dead one, just as the database breaks off."""
    world.messenger.script(Hang(done_first=True))
    task = await gateway.tell()
    await turns()
    await gateway.crash()
    world.clock.advance(LEASE_SECONDS + 1)
    if request.param == "its commit is lost":
        world.store.lose("claim")
    else:
        claiming = world.store.hold_back("claim")
    sweeping = asyncio.create_task(other.scheduler.claim_due())
    if request.param != "its commit is lost":
        await claiming.arrived.wait()
        world.store.down = True
        claiming.released.set()
    with pytest.raises(StorageUnavailable):
        await sweeping
    world.store.down = False
    return task


@pytest.mark.parametrize(
    "taken_over_in_trouble", ["its commit is lost", "the database goes away behind it"], indirect=True
)
async def test_what_a_dead_process_may_have_sent_is_not_sent_again_when_taking_it_over_goes_wrong(
    other: Gateway, taken_over_in_trouble: Task
) -> None:
    task = taken_over_in_trouble
    assert other.world.store.steps_of(task.id) == ["sending", "taken_over"]
    await other.pass_time(FOUND_AFTER)
    assert len(other.said()) == 1
    assert other.row(task).state is TaskState.UNKNOWN
    assert other.world.store.steps_of(task.id) == ["sending", "taken_over", "unknown"]
