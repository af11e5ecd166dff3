"""Hints inside one process, and the look at the waiting room for those that got lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from core.tasks import Task, TaskState
from infra.wakers import SWEEP_EVERY, LocalWaker, sweep_waiting_room
from tests.fakes.wakers import DeafWaker
from tests.fakes.world import Gateway, World, turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def sweeping(gateway: Gateway, interval: float) -> AsyncIterator[asyncio.Task[None]]:
    sweep = asyncio.create_task(sweep_waiting_room(gateway.world.store, gateway.room, interval))
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

        waker.subscribe(hear)

    waker = LocalWaker()
    waker.hint(["tsk_0"])
    listener("one")
    listener("other")
    waker.hint(task_id for task_id in ("tsk_1", "tsk_2"))
    assert heard == [("one", ["tsk_1", "tsk_2"]), ("other", ["tsk_1", "tsk_2"])]


async def test_a_lost_hint_costs_at_most_the_interval(deaf: Gateway) -> None:
    async with sweeping(deaf, 0.5):
        asking = await asked(deaf)
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED
        assert now() == pytest.approx(0.5)
        assert len(deaf.room) == 0


async def test_an_empty_room_costs_no_query(deaf: Gateway) -> None:
    async with sweeping(deaf, SWEEP_EVERY):
        await asyncio.sleep(60)
    assert "final_among" not in deaf.world.store.calls


async def test_many_waiters_cost_one_query_each_time(deaf: Gateway) -> None:
    asking = [await asked(deaf, wait=9) for _ in range(30)]
    async with sweeping(deaf, SWEEP_EVERY):
        await asyncio.gather(*asking)
    assert deaf.world.store.calls["final_among"] == 4


async def test_it_outlasts_a_database_that_is_down(deaf: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    async with sweeping(deaf, SWEEP_EVERY):
        asking = await asked(deaf)
        deaf.world.store.down = True
        await asyncio.sleep(5)
        assert "could not be looked at: The database cannot be reached" in caplog.text
        deaf.world.store.down = False
        await deaf.press("Deploy")
        assert (await asking).state is TaskState.ANSWERED


async def test_it_is_called_away_without_a_trace(deaf: Gateway) -> None:
    sweep = asyncio.create_task(sweep_waiting_room(deaf.world.store, deaf.room, SWEEP_EVERY))
    await turns()
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
