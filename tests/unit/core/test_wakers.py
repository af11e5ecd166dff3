"""Hints inside one process, and the look at the waiting room for those that got lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from core.model.task import Task, TaskState
from infra.notify import SWEEP_EVERY, SWEEP_EVERY_WITHOUT_HINTS, LocalWaker, sweep_waiting_room
from infra.notify.sweep import ANNOUNCE_EVERY
from tests.fakes.wakers import DeafWaker
from tests.fakes.world import EVE, Gateway, World, turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def sweeping(gateway: Gateway) -> AsyncIterator[asyncio.Task[None]]:
    world = gateway.world
    sweep = asyncio.create_task(sweep_waiting_room(world.store, gateway.room, world.waker))
    try:
        yield sweep
        assert not sweep.done(), "Nobody looks at the waiting room any more."
    finally:
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)
        await gateway.settled()


async def asked(gateway: Gateway, wait: float = 3600) -> asyncio.Task[Task]:
    before = len(gateway.world.messenger.chat)
    asking = asyncio.create_task(gateway.ask(wait=wait))
    await until(lambda: len(gateway.world.messenger.chat) > before)
    await gateway.settled()
    return asking


@pytest.fixture
def deaf() -> Gateway:
    return World(waker=DeafWaker()).start()


def test_a_hint_reaches_every_subscriber_with_every_id() -> None:
    heard: list[tuple[str, list[str]]] = []

    def listener(name: str) -> None:
        def hear(ids: Iterable[str]) -> None:
            heard.append((name, list(ids)))

        waker.subscribe(hear, lambda _ids: None)

    waker = LocalWaker()
    waker.hint(["tsk_0"])
    listener("one")
    listener("other")
    waker.hint(task_id for task_id in ("tsk_1", "tsk_2"))
    assert heard == [("one", ["tsk_1", "tsk_2"]), ("other", ["tsk_1", "tsk_2"])]


def test_a_step_reaches_followers_alone() -> None:
    waker, ends, steps = LocalWaker(), list[str](), list[str]()
    waker.subscribe(ends.extend, steps.extend)
    waker.hint_step(["tsk_1"])
    waker.announce(["tsk_2"])
    assert (ends, steps) == ([], ["tsk_1"])


async def test_inside_one_process_nothing_is_ever_missed() -> None:
    waker = LocalWaker()
    waker.hint(["tsk_0"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waker.missed(), 3600)
    assert waker.trouble is None


async def test_a_lost_hint_costs_at_most_two_seconds(deaf: Gateway) -> None:
    async with sweeping(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
        assert now() == pytest.approx(SWEEP_EVERY)
        assert len(deaf.room) == 0


async def test_while_hints_do_not_arrive_it_looks_four_times_as_often(deaf: Gateway) -> None:
    deaf.world.waker.trouble = "Nobody carries hints today."
    async with sweeping(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
        assert now() == pytest.approx(SWEEP_EVERY_WITHOUT_HINTS)
    assert pytest.approx(SWEEP_EVERY) == 4 * SWEEP_EVERY_WITHOUT_HINTS


async def test_it_looks_at_once_when_hints_may_have_been_missed(deaf: Gateway) -> None:
    async with sweeping(deaf):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        deaf.world.waker.gap.set()
        assert (await asking).state is TaskState.ANSWERED
        assert now() == 0
        await asyncio.sleep(SWEEP_EVERY - 0.01)
        assert deaf.world.store.calls["final_among"] == 1


async def test_an_empty_room_costs_no_query(deaf: Gateway) -> None:
    async with sweeping(deaf):
        await asyncio.sleep(60)
    assert "final_among" not in deaf.world.store.calls


async def test_a_lost_hint_costs_a_follower_at_most_two_seconds(deaf: Gateway) -> None:
    task = await deaf.ask()
    await deaf.settled()
    async with sweeping(deaf), deaf.desk.follow(task.id, "ci") as following:
        await deaf.press("Deploy", by=EVE)
        assert await following.moved_on(3600)
        assert (following.task.state, following.task.steps) == (TaskState.ASKED, task.steps + 2)
        assert now() == pytest.approx(SWEEP_EVERY)
        await deaf.press("Deploy")
        assert await following.moved_on(3600)
        assert following.task.state is TaskState.ANSWERED
        assert now() == pytest.approx(2 * SWEEP_EVERY)


async def test_many_followers_cost_one_query_more_and_one_announcement_in_ten_seconds(deaf: Gateway) -> None:
    tasks = [await deaf.ask() for _ in range(20)]
    await deaf.settled()
    async with AsyncExitStack() as stack:
        for task in tasks:
            await stack.enter_async_context(deaf.desk.follow(task.id, "ci"))
        deaf.world.waker.announced.clear()
        async with sweeping(deaf):
            await asyncio.sleep(ANNOUNCE_EVERY * 2 + 1)
    assert deaf.world.store.calls["steps_among"] == deaf.world.store.calls["final_among"] == 10
    assert sorted(deaf.world.waker.announced) == sorted([task.id for task in tasks] * 2)


async def test_followers_are_announced_at_once_when_hints_may_have_been_missed(deaf: Gateway) -> None:
    task = await deaf.ask()
    await deaf.settled()
    async with sweeping(deaf), deaf.desk.follow(task.id, "ci"):
        await asyncio.sleep(SWEEP_EVERY + 0.1)
        deaf.world.waker.announced.clear()
        deaf.world.waker.gap.set()
        await turns()
        assert deaf.world.waker.announced == [task.id]


async def test_f36_many_waiters_cost_one_query_each_time(deaf: Gateway) -> None:
    asking = [await asked(deaf, wait=9) for _ in range(30)]
    async with sweeping(deaf):
        await asyncio.gather(*asking)
    assert deaf.world.store.calls["final_among"] == 4


async def test_it_outlasts_a_database_that_is_down_and_tells_once_of_each_outage(
    deaf: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with sweeping(deaf):
        asking = await asked(deaf)
        for _ in range(2):
            deaf.world.store.down = True
            await asyncio.sleep(5)
            deaf.world.store.down = False
            await asyncio.sleep(5)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert all("could not be looked at: The database cannot be reached" in sentence for sentence in told)


async def test_it_is_called_away_without_a_trace(deaf: Gateway) -> None:
    sweep = asyncio.create_task(sweep_waiting_room(deaf.world.store, deaf.room, deaf.world.waker))
    await turns()
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
