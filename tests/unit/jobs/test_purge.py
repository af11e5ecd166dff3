"""Purging: finished tasks are deleted when they are old enough, and the next round comes by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.jobs.kinds.purge import BATCH, PURGE_EVERY, purge_job
from core.model.transition import TaskState
from tests.fakes.world import Gateway

DAY = timedelta(days=1).total_seconds()
ROUND = PURGE_EVERY.total_seconds()


@pytest.fixture
def purging(gateway: Gateway) -> Gateway:
    """A process that purges what has been finished for thirty days."""
    gateway.scheduler.recurring = (purge_job,)
    return gateway


async def test_finished_tasks_are_deleted_when_they_are_old_enough(purging: Gateway) -> None:
    tasks = purging.world.store.tasks
    for number in range(BATCH + 1):
        await purging.tell(f"Message {number}")
    await purging.ask(expires_in=90 * 86_400)
    await purging.settled()
    for day in range(29):
        await purging.pass_time(DAY)
        assert len(tasks) == BATCH + 2, f"Something is gone after {day + 1} days."
    await purging.pass_time(DAY - 1)
    await purging.pass_time(ROUND)
    assert [task.state for task in tasks.values()] == [TaskState.ASKED]


async def test_the_next_round_comes_an_hour_later_and_is_no_work_that_somebody_asked_for(
    purging: Gateway,
) -> None:
    assert await purging.pass_time(0) == 0
    for rounds in range(1, 4):
        assert purging.world.store.calls["purge"] == rounds
        assert await purging.pass_time(ROUND - 1) == 0
        assert purging.world.store.calls["purge"] == rounds
        assert await purging.pass_time(1) == 0
    assert [job.kind for job in purging.world.store.jobs] == ["purge"]


async def test_two_processes_purge_no_more_often_than_one(purging: Gateway) -> None:
    other = purging.world.start()
    other.scheduler.recurring = (purge_job,)
    for _ in range(3):
        await purging.pass_time(ROUND)
        await other.pass_time(0)
    assert purging.world.store.calls["purge"] == 3
    await other.runner.stop(0)


async def test_purging_outlasts_a_database_that_is_down(
    purging: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    store = purging.world.store
    await purging.tell(wait=5)
    await purging.pass_time(0)
    purging.world.clock.advance(31 * DAY)
    # The database goes away as soon as the timers are claimed: they come last.
    elsewhere, timers = store.hold_back("claim"), store.hold_back("claim")
    elsewhere.released.set()
    claiming = asyncio.create_task(purging.scheduler.claim_due())
    await timers.arrived.wait()
    store.down = True
    timers.released.set()
    await claiming
    await asyncio.sleep(3600)
    assert len(store.tasks) == 1
    assert caplog.text.count("The job cannot run now") == 1
    store.down = False
    await purging.settled()
    await purging.pass_time(1)
    assert dict(store.tasks) == {}
    assert [job.run_at for job in store.jobs] == [purging.world.clock.now() + PURGE_EVERY]
