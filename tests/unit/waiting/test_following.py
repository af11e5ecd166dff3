"""Following a task: each of its steps is told, and only steps, to its end and not beyond."""

from __future__ import annotations

import asyncio

import pytest

from core.model.errors import NotFound, StorageUnavailable
from core.model.transition import TaskState
from core.waiting.following import Following
from tests.fakes.messenger import NOT_REACHED, UNCLEAR, Hang
from tests.fakes.notifier import DeafNotifier
from tests.fakes.world import EVE, Gateway, World, turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


async def states(following: Following) -> list[str]:
    """What it is told until it is over."""
    told = [following.task.state.value]
    while not following.over and await following.moved_on(now() + 3600):
        if following.task.state != told[-1]:
            told.append(following.task.state.value)
    return told


async def test_every_state_is_told_to_the_answer_without_waiting(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    async with gateway.tasks.follow(task.id, "ci") as following:
        telling = asyncio.create_task(states(following))
        await hang.arrived.wait()
        hang.release()
        await gateway.settled()
        await gateway.press("Deploy")
        assert await telling == ["sending", "asked", "answered"]
        assert following.task == gateway.row(task)
    assert now() == 0, "Something was found by polling, and not by a hint."
    assert len(gateway.room) == 0


async def test_a_task_that_waits_and_is_tried_again_is_told_each_time(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang, NOT_REACHED)
    first, second = await gateway.tell("One"), await gateway.tell("Two")
    assert second.state is TaskState.QUEUED
    async with gateway.tasks.follow(second.id, "ci") as following:
        telling = asyncio.create_task(states(following))
        await hang.arrived.wait()
        hang.release()
        await gateway.settled()
        await gateway.pass_time(60)
        assert await telling == ["queued", "sending", "queued", "sending", "sent"]
    assert gateway.row(first).final
    assert now() == 0


async def test_an_unclear_try_is_told_with_its_reason(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    task = await gateway.ask()
    async with gateway.tasks.follow(task.id, "ci") as following:
        assert await following.moved_on(60)
        assert following.task.state is TaskState.SENDING
        assert following.task.error is not None
    await gateway.settled()


async def test_a_stranger_s_tap_is_a_step_too(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    async with gateway.tasks.follow(task.id, "ci") as following:
        before = following.task
        await gateway.press("Deploy", by=EVE)
        assert await following.moved_on(60)
        assert following.task == before
        assert following.task.steps == before.steps + 1


async def test_nothing_to_tell_is_told_at_the_deadline(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    async with gateway.tasks.follow(task.id, "ci") as following:
        assert await following.moved_on(15) is False
        assert now() == pytest.approx(15)
        assert not following.over
        await gateway.press("Deploy")
        assert await following.moved_on(30) is True
        assert following.over


async def test_the_end_of_the_process_is_the_end_of_it_at_once(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    async with gateway.tasks.follow(task.id, "ci") as following:
        moving = asyncio.create_task(following.moved_on(3600))
        await turns()
        reads = gateway.world.store.calls["find"]
        gateway.room.close()
        assert await moving is False
        assert following.over
        assert gateway.world.store.calls["find"] == reads, "Two thousand reads would take their time."
    async with gateway.tasks.follow(task.id, "ci") as late:
        assert late.over
        assert late.task == gateway.row(task)
    assert now() == 0


async def test_nobody_follows_another_service_s_task(gateway: Gateway) -> None:
    task = await gateway.ask()
    for task_id, service in ((task.id, "billing"), ("tsk_nothing at all\n", "ci")):
        with pytest.raises(NotFound):
            async with gateway.tasks.follow(task_id, service):
                pass
    assert len(gateway.room) == 0
    await gateway.settled()


async def test_a_step_between_the_first_look_and_the_first_wait_is_told(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    held = gateway.world.store.hold_back("find")

    async def follow() -> TaskState:
        async with gateway.tasks.follow(task.id, "ci") as following:
            assert following.task.state is TaskState.ASKED
            assert await following.moved_on(3600)
            return following.task.state

    told = asyncio.create_task(follow())
    await held.arrived.wait()
    await gateway.press("Deploy")
    held.released.set()
    assert await told is TaskState.ANSWERED
    assert now() == 0


async def test_a_database_that_is_down_for_a_while_does_not_end_it(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    async with gateway.tasks.follow(task.id, "ci") as following:
        moving = asyncio.create_task(following.moved_on(3600))
        await turns()
        gateway.world.store.down = True
        gateway.room.wake([task.id])
        await turns(50)
        gateway.world.store.down = False
        assert not moving.done()
        # The hint was used up in vain; polling finds what it was about.
        gateway.world.store.tasks[task.id] = gateway.row(task).after_step()
        await gateway.sweep_room()
        assert await moving is True


async def test_a_database_that_is_down_at_the_beginning_is_told(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    gateway.world.store.down = True
    with pytest.raises(StorageUnavailable):
        async with gateway.tasks.follow(task.id, "ci"):
            pass
    gateway.world.store.down = False
    assert len(gateway.room) == 0


async def test_without_hints_polling_finds_steps_that_were_not_seen_and_wakes_nobody_else() -> None:
    gateway = World(notifier=DeafNotifier()).start()
    seen, unseen = await gateway.ask("One?"), await gateway.ask("Two?")
    await gateway.settled()
    async with gateway.tasks.follow(seen.id, "ci") as one, gateway.tasks.follow(unseen.id, "ci") as other:
        moving = [asyncio.create_task(each.moved_on(3600)) for each in (one, other)]
        await turns()
        reads = gateway.world.store.calls["find"]
        gateway.world.store.tasks[unseen.id] = gateway.row(unseen).after_step()
        await gateway.sweep_room()
        await until(moving[1].done)
        assert gateway.world.store.calls["find"] == reads + 1
        assert not moving[0].done()
        moving[0].cancel()
        await asyncio.gather(*moving, return_exceptions=True)


async def test_a_follower_who_is_called_away_leaves_a_free_seat(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()

    async def follow() -> None:
        async with gateway.tasks.follow(task.id, "ci") as following:
            await following.moved_on(3600)

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    await until(lambda: len(gateway.room) == 3)
    for follower in followers[:2]:
        follower.cancel()
    await asyncio.gather(*followers[:2], return_exceptions=True)
    assert gateway.room.task_ids == [task.id]
    followers[2].cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    assert gateway.room.task_ids == []
