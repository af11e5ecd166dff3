"""The scheduler: it wakes when something comes due, and each job is claimed by one process alone."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from core.jobs.runner import BATCH, LEASE
from core.jobs.scheduler import LONGEST_SLEEP
from core.model.errors import StorageUnavailable
from core.model.job import EXPIRY_GRACE
from core.model.transition import TaskState
from tests.fakes.clock import START, HandClock
from tests.fakes.messenger import NOT_REACHED, Hang, later
from tests.fakes.world import BEN, GROUP, Gateway, World, ends, turns, until


class LoopClock(HandClock):
    """A clock that shows the loop's time, so that it passes while the scheduler sleeps."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=asyncio.get_running_loop().time())


@pytest.fixture
async def clocked() -> AsyncIterator[Gateway]:
    clocked = World(LoopClock()).start()
    yield clocked
    await clocked.runner.stop(0)


def passed(gateway: Gateway) -> float:
    return (gateway.world.clock.now() - START).total_seconds()


# Claiming


async def test_a_queued_task_is_claimed_by_one_of_two_processes(world: World, gateway: Gateway) -> None:
    world.messenger.script(NOT_REACHED)
    task = await gateway.tell()
    await gateway.settled()
    other = world.start()
    world.clock.advance(1)
    claimed = await asyncio.gather(gateway.scheduler.claim_due(), other.scheduler.claim_due())
    await gateway.settled()
    await other.settled()
    assert sorted(claimed) == [0, 1]
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 2


async def test_a_claimed_task_is_held_by_who_claimed_it(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    task = await gateway.tell()
    await gateway.settled()
    other = world.start()
    world.clock.advance(1)
    await other.scheduler.claim_due()
    [job] = gateway.jobs_of(task)
    assert job.lease is not None
    assert (job.lease.holder, job.lease.until) == (
        other.identity.holder,
        START + timedelta(seconds=1) + LEASE,
    )
    await hang.arrived.wait()
    hang.release()
    await other.settled()


async def test_everything_that_was_due_is_counted(world: World, gateway: Gateway) -> None:
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


async def test_nothing_due_is_nothing_done(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.settled()
    calls = len(gateway.world.messenger.calls)
    assert await gateway.pass_time(10) == 0
    assert len(gateway.world.messenger.calls) == calls


async def test_what_cannot_be_given_up_yet_does_not_keep_it_going(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("The disk is full.")

    for chat in range(1, BATCH + 1):
        gateway.world.messenger.script(NOT_REACHED)
        await gateway.tell(chat=chat, expires_in=5)
    await gateway.settled()
    monkeypatch.setattr(gateway.world.store, "complete", fail)
    gateway.world.clock.advance(60)
    assert await gateway.scheduler.claim_due() == BATCH
    assert gateway.world.store.calls["claim_expired"] == 2
    monkeypatch.undo()
    await gateway.settled()
    assert {task.state for task in gateway.world.store.tasks.values()} == {TaskState.FAILED}


async def test_a_clock_that_was_put_back_leaves_no_lease_to_run_out(world: World, gateway: Gateway) -> None:
    await gateway.scheduler.claim_due()
    world.clock.advance(-600)
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    other = world.start()
    for _ in range(6):
        world.clock.advance(10)
        await gateway.scheduler.claim_due()
        await other.pass_time(0)
    assert gateway.row(task).state is TaskState.SENDING, "Another process has taken it over."
    hang.release()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT


async def test_what_was_begun_is_done_however_often_it_is_called_away(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(5))
    task = await gateway.tell()
    await gateway.settled()
    gateway.world.clock.advance(6)
    claiming = gateway.world.store.hold_back("claim")
    sweeping = asyncio.create_task(gateway.scheduler.claim_due())
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
    claiming = gateway.world.store.hold_back("claim_expired")
    gateway.world.store.lose("claim_expired")
    sweeping = asyncio.create_task(gateway.scheduler.claim_due())
    await claiming.arrived.wait()
    sweeping.cancel()
    claiming.released.set()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    gc.collect()


# Running


async def test_it_wakes_when_a_question_expires(clocked: Gateway) -> None:
    async with clocked.scheduling():
        task = await clocked.ask(expires_in=60, wait=3600)
    assert task.state is TaskState.EXPIRED
    assert 60 <= passed(clocked) < 61


async def test_it_wakes_for_a_try_that_is_due_sooner_than_it_meant_to(clocked: Gateway) -> None:
    async with clocked.scheduling():
        await turns()
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell(wait=3600)
    assert task.state is TaskState.SENT
    assert 1 <= passed(clocked) < 1.1


async def test_what_hangs_in_a_call_past_its_time_is_given_up_although_nothing_else_comes_due(
    clocked: Gateway,
) -> None:
    clocked.world.messenger.script(Hang())
    async with clocked.scheduling():
        task = await clocked.tell(expires_in=5, wait=3600)
    assert task.state is TaskState.UNKNOWN
    assert passed(clocked) <= 5 + (EXPIRY_GRACE + LONGEST_SLEEP).total_seconds()


async def test_an_alarm_in_the_middle_of_a_look_is_not_slept_through(clocked: Gateway) -> None:
    held = clocked.world.store.hold_back("next_due")
    async with clocked.scheduling():
        await held.arrived.wait()
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell()
        await clocked.settled()
        held.released.set()
        await clocked.tasks.look(task.id, "ci", 3600)
    assert 1 <= passed(clocked) < 1.1


async def test_an_alarm_in_the_middle_of_a_later_look_is_not_slept_through(clocked: Gateway) -> None:
    async with clocked.scheduling():
        await turns()
        held = clocked.world.store.hold_back("next_due")
        await held.arrived.wait()
        begun = passed(clocked)
        clocked.world.messenger.script(NOT_REACHED)
        task = await clocked.tell()
        await clocked.settled()
        held.released.set()
        await clocked.tasks.look(task.id, "ci", 3600)
    assert 1 <= passed(clocked) - begun < 1.1


async def test_a_task_of_another_process_is_found_without_an_alarm(clocked: Gateway) -> None:
    other = clocked.world.start()
    async with clocked.scheduling():
        await turns()
        clocked.world.messenger.script(NOT_REACHED)
        task = await other.tell()
        await other.settled()
        await clocked.tasks.look(task.id, "ci", 3600)
    assert clocked.row(task).state is TaskState.SENT
    assert passed(clocked) <= LONGEST_SLEEP.total_seconds() + 0.1


async def test_a_database_that_is_down_is_looked_at_again(
    clocked: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task = await clocked.ask(expires_in=60)
    await clocked.settled()
    async with clocked.scheduling():
        await turns()
        clocked.world.store.down = True
        await asyncio.sleep(90)
        assert caplog.text.count("Scheduler stopped: the database is unavailable") == 1
        assert clocked.world.store.calls["claim_expired"] < 200, "It should not keep the process busy."
        clocked.world.store.down = False
        await asyncio.sleep(2)
    assert clocked.row(task).state is TaskState.EXPIRED
    assert caplog.text.count("Scheduler recovered.") == 1


async def test_it_is_called_away_without_a_trace(clocked: Gateway) -> None:
    running = asyncio.create_task(clocked.scheduler.run())
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("turn", range(5))
async def test_it_is_called_away_even_as_its_alarm_rings(clocked: Gateway, turn: int) -> None:
    running = asyncio.create_task(clocked.scheduler.run())
    await turns()
    clocked.runner.alarm.set(START)
    await turns(turn)
    running.cancel()
    assert await ends(running)


async def test_a_clock_that_is_put_back_while_it_looks_does_not_keep_it_asleep(clocked: Gateway) -> None:
    looking = clocked.world.store.hold_back("next_due")
    async with clocked.scheduling():
        await looking.arrived.wait()
        clocked.world.clock.advance(-600)
        looking.released.set()
        await turns()
        before = clocked.world.store.calls["claim_expired"]
        await asyncio.sleep(2 * LONGEST_SLEEP.total_seconds())
        assert clocked.world.store.calls["claim_expired"] > before


async def test_with_nothing_to_do_it_looks_now_and_then(clocked: Gateway) -> None:
    async with clocked.scheduling():
        await asyncio.sleep(60)
    assert 10 <= clocked.world.store.calls["claim_expired"] <= 15


# What these tests stand on


def test_the_clock_of_these_tests_shows_utc() -> None:
    assert HandClock().now().tzinfo is UTC


async def test_until_gives_up_when_nothing_happens() -> None:
    with pytest.raises(AssertionError, match="did not happen"):
        await until(lambda: False, turns=10)
