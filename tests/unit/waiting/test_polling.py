"""Polling for what is waited for: a hint that got lost costs time, never an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from core.model.task import Task
from core.model.transition import TaskState
from core.waiting.polling import POLL_EVERY, POLL_EVERY_WITHOUT_HINTS, poll_waiting_room
from tests.fakes.notifier import DeafNotifier
from tests.fakes.world import EVE, Gateway, World, turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def polling(gateway: Gateway) -> AsyncIterator[None]:
    world = gateway.world
    poll = asyncio.create_task(poll_waiting_room(world.store, gateway.room, world.notifier))
    try:
        yield
        assert not poll.done(), "Polling has stopped."
    finally:
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        await gateway.settled()


async def asked(gateway: Gateway, wait: float = 3600) -> asyncio.Task[Task]:
    before = len(gateway.world.messenger.chat)
    asking = asyncio.create_task(gateway.ask(wait=wait))
    await until(lambda: len(gateway.world.messenger.chat) > before)
    await gateway.settled()
    return asking


@pytest.fixture
def deaf() -> Gateway:
    return World(notifier=DeafNotifier()).start()


async def test_a_lost_hint_costs_at_most_two_seconds(deaf: Gateway) -> None:
    async with polling(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
        assert now() == pytest.approx(POLL_EVERY)
        assert len(deaf.room) == 0


async def test_while_hints_do_not_arrive_it_polls_four_times_as_often(deaf: Gateway) -> None:
    deaf.world.notifier.trouble = "LISTEN connection failed."
    async with polling(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
        assert now() == pytest.approx(POLL_EVERY_WITHOUT_HINTS)
    assert pytest.approx(POLL_EVERY) == 4 * POLL_EVERY_WITHOUT_HINTS


async def test_it_polls_at_once_when_hints_may_have_been_missed(deaf: Gateway) -> None:
    async with polling(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        deaf.world.notifier.gap.set()
        assert (await asking).state is TaskState.ANSWERED
        assert now() == 0
        await asyncio.sleep(POLL_EVERY - 0.01)
        assert deaf.world.store.calls["progress"] == 1


async def test_an_empty_room_costs_no_query(deaf: Gateway) -> None:
    async with polling(deaf):
        await asyncio.sleep(60)
    assert "progress" not in deaf.world.store.calls


async def test_a_lost_hint_costs_a_follower_at_most_two_seconds(deaf: Gateway) -> None:
    task = await deaf.ask()
    await deaf.settled()
    async with polling(deaf), deaf.tasks.follow(task.id, "ci") as following:
        await deaf.press("Deploy", by=EVE)
        assert await following.moved_on(3600)
        assert (following.task.state, following.task.steps) == (TaskState.ASKED, task.steps + 2)
        assert now() == pytest.approx(POLL_EVERY)
        await deaf.press("Deploy")
        assert await following.moved_on(3600)
        assert following.task.state is TaskState.ANSWERED
        assert now() == pytest.approx(2 * POLL_EVERY)


async def test_many_waiters_and_followers_cost_one_query_each_time(deaf: Gateway) -> None:
    asking = [await asked(deaf, wait=9) for _ in range(30)]
    tasks = [await deaf.ask() for _ in range(20)]
    await deaf.settled()
    async with AsyncExitStack() as stack:
        for task in tasks:
            await stack.enter_async_context(deaf.tasks.follow(task.id, "ci"))
        async with polling(deaf):
            await asyncio.gather(*asking)
    assert deaf.world.store.calls["progress"] == 4


async def test_it_outlasts_a_database_that_is_down_and_tells_once_of_each_outage(
    deaf: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "telegate.waiting")
    async with polling(deaf):
        asking = await asked(deaf)
        for _ in range(2):
            deaf.world.store.down = True
            await asyncio.sleep(5)
            deaf.world.store.down = False
            await asyncio.sleep(5)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
    told = [record for record in caplog.records if record.name == "telegate.waiting"]
    assert [vars(record)["action"] for record in told] == ["sweep_failed", "sweep_well"] * 2
    assert "Polling for waiting requests failed: The database cannot be reached" in told[0].getMessage()


async def test_it_is_called_away_without_a_trace(deaf: Gateway) -> None:
    poll = asyncio.create_task(poll_waiting_room(deaf.world.store, deaf.room, deaf.world.notifier))
    await turns()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
