"""A sweep on demand: everything that is due is done when it returns, and nothing is done twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.cluster.heartbeat import Heartbeat
from core.cluster.leader import Leadership
from core.cluster.outage import OUTAGE, Outages
from core.cluster.sweep import Sweep
from core.jobs.kinds.purge import purge_job
from core.jobs.runner import LEASE
from core.jobs.scheduler import LONGEST_SWEEP
from core.model.cluster import Outage
from core.model.errors import StorageUnavailable
from core.model.job import EXPIRY_GRACE
from core.model.transition import TaskState
from tests.fakes.clock import START
from tests.fakes.messenger import BLOCKED, NOT_REACHED, Hang, later
from tests.fakes.world import ADA, BEN, GROUP, Gateway, World, turns

ENDED = Outage(START - timedelta(seconds=200), START)


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_with_nothing_due_nothing_is_done_and_nobody_waits(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.settled()
    before = loop_time()
    assert await gateway.scheduler.sweep() == 0
    assert loop_time() == before


async def test_what_is_due_is_done_to_its_end(world: World, gateway: Gateway) -> None:
    asked = await gateway.ask("Deploy?", expires_in=60)
    await gateway.settled()
    slow_send, slow_edit = Hang(), Hang()
    world.messenger.script(NOT_REACHED, slow_send)
    world.messenger.script(slow_edit, verb="edit")
    told = await gateway.tell(chat=BEN.id)
    await gateway.settled()
    world.clock.advance(60)
    loop = asyncio.get_running_loop()
    loop.call_later(3, slow_send.release)
    loop.call_later(4, slow_edit.release)
    before = loop_time()
    assert await gateway.scheduler.sweep() == 2
    # Not begun, but done: the process may be frozen as soon as the sweep has returned.
    assert 4 <= loop_time() - before < 5
    assert gateway.row(told).state is TaskState.SENT
    assert (gateway.row(asked).state, gateway.is_closed(asked)) == (TaskState.EXPIRED, True)


async def test_what_follows_from_what_was_due_is_done_too(world: World, gateway: Gateway) -> None:
    world.messenger.script(Hang())
    lost = await gateway.ask(expires_in=60)
    behind = await gateway.tell("behind it")
    await turns()
    await gateway.crash()
    other = world.start()
    world.clock.advance(60 + EXPIRY_GRACE.total_seconds())
    assert await other.scheduler.sweep() == 1
    assert other.row(lost).state is TaskState.EXPIRED
    assert other.row(behind).state is TaskState.SENT


async def test_more_than_there_is_room_for_is_done_all_the_same(world: World, gateway: Gateway) -> None:
    number = 150
    world.messenger.script(*[NOT_REACHED] * number)
    for person in range(1, number + 1):
        await gateway.tell(chat=person)
    await gateway.settled()
    world.clock.advance(1)
    assert await gateway.scheduler.sweep() == number
    assert {task.state for task in world.store.tasks.values()} == {TaskState.SENT}


async def test_a_telegram_that_hangs_is_waited_for_no_longer_than_one_call_may_take(
    world: World, gateway: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    before = loop_time()
    assert await gateway.scheduler.sweep() == 1
    assert LONGEST_SWEEP <= loop_time() - before < LONGEST_SWEEP + 1
    hang.release()


async def test_a_sweep_in_a_process_that_ends_waits_for_nothing(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    sweeping = asyncio.create_task(gateway.scheduler.sweep())
    await hang.arrived.wait()
    before = loop_time()
    stopping = asyncio.create_task(gateway.runner.stop(10))
    assert await sweeping == 1
    assert loop_time() - before < 1
    hang.release()
    await stopping


async def test_work_that_begins_meanwhile_is_not_waited_for_for_ever(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    sweeping = asyncio.create_task(gateway.scheduler.sweep(patience=5))
    await gateway.settled()
    world.messenger.script(hang)
    await gateway.tell(chat=GROUP)
    before = loop_time()
    assert await sweeping == 1
    assert loop_time() - before <= 5.5
    hang.release()


async def test_two_sweeps_at_once_do_nothing_twice(world: World, gateway: Gateway) -> None:
    other = world.start()
    world.messenger.script(*[NOT_REACHED] * 3)
    for chat in (ADA.id, BEN.id, GROUP):
        await gateway.tell(chat=chat)
    await gateway.settled()
    world.clock.advance(1)
    schedulers = (gateway.scheduler, gateway.scheduler, other.scheduler)
    assert sum(await asyncio.gather(*(scheduler.sweep() for scheduler in schedulers))) == 3
    assert [len(world.messenger.delivered("Hello")), len(world.messenger.of("send"))] == [3, 6]


async def test_what_telegram_puts_off_again_ends_the_sweep(world: World, gateway: Gateway) -> None:
    world.messenger.script(NOT_REACHED, later(30), BLOCKED)
    task = await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    assert await gateway.scheduler.sweep() == 1
    assert gateway.row(task).state is TaskState.QUEUED
    world.clock.advance(31)
    assert await gateway.scheduler.sweep() == 1
    assert gateway.row(task).state is TaskState.FAILED


async def test_old_tasks_are_deleted_and_that_is_nothing_which_was_due(
    world: World, gateway: Gateway
) -> None:
    gateway.scheduler.recurring = (purge_job,)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(timedelta(days=29).total_seconds())
    young = await gateway.tell()
    await gateway.settled()
    assert await gateway.scheduler.sweep() == 0
    assert len(world.store.tasks) == 2
    world.clock.advance(timedelta(days=2).total_seconds())
    assert await gateway.scheduler.sweep() == 0
    assert list(world.store.tasks) == [young.id]


async def test_a_database_that_is_down_is_told_to_whoever_asked(world: World, gateway: Gateway) -> None:
    world.store.down = True
    with pytest.raises(StorageUnavailable):
        await gateway.scheduler.sweep()
    world.store.down = False


# Open questions after an outage


async def test_questions_that_ask_for_another_tap_are_due_and_are_waited_for(
    world: World, gateway: Gateway
) -> None:
    tasks = [await gateway.ask(chat=person.id) for person in (ADA, BEN)]
    await gateway.settled()
    hang = Hang()
    world.messenger.script(hang, verb="edit")
    await world.store.reprompt(ENDED)
    asyncio.get_running_loop().call_later(3, hang.release)
    before = loop_time()
    assert await gateway.scheduler.sweep() == 2
    assert 3 <= loop_time() - before < 4
    assert [world.store.steps_of(task.id)[-1] for task in tasks] == ["rearmed"] * 2


async def test_one_that_takes_too_long_is_left_to_whoever_comes_next(world: World, gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    world.messenger.script(Hang(), verb="edit")
    await world.store.reprompt(ENDED)
    before = loop_time()
    assert await gateway.scheduler.sweep(patience=5) == 1
    assert 5 <= loop_time() - before < 6
    await gateway.crash()
    other = world.start()
    world.clock.advance(LEASE.total_seconds())
    assert await other.scheduler.sweep() == 1
    assert world.store.steps_of(task.id)[-1] == "rearmed"


async def test_a_sweep_after_an_outage_lets_open_questions_ask_for_another_tap(
    world: World, gateway: Gateway
) -> None:
    heartbeat = Heartbeat(
        store=world.store,
        clock=world.clock,
        leadership=Leadership(holder=gateway.identity.holder),
        outages=Outages(store=world.store, alarm=gateway.runner.alarm),
    )
    sweep = Sweep(heartbeat=heartbeat, scheduler=gateway.scheduler)
    assert await sweep.run() == 0
    task = await gateway.ask()
    await gateway.settled()
    world.clock.advance(OUTAGE.total_seconds() + 1)
    assert await sweep.run() == 1
    assert world.store.steps_of(task.id)[-1] == "rearmed"
    world.store.down = True
    with pytest.raises(StorageUnavailable):
        await sweep.run()
    world.store.down = False


# What a process leaves behind


async def test_what_was_being_sent_is_taken_over_whatever_its_lease_says(
    world: World, gateway: Gateway
) -> None:
    world.messenger.script(Hang(), Hang())
    told = await gateway.tell()
    asked = await gateway.ask(chat=BEN.id)
    await turns()
    await gateway.crash()
    # The clock was ten minutes ahead, and is right since the restart.
    world.clock.advance(-600)
    other = world.start()
    assert await other.pass_time(1) == 0
    await other.scheduler.take_over()
    await other.pass_time(0)
    assert [other.row(task).state for task in (told, asked)] == [TaskState.UNKNOWN, TaskState.ASKED]
    assert len(world.messenger.delivered("Hello")) == 0, "A message is never silently sent twice."


async def test_nothing_else_is_taken_over(world: World, gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.settled()
    world.messenger.script(later(50))
    waiting = await gateway.tell(chat=BEN.id)
    await gateway.settled()
    await gateway.crash()
    other = world.start()
    await other.scheduler.take_over()
    await other.pass_time(0)
    assert other.row(waiting).state is TaskState.QUEUED
    assert len(other.said()) == 2


async def test_a_database_that_is_busy_at_the_start_costs_time_only(
    world: World, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    world.messenger.script(Hang())
    task = await gateway.tell()
    await turns()
    await gateway.crash()
    other = world.start()
    world.store.down = True
    await other.scheduler.take_over()
    world.store.down = False
    assert "are claimed when their leases have run out" in caplog.text
    await other.pass_time(LEASE.total_seconds() + 1)
    assert other.row(task).state is TaskState.UNKNOWN
