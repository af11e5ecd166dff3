"""Whatever is done to the machine's clock: nothing comes due early, and nothing is held up for ever."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from core.jobs.kinds.purge import purge_job
from core.jobs.runner import LEASE
from core.jobs.scheduler import LONGEST_SLEEP
from core.model.transition import TaskState
from infra.observability.clock import SystemClock
from tests.fakes.clock import HandClock
from tests.fakes.machine import HOUR, TEN_MINUTES, Machine
from tests.fakes.messenger import Hang, later
from tests.fakes.world import Gateway, World, turns

either_way = pytest.mark.parametrize("jump", [TEN_MINUTES, -TEN_MINUTES], ids=["ahead", "back"])


class MachineClock(HandClock):
    """The clock of a process on a machine; it stands still until time passes there."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._clock: SystemClock = machine.clock()

    def now(self) -> datetime:
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        self._machine.pass_time(seconds)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def world(machine: Machine) -> World:
    return World(clock=MachineClock(machine))


@either_way
async def test_a_question_expires_when_its_time_is_over_and_not_when_the_clock_says_so(
    machine: Machine, gateway: Gateway, jump: float
) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    machine.set_by(jump)
    assert await gateway.pass_time(59) == 0
    assert gateway.row(task).state is TaskState.ASKED
    assert await gateway.pass_time(1) == 1
    assert gateway.row(task).state is TaskState.EXPIRED


@either_way
async def test_a_lease_protects_as_long_as_it_should_and_no_longer(
    machine: Machine, world: World, gateway: Gateway, jump: float
) -> None:
    world.messenger.script(Hang())
    task = await gateway.tell()
    await turns()
    await gateway.crash()
    other = world.start()
    machine.set_by(jump)
    assert await other.pass_time(LEASE.total_seconds() - 1) == 0
    assert other.row(task).state is TaskState.SENDING
    assert await other.pass_time(1) == 1
    assert other.row(task).state is TaskState.UNKNOWN


@either_way
async def test_a_pause_is_kept_and_ends(
    machine: Machine, world: World, gateway: Gateway, jump: float
) -> None:
    world.messenger.script(later(40))
    task = await gateway.tell()
    await gateway.settled()
    machine.set_by(jump)
    assert await gateway.pass_time(39) == 0
    assert len(gateway.said()) == 1
    await gateway.pass_time(5)
    assert gateway.row(task).state is TaskState.SENT


async def test_nothing_is_purged_because_somebody_has_set_the_clock(
    machine: Machine, world: World, gateway: Gateway
) -> None:
    await gateway.tell()
    await gateway.settled()
    machine.set_by(timedelta(days=40).total_seconds())
    await world.store.put([purge_job(world.clock.now())])
    await gateway.pass_time(1)
    assert world.store.calls["purge"] == 1
    assert len(world.store.tasks) == 1


@either_way
async def test_what_people_read_comes_from_the_same_clock(
    machine: Machine, gateway: Gateway, jump: float
) -> None:
    before = await gateway.tell()
    machine.set_by(jump)
    machine.pass_time(1)
    after = await gateway.tell()
    assert after.created_at - before.created_at == timedelta(seconds=1)


async def test_after_an_hour_of_sleep_the_scheduler_runs_what_came_due_when_it_wakes(
    machine: Machine, world: World, gateway: Gateway
) -> None:
    longest_sleep = LONGEST_SLEEP.total_seconds()
    async with gateway.scheduling():
        world.messenger.script(later(40))
        waiting = await gateway.tell(chat=815)
        asked = await gateway.ask(chat=816, expires_in=1800)
        await gateway.settled()
        await asyncio.sleep(2 * longest_sleep)
        assert gateway.row(asked).state is TaskState.ASKED
        # The loop's own timers stand still while the machine sleeps: they know nothing of this hour.
        machine.pass_time(HOUR - 1)
        await asyncio.sleep(longest_sleep + 0.1)
        await gateway.settled()
        assert gateway.row(asked).state is TaskState.EXPIRED
    assert gateway.row(waiting).state is TaskState.SENT


async def test_after_an_hour_of_sleep_a_send_that_was_under_way_is_still_this_process_s_own(
    machine: Machine, world: World, gateway: Gateway
) -> None:
    hang = Hang()
    world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    machine.pass_time(HOUR - 1)
    # Its lease has run out, and it claims it from itself: nothing is sent again, nothing given up.
    await gateway.scheduler.claim_due()
    hang.release()
    await gateway.settled()
    assert gateway.row(task).state is TaskState.SENT
    assert len(gateway.said()) == 1
