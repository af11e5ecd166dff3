"""What comes due by the clock: tries again, leftovers of dead processes, questions nobody answered."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from core.jobs.deadlines import BATCH, LONGEST_NAP, forget_finished
from core.model.task import TaskState
from core.services.factory import LEASE
from tests.fakes.clock import START, HandClock
from tests.fakes.messenger import NOT_REACHED, UNCLEAR, Hang, later
from tests.fakes.store import MemoryStore
from tests.fakes.world import BEN, GROUP, Gateway, World, ends, turns, until


class LoopClock(HandClock):
    """A clock that shows the loop's time, so that it passes while the timekeeper sleeps."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=asyncio.get_running_loop().time())


def passed(gateway: Gateway) -> float:
    return (gateway.world.clock.now() - START).total_seconds()


# One sweep


async def test_a_question_that_nobody_answered_expires(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    assert await gateway.pass_time(59) == 0
    assert gateway.row(task).state is TaskState.ASKED
    assert await gateway.pass_time(1) == 1
    row = gateway.row(task)
    assert (row.state, row.decision, row.closed) == (TaskState.EXPIRED, None, True)
    assert gateway.world.messenger.last.text == "Deploy?\n\nNobody answered in time."
    assert gateway.world.messenger.last.buttons == ()
    assert gateway.world.waker.hints == [task.id]


async def test_what_counts_on_expiry_is_the_answer_and_nobody_gave_it(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    await gateway.settled()
    await gateway.pass_time(60)
    decision = gateway.row(task).decision
    assert decision is not None
    assert (decision.choice, decision.label, decision.by) == ("cancel", "Cancel", None)
    assert "Nobody answered in time, so “Cancel” counts." in gateway.world.messenger.last.text


async def test_a_question_that_was_answered_in_time_does_not_expire(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.pass_time(3600)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_an_answer_that_comes_between_the_look_and_the_end_counts(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    gateway.world.clock.advance(60)
    held = gateway.world.store.hold("overdue")
    sweeping = asyncio.create_task(gateway.timekeeper.sweep())
    await held.arrived.wait()
    await gateway.press("Deploy")
    held.released.set()
    await sweeping
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_a_task_that_was_never_sent_fails_when_its_time_is_over(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(59))
    task = await gateway.tell(expires_in=60)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.QUEUED
    await gateway.pass_time(60)
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_unavailable")
    assert len(gateway.said()) == 1, "What is over is not sent any more."


async def test_an_expired_question_that_was_never_sent_fails_too(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[NOT_REACHED] * 20)
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    for _ in range(70):
        await gateway.settled()
        await gateway.pass_time(1)
    assert gateway.row(task).state is TaskState.FAILED


async def test_a_queued_task_is_claimed_by_one_of_two_processes(world: World, gateway: Gateway) -> None:
    world.messenger.script(NOT_REACHED)
    task = await gateway.tell()
    await gateway.settled()
    other = world.start()
    world.clock.advance(1)
    done = await asyncio.gather(gateway.timekeeper.sweep(), other.timekeeper.sweep())
    await gateway.settled()
    await other.settled()
    assert sorted(done) == [0, 1]
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 2


async def test_a_claimed_task_is_held_by_who_claimed_it(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    task = await gateway.tell()
    await gateway.settled()
    other = world.start()
    world.clock.advance(1)
    await other.timekeeper.sweep()
    lease = gateway.row(task).lease
    assert lease is not None
    assert (lease.holder, lease.until) == (
        other.sender.drafter.identity.holder,
        START + timedelta(seconds=1) + LEASE,
    )
    await hang.arrived.wait()
    hang.release()
    await other.settled()


async def test_more_than_a_batch_is_done_in_one_sweep(gateway: Gateway) -> None:
    number = 2 * BATCH + 1
    for _ in range(number):
        await gateway.ask(expires_in=60)
    await gateway.settled()
    assert await gateway.pass_time(60) == number
    assert {task.state for task in gateway.world.store.tasks.values()} == {TaskState.EXPIRED}


async def test_a_sweep_counts_everything_that_it_did(world: World, gateway: Gateway) -> None:
    world.messenger.script(later(60))
    await gateway.tell("queued")
    await gateway.settled()
    await gateway.ask("asked", chat=BEN.id, expires_in=60)
    await gateway.settled()
    world.messenger.script(Hang())
    await gateway.tell("held by a dead process", chat=GROUP)
    await turns()
    await gateway.crash()
    other = world.start()
    assert await other.pass_time(60) == 3


class _InsistentStore(MemoryStore):
    """Names the same tasks again and again, as a store may whose tasks cannot be ended."""

    looks = 0

    async def overdue(self, now: datetime, limit: int) -> Sequence[str]:
        self.looks += 1
        assert self.looks < 5, f"The sweep goes on for ever, at {now}."
        return list(self.tasks)[:limit]


async def test_tasks_that_are_named_and_cannot_be_ended_do_not_keep_the_sweep_going() -> None:
    gateway = World(store=_InsistentStore()).start()
    gateway.world.messenger.script(*[UNCLEAR] * BATCH)
    for _ in range(BATCH):
        await gateway.tell()
    await gateway.settled()
    assert {task.state for task in gateway.world.store.tasks.values()} == {TaskState.UNKNOWN}
    assert await gateway.pass_time(3600) == 0


async def test_nothing_due_is_nothing_done(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.settled()
    calls = len(gateway.world.messenger.calls)
    assert await gateway.pass_time(10) == 0
    assert len(gateway.world.messenger.calls) == calls


async def test_a_clock_that_is_turned_back_ends_nothing_early(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    await gateway.pass_time(-600)
    assert gateway.row(task).state is TaskState.ASKED


async def test_a_question_that_a_dead_process_left_unclosed_is_closed(world: World, gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    hang = Hang()
    world.messenger.script(hang, verb="edit")
    await gateway.press("Deploy")
    await hang.arrived.wait()
    await gateway.crash()
    other = world.start()
    await other.pass_time(9)
    assert not gateway.row(task).closed
    await other.pass_time(2)
    assert gateway.row(task).closed
    assert world.messenger.last.buttons == ()


# Running


@pytest.fixture
def clocked(world: World) -> Gateway:
    world.clock = LoopClock()
    return world.start()


async def test_it_wakes_when_a_question_expires(clocked: Gateway) -> None:
    async with clocked.keeping_deadlines():
        task = await clocked.ask(expires_in=60, wait=3600)
    assert task.state is TaskState.EXPIRED
    assert 60 <= passed(clocked) < 61


async def test_it_wakes_for_a_try_that_is_due_sooner_than_it_meant_to(clocked: Gateway) -> None:
    async with clocked.keeping_deadlines():
        await turns()
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell(wait=3600)
    assert task.state is TaskState.SENT
    assert 1 <= passed(clocked) < 1.1


async def test_an_alarm_in_the_middle_of_a_look_is_not_slept_through(clocked: Gateway) -> None:
    held = clocked.world.store.hold("next_deadline")
    async with clocked.keeping_deadlines():
        await held.arrived.wait()
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell()
        await clocked.settled()
        held.released.set()
        await clocked.desk.look(task.id, "ci", 3600)
    assert 1 <= passed(clocked) < 1.1


async def test_an_alarm_in_the_middle_of_a_later_look_is_not_slept_through(clocked: Gateway) -> None:
    async with clocked.keeping_deadlines():
        await turns()
        held = clocked.world.store.hold("next_deadline")
        await held.arrived.wait()
        begun = passed(clocked)
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell()
        await clocked.settled()
        held.released.set()
        await clocked.desk.look(task.id, "ci", 3600)
    assert 1 <= passed(clocked) - begun < 1.1


async def test_a_task_of_another_process_is_found_without_an_alarm(world: World, clocked: Gateway) -> None:
    other = world.start()
    async with clocked.keeping_deadlines():
        await turns()
        world.messenger.script(NOT_REACHED)
        task = await other.tell()
        await other.settled()
        await clocked.desk.look(task.id, "ci", 3600)
    assert clocked.row(task).state is TaskState.SENT
    assert passed(clocked) <= LONGEST_NAP + 0.1


async def test_a_database_that_is_down_is_looked_at_again(
    clocked: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    task = await clocked.ask(expires_in=60)
    await clocked.settled()
    async with clocked.keeping_deadlines():
        await turns()
        clocked.world.store.down = True
        await asyncio.sleep(90)
        assert caplog.text.count("Deadlines could not be looked at: The database cannot be reached") == 1
        assert clocked.world.store.calls["abandoned"] < 200, "It should not keep the process busy."
        caplog.set_level(logging.INFO)
        clocked.world.store.down = False
        await asyncio.sleep(2)
    assert clocked.row(task).state is TaskState.EXPIRED
    assert "Deadlines are looked at again." in caplog.text


async def test_it_is_called_away_without_a_trace(clocked: Gateway) -> None:
    keeping = asyncio.create_task(clocked.timekeeper.run())
    await turns()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


@pytest.mark.parametrize("turn", range(5))
async def test_it_is_called_away_even_as_its_alarm_rings(clocked: Gateway, turn: int) -> None:
    keeping = asyncio.create_task(clocked.timekeeper.run())
    await turns()
    clocked.timekeeper.remember(START)
    await turns(turn)
    keeping.cancel()
    assert await ends(keeping)


async def test_what_was_begun_is_done_however_often_it_is_called_away(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(5))
    task = await gateway.tell()
    await gateway.settled()
    gateway.world.clock.advance(6)
    claiming = gateway.world.store.hold("claim")
    sweeping = asyncio.create_task(gateway.timekeeper.sweep())
    await claiming.arrived.wait()
    for _ in range(3):
        sweeping.cancel()
        await turns()
        assert not sweeping.done()
    claiming.released.set()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT


async def test_what_goes_wrong_while_it_is_called_away_is_nobody_s_riddle(gateway: Gateway) -> None:
    overdue = gateway.world.store.hold("overdue")
    gateway.world.store.lose("overdue")
    sweeping = asyncio.create_task(gateway.timekeeper.sweep())
    await overdue.arrived.wait()
    sweeping.cancel()
    overdue.released.set()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    gc.collect()


async def test_a_clock_that_is_put_back_while_it_looks_does_not_keep_it_asleep(clocked: Gateway) -> None:
    looking = clocked.world.store.hold("next_deadline")
    async with clocked.keeping_deadlines():
        await looking.arrived.wait()
        clocked.world.clock.advance(-600)
        looking.released.set()
        await turns()
        before = clocked.world.store.calls["claim"]
        await asyncio.sleep(2 * LONGEST_NAP)
        assert clocked.world.store.calls["claim"] > before


async def test_with_nothing_to_do_it_looks_now_and_then(clocked: Gateway) -> None:
    async with clocked.keeping_deadlines():
        await asyncio.sleep(60)
    assert 10 <= clocked.world.store.calls["claim"] <= 15


# Forgetting


async def test_finished_tasks_are_forgotten_when_they_are_old_enough(clocked: Gateway) -> None:
    store = clocked.world.store
    for number in range(BATCH + 1):
        await clocked.tell(f"Message {number}")
    await clocked.ask(expires_in=2_592_000)
    await clocked.settled()
    forgetting = asyncio.create_task(forget_finished(store, clocked.world.clock, timedelta(days=30)))
    await asyncio.sleep(29 * 86_400)
    assert len(store.tasks) == BATCH + 2
    await asyncio.sleep(86_400 + 3601)
    assert [task.state for task in store.tasks.values()] == [TaskState.ASKED]
    forgetting.cancel()
    await asyncio.gather(forgetting, return_exceptions=True)


async def test_forgetting_outlasts_a_database_that_is_down(
    clocked: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    store = clocked.world.store
    await clocked.tell(wait=5)
    await clocked.settled()
    forgetting = asyncio.create_task(forget_finished(store, clocked.world.clock, timedelta(days=1)))
    store.down = True
    await asyncio.sleep(2 * 86_400)
    assert "Old tasks could not be deleted" in caplog.text
    store.down = False
    await asyncio.sleep(3601)
    assert store.tasks == {}
    forgetting.cancel()
    await asyncio.gather(forgetting, return_exceptions=True)


def test_the_clock_of_these_tests_shows_utc() -> None:
    assert HandClock().now().tzinfo is UTC


async def test_until_gives_up_when_nothing_happens() -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        await until(lambda: False, turns=10)
