"""A sweep on demand: everything that is due is done when it returns, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta

import pytest

from core.jobs.sweep import LONGEST_SWEEP, Sweep
from core.model.errors import StorageUnavailable
from core.model.task import TaskState
from tests.fakes.messenger import BLOCKED, NOT_REACHED, Hang, later
from tests.fakes.world import ADA, BEN, GROUP, Gateway, World, nothing_to_rearm, turns

KEEP = timedelta(days=30)


def sweep_of(gateway: Gateway, rearm: Callable[[], Coroutine[object, object, int]] | None = None) -> Sweep:
    return Sweep(gateway.timekeeper, KEEP, rearm or nothing_to_rearm)


async def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_with_nothing_due_nothing_is_done_and_nobody_waits(gateway: Gateway) -> None:
    await gateway.ask()
    await gateway.settled()
    before = await loop_time()
    assert await sweep_of(gateway).run() == 0
    assert await loop_time() == before


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
    before = await loop_time()
    assert await sweep_of(gateway).run() == 2
    # Not begun, but done: the process may be frozen as soon as the sweep has returned.
    assert 4 <= await loop_time() - before < 5
    assert gateway.row(told).state is TaskState.SENT
    assert (gateway.row(asked).state, gateway.row(asked).closed) == (TaskState.EXPIRED, True)


async def test_what_follows_from_what_was_due_is_done_too(world: World, gateway: Gateway) -> None:
    world.messenger.script(Hang())
    lost = await gateway.ask(expires_in=60)
    await turns()
    await gateway.crash()
    other = world.start()
    world.clock.advance(60)
    assert await sweep_of(other).run() == 1
    assert other.row(lost).state is TaskState.EXPIRED


async def test_more_than_there_is_room_for_is_done_all_the_same(world: World, gateway: Gateway) -> None:
    number = 150
    world.messenger.script(*[NOT_REACHED] * number)
    for person in range(1, number + 1):
        await gateway.tell(chat=person)
    await gateway.settled()
    world.clock.advance(1)
    assert await sweep_of(gateway).run() == number
    assert {task.state for task in world.store.tasks.values()} == {TaskState.SENT}


async def test_a_telegram_that_hangs_is_waited_for_no_longer_than_one_call_may_take(
    world: World, gateway: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    before = await loop_time()
    assert await sweep_of(gateway).run() == 1
    assert LONGEST_SWEEP <= await loop_time() - before < LONGEST_SWEEP + 1
    hang.release()


async def test_a_sweep_that_shall_hurry_waits_for_nothing(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED, hang)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    sweep = sweep_of(gateway)
    sweeping = asyncio.create_task(sweep.run())
    await hang.arrived.wait()
    before = await loop_time()
    sweep.hurried = True
    assert await sweeping == 1
    assert await loop_time() - before < 1
    hang.release()


async def test_work_that_begins_meanwhile_is_not_waited_for_for_ever(world: World, gateway: Gateway) -> None:
    hang = Hang()
    world.messenger.script(NOT_REACHED)
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    sweeping = asyncio.create_task(sweep_of(gateway).run(patience=5))
    await gateway.settled()
    world.messenger.script(hang)
    await gateway.tell(chat=GROUP)
    before = await loop_time()
    assert await sweeping == 1
    assert await loop_time() - before <= 5.5
    hang.release()


async def test_two_sweeps_at_once_do_nothing_twice(world: World, gateway: Gateway) -> None:
    other = world.start()
    world.messenger.script(*[NOT_REACHED] * 3)
    for chat in (ADA.id, BEN.id, GROUP):
        await gateway.tell(chat=chat)
    await gateway.settled()
    world.clock.advance(1)
    sweeps = (sweep_of(gateway), sweep_of(gateway), sweep_of(other))
    assert sum(await asyncio.gather(*(sweep.run() for sweep in sweeps))) == 3
    assert [len(world.messenger.delivered("Hello")), len(world.messenger.of("send"))] == [3, 6]


async def test_what_telegram_puts_off_again_ends_the_sweep(world: World, gateway: Gateway) -> None:
    world.messenger.script(NOT_REACHED, later(30), BLOCKED)
    task = await gateway.tell()
    await gateway.settled()
    world.clock.advance(1)
    assert await sweep_of(gateway).run() == 1
    assert gateway.row(task).state is TaskState.QUEUED
    world.clock.advance(31)
    assert await sweep_of(gateway).run() == 1
    assert gateway.row(task).state is TaskState.FAILED


async def test_old_tasks_are_forgotten_and_counted(world: World, gateway: Gateway) -> None:
    await gateway.tell()
    await gateway.settled()
    world.clock.advance(timedelta(days=29).total_seconds())
    young = await gateway.tell()
    await gateway.settled()
    world.clock.advance(timedelta(days=2).total_seconds())
    assert await sweep_of(gateway).run() == 1
    assert list(world.store.tasks) == [young.id]
    assert await sweep_of(gateway).run() == 0


async def test_a_database_that_is_down_is_told_to_whoever_asked(world: World, gateway: Gateway) -> None:
    world.store.down = True
    with pytest.raises(StorageUnavailable):
        await sweep_of(gateway).run()
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
    await sweep_of(other).inherit()
    await other.settled()
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
    await sweep_of(other).inherit()
    await other.settled()
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
    await sweep_of(other).inherit()
    world.store.down = False
    assert "is taken up when its leases have run out" in caplog.text
    await other.pass_time(31)
    assert other.row(task).state is TaskState.UNKNOWN


async def test_questions_that_wait_to_be_rearmed_are_due_and_are_waited_for(gateway: Gateway) -> None:
    async def two() -> int:
        await asyncio.sleep(3)
        return 2

    before = await loop_time()
    assert await sweep_of(gateway, two).run() == 2
    assert 3 <= await loop_time() - before < 4


async def test_rearming_that_takes_too_long_is_left_to_whoever_comes_next(gateway: Gateway) -> None:
    ended: list[str] = []

    async def endless() -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")
        return 1

    before = await loop_time()
    assert await sweep_of(gateway, endless).run(patience=5) == 0
    assert 5 <= await loop_time() - before < 6
    assert ended == ["cancelled"]


async def test_a_database_that_cannot_tell_what_is_to_be_rearmed_is_told_of(gateway: Gateway) -> None:
    async def down() -> int:
        raise StorageUnavailable("The database cannot be reached.")

    with pytest.raises(StorageUnavailable):
        await sweep_of(gateway, down).run()
