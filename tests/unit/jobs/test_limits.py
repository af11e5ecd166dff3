"""Nobody calls faster than Telegram likes, the urgent go first, and every service gets its turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from core.jobs.limits import (
    BOT_BURST,
    FRESH,
    GROUP,
    IN_MEMORY,
    LONGEST_SLEEP,
    LONGEST_TURN,
    PER_SERVICE,
    PRIVATE,
    REFRESH_EVERY,
    SOON,
    Backlog,
    Bucket,
    Holds,
    Limits,
    Rate,
    RateLimiter,
)
from core.model.errors import Overloaded, RateLimited
from core.model.job import TELEGRAM, Job, Lane, Priority
from tests.fakes.clock import START, HandClock
from tests.fakes.store import MemoryStore
from tests.fakes.world import ADA, BEN, EVE
from tests.fakes.world import GROUP as OPS

LANE, OTHER, THIRD = str(ADA.id), str(BEN.id), str(EVE.id)


def now() -> float:
    return asyncio.get_running_loop().time()


def after(seconds: float) -> datetime:
    """A time by the hand-moved clock."""
    return START + timedelta(seconds=seconds)


@pytest.fixture
def rate() -> RateLimiter:
    return RateLimiter(30, now)


@pytest.fixture
def lanes() -> Iterator[str]:
    return map(str, range(1, 100_000))


def has_slot(rate: RateLimiter, service: str) -> bool:
    with rate.slot_for(service) as slot:
        return slot.reserved


async def use_up(rate: RateLimiter, lanes: Iterator[str]) -> None:
    """Let the bot make its burst, so that everybody who comes now has to wait."""
    for _ in range(BOT_BURST):
        await rate.turn(next(lanes), "flood", Priority.NORMAL)


# How often


def test_a_bucket_allows_a_burst_and_then_a_steady_rate() -> None:
    bucket = Bucket(Rate(2.0, 3))
    for left in (3, 2, 1):
        assert (bucket.delay(100.0), bucket.left(100.0)) == (0, left)
        bucket.spend(100.0)
    assert (bucket.delay(100.0), bucket.left(100.0)) == (2.0, 0)
    assert bucket.delay(101.5) == 0.5
    assert bucket.delay(102.0) == 0
    assert not bucket.is_idle(105.9)
    assert bucket.is_idle(106.0)


async def test_after_a_burst_the_bot_makes_thirty_calls_a_second(
    rate: RateLimiter, lanes: Iterator[str]
) -> None:
    begun = now()
    for _ in range(BOT_BURST + 90):
        await rate.turn(next(lanes), "ci", Priority.NORMAL)
    assert now() - begun == pytest.approx(3.0, abs=0.05)


async def test_a_lane_gets_its_burst_and_then_has_to_wait(rate: RateLimiter) -> None:
    for lane, allowed in ((LANE, PRIVATE), (str(OPS), GROUP), ("@news", GROUP)):
        for _ in range(allowed.burst):
            assert rate.delay(lane) == 0
            await rate.turn(lane, "ci", Priority.NORMAL)
        assert rate.delay(lane) == pytest.approx(allowed.interval, abs=1.0)
    assert rate.delay("4711") == 0


async def test_without_a_limit_nobody_waits() -> None:
    rate = RateLimiter(0, now)
    for _ in range(1000):
        await rate.turn(LANE, "ci", Priority.NORMAL)
    assert (now(), rate.delay(LANE)) == (0, 0)
    assert all(rate.slot_for("ci").reserved for _ in range(1000))


async def test_lanes_that_are_quiet_are_forgotten() -> None:
    clock = itertools.count()
    rate = RateLimiter(1_000, lambda: float(next(clock)))
    for lane in range(1, 25_000):
        await rate.turn(str(lane), "ci", Priority.NORMAL)
    assert len(rate._lanes) < 25_000 / 2


async def test_lanes_that_are_busy_are_not_looked_through_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, clock, is_idle = itertools.count(), itertools.count(), Bucket.is_idle

    def counted(bucket: Bucket, at: float) -> bool:
        next(looks)
        return is_idle(bucket, at)

    monkeypatch.setattr(Bucket, "is_idle", counted)
    rate = RateLimiter(1_000_000, lambda: next(clock) / 1_000_000)
    for lane in range(1, 25_000):
        await rate.turn(str(lane), "ci", Priority.NORMAL)
    assert next(looks) < 2 * 25_000


# Who is next


async def test_the_more_urgent_goes_first(rate: RateLimiter, lanes: Iterator[str]) -> None:
    await use_up(rate, lanes)
    order: list[Priority] = []

    async def go(priority: Priority) -> None:
        await rate.turn(next(lanes), "ci", priority)
        order.append(priority)

    urgent, high, normal, low = Priority
    await asyncio.gather(*(go(one) for one in (low, normal, high, urgent, normal, urgent)))
    assert order == [urgent, urgent, high, normal, normal, low]


async def test_a_flood_of_one_service_delays_another_by_one_turn(
    rate: RateLimiter, lanes: Iterator[str]
) -> None:
    await use_up(rate, lanes)
    order: list[str] = []

    async def go(service: str) -> None:
        await rate.turn(next(lanes), service, Priority.NORMAL)
        order.append(service)

    await asyncio.gather(*(go("flood") for _ in range(200)), go("other"), go("other"))
    assert [place for place, service in enumerate(order) if service == "other"] == [1, 3]


async def test_who_goes_away_takes_nobody_s_turn(rate: RateLimiter, lanes: Iterator[str]) -> None:
    await use_up(rate, lanes)
    gone = asyncio.ensure_future(rate.turn(next(lanes), "ci", Priority.URGENT))
    await asyncio.sleep(0)
    gone.cancel()
    begun = now()
    await rate.turn(next(lanes), "ci", Priority.NORMAL)
    assert now() - begun < 0.1
    assert rate.room == IN_MEMORY


async def test_whoever_gives_up_waiting_leaves_the_line(rate: RateLimiter, lanes: Iterator[str]) -> None:
    await use_up(rate, lanes)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await rate.turn(next(lanes), "ci", Priority.NORMAL)
    assert rate.room == IN_MEMORY
    begun = now()
    await rate.turn(next(lanes), "ci", Priority.NORMAL)
    assert now() - begun < 0.1


# How many wait in memory


async def test_so_many_wait_in_memory_and_no_more(rate: RateLimiter, lanes: Iterator[str]) -> None:
    await use_up(rate, lanes)
    assert (rate.room, rate.has_much_room, has_slot(rate, "ci")) == (IN_MEMORY, True, True)
    waiting = [
        asyncio.ensure_future(rate.turn(next(lanes), "ci", Priority.NORMAL)) for _ in range(PER_SERVICE)
    ]
    await asyncio.sleep(0)
    assert (rate.room, has_slot(rate, "ci"), has_slot(rate, "other")) == (
        IN_MEMORY - PER_SERVICE,
        False,
        True,
    )
    await asyncio.gather(*waiting)
    assert (rate.room, has_slot(rate, "ci")) == (IN_MEMORY, True)


async def test_reserved_slots_are_taken_until_they_are_given_back(
    rate: RateLimiter, lanes: Iterator[str]
) -> None:
    await use_up(rate, lanes)
    slots = [rate.slot_for("ci") for _ in range(PER_SERVICE + 5)]
    assert [slot.reserved for slot in slots] == [True] * PER_SERVICE + [False] * 5
    assert rate.room == IN_MEMORY - PER_SERVICE
    with slots[0] as first:
        handed = first.handed_on()
    assert not has_slot(rate, "ci"), "It was handed on, so leaving the block gives nothing back."
    handed.give_back()
    handed.give_back()
    assert has_slot(rate, "ci")
    assert rate.room == IN_MEMORY - PER_SERVICE + 1


async def test_a_burst_that_can_go_at_once_needs_nobody_to_wait(rate: RateLimiter) -> None:
    slots = [rate.slot_for("ci") for _ in range(BOT_BURST + PER_SERVICE + 1)]
    assert [slot.reserved for slot in slots].count(True) == BOT_BURST + PER_SERVICE


async def test_a_slow_bot_takes_no_more_in_hand_than_it_can_send_in_seconds() -> None:
    slow = RateLimiter(1, now)
    assert slow.room == 5
    slots = [slow.slot_for("ci") for _ in range(20)]
    assert [slot.reserved for slot in slots].count(True) == 6
    assert RateLimiter(0.1, now).room == 1


# How many wait in the database


def test_a_service_is_refused_when_too_much_of_it_waits_and_others_are_not() -> None:
    backlog = Backlog(30, of_one_service=3, in_all=10)
    for _ in range(3):
        assert backlog.refusal("flood") is None
        backlog.add("flood")
    refusal = backlog.refusal("flood")
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == 1
    assert refusal.detail.startswith("3 tasks of flood wait to be sent already")
    assert backlog.refusal("ci") is None


def test_everybody_is_refused_when_too_much_waits() -> None:
    backlog = Backlog(2, of_one_service=9, in_all=4)
    backlog.replace({"one": 5, "two": 5})
    refusal = backlog.refusal("three")
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after == 3.5
    backlog.replace({"one": 3})
    assert (backlog.size, backlog.refusal("three")) == (3, None)


def test_nobody_is_told_to_wait_for_more_than_a_minute() -> None:
    backlog = Backlog(0.5, of_one_service=1)
    backlog.replace({"flood": 1000})
    refusal = backlog.refusal("flood")
    assert refusal is not None
    assert refusal.retry_after == 60
    unlimited = Backlog(0, of_one_service=1)
    unlimited.replace({"flood": 1000})
    assert (refused := unlimited.refusal("flood")) is not None
    assert refused.retry_after == 1


# Holds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def holds(store: MemoryStore, clock: HandClock) -> Holds:
    return Holds(store, TELEGRAM, clock, jitter=lambda: 0.0)


def in_lane(lane: str) -> Job:
    return Job("send", TELEGRAM, "tsk_1", run_at=START, lane=Lane(lane), service="ci")


async def test_nobody_waits_who_was_not_told_to(holds: Holds) -> None:
    assert (await holds.end(LANE), holds.everything, holds.count) == (None, None, 0)
    assert not holds.is_held(in_lane(LANE))


async def test_a_lane_waits_until_its_hold_is_over_and_others_do_not(holds: Holds, clock: HandClock) -> None:
    assert await holds.hold(LANE, 17) == after(17)
    assert (await holds.end(LANE), await holds.end(OTHER)) == (after(17), None)
    assert (holds.is_held(in_lane(LANE)), holds.is_held(in_lane(OTHER))) == (True, False)
    clock.advance(16.9)
    assert await holds.end(LANE) == after(17)
    clock.advance(0.1)
    assert await holds.end(LANE) is None
    assert not holds.is_held(in_lane(LANE))
    assert holds.everything is None


async def test_a_hold_is_up_to_a_tenth_longer_than_telegram_asks(
    store: MemoryStore, clock: HandClock
) -> None:
    holds = Holds(store, TELEGRAM, clock, jitter=lambda: 1.0)
    assert await holds.hold(LANE, 10) == after(11)
    assert holds.count == 1


async def test_a_shorter_hold_ends_no_longer_one(holds: Holds, clock: HandClock) -> None:
    await holds.hold(LANE, 60)
    clock.advance(1)
    assert await holds.hold(LANE, 5) == after(60)


@pytest.mark.parametrize(
    ("first", "second", "everybody"),
    [(10, 60, 10), (60, 10, 14), (10, 10, 10), (1, 60, None)],
    ids=["shorter first", "longer first", "alike", "over already"],
)
async def test_two_lanes_at_once_hold_everybody_for_at_most_the_shorter_time(
    holds: Holds, clock: HandClock, first: float, second: float, everybody: float | None
) -> None:
    await holds.hold(LANE, first)
    clock.advance(4)
    await holds.hold(OTHER, second)
    assert await holds.end(THIRD) == (None if everybody is None else after(everybody))
    assert holds.is_held(replace(in_lane(THIRD), lane=None)) is (everybody is not None)
    own = [await holds.end(LANE), await holds.end(OTHER)]
    assert own == [None if everybody is None else after(max(first, everybody)), after(4 + second)]


async def test_two_lanes_long_after_each_other_hold_nobody_else(holds: Holds, clock: HandClock) -> None:
    await holds.hold(LANE, 600)
    clock.advance(SOON.total_seconds() + 0.1)
    await holds.hold(OTHER, 600)
    assert (await holds.end(THIRD), holds.everything) == (None, None)


async def test_one_lane_that_is_told_twice_holds_nobody_else(holds: Holds, clock: HandClock) -> None:
    await holds.hold(LANE, 10)
    clock.advance(1)
    await holds.hold(LANE, 10)
    assert (await holds.end(OTHER), await holds.end(LANE)) == (None, after(11))


@pytest.mark.parametrize("shared", [True, False])
async def test_another_process_obeys_once_it_starts_or_within_a_second_when_the_store_is_shared(
    store: MemoryStore, clock: HandClock, *, shared: bool
) -> None:
    other = Holds(store, TELEGRAM, clock, shared=shared)
    assert await other.end(LANE) is None
    await Holds(store, TELEGRAM, clock, jitter=lambda: 0.0).hold(LANE, 10)
    clock.advance(FRESH)
    assert await other.end(LANE) == (after(10) if shared else None)
    assert await Holds(store, TELEGRAM, clock).end(LANE) == after(10)


async def test_a_process_learns_what_others_hold_without_a_job_of_its_own(
    store: MemoryStore, clock: HandClock
) -> None:
    mine = Holds(store, TELEGRAM, clock, shared=True)
    await mine.ready()
    learning = asyncio.create_task(mine.run())
    other = Holds(store, TELEGRAM, clock, jitter=lambda: 0.0)
    for lane in (LANE, OTHER):
        await other.hold(lane, 10)
    store.down = True
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert mine.everything is None
    store.down = False
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert mine.everything == after(10)
    learning.cancel()
    await other.run()


async def test_the_holds_of_one_queue_are_not_those_of_another(
    store: MemoryStore, clock: HandClock, holds: Holds
) -> None:
    await holds.hold(LANE, 10)
    assert await Holds(store, "deliveries", clock).end(LANE) is None


async def test_without_the_database_the_holds_that_were_known_last_count(
    store: MemoryStore, clock: HandClock
) -> None:
    holds = Holds(store, TELEGRAM, clock, shared=True, jitter=lambda: 0.0)
    await holds.hold(LANE, 10)
    clock.advance(2 * FRESH)
    store.down = True
    assert (await holds.end(LANE), await holds.end(OTHER)) == (after(10), None)


# All of it for one job


@pytest.fixture
def limits(rate: RateLimiter, holds: Holds) -> Limits:
    return Limits(rate, holds, Backlog(0))


@asynccontextmanager
async def crowd(rate: RateLimiter, lanes: Iterator[str]) -> AsyncIterator[None]:
    """So many urgent calls wait that nobody else gets a turn while the block lasts."""
    await use_up(rate, lanes)

    async def go() -> None:
        while True:
            await rate.turn(next(lanes), "flood", Priority.URGENT)

    going = [asyncio.create_task(go()) for _ in range(3)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for one in going:
            one.cancel()
        await asyncio.gather(*going, return_exceptions=True)


async def test_a_job_that_nothing_holds_up_runs_at_once(limits: Limits) -> None:
    assert await limits.turn(in_lane(LANE)) is None
    assert now() == 0


async def test_a_job_of_a_lane_that_is_held_comes_back_when_the_hold_ends(limits: Limits) -> None:
    await limits.holds.hold(LANE, 10)
    for job in (in_lane(LANE), replace(in_lane(LANE), overtakes=True)):
        assert await limits.turn(job) == after(10)
    assert await limits.turn(in_lane(OTHER)) is None
    assert now() == 0


async def test_a_job_waits_in_memory_for_its_lane_only_if_that_is_short(
    limits: Limits, rate: RateLimiter
) -> None:
    for _ in range(PRIVATE.burst):
        await limits.turn(in_lane(LANE))
    begun = now()
    assert await limits.turn(in_lane(LANE)) is None
    assert now() - begun == pytest.approx(PRIVATE.interval)
    for _ in range(GROUP.burst):
        await limits.turn(in_lane(str(OPS)))
    rest, begun = rate.delay(str(OPS)), now()
    assert rest > LONGEST_SLEEP
    assert await limits.turn(in_lane(str(OPS))) == after(rest)
    assert now() == begun


async def test_a_job_that_overtakes_does_not_wait_for_its_lane(limits: Limits) -> None:
    for _ in range(GROUP.burst):
        await limits.turn(in_lane(str(OPS)))
    begun = now()
    assert await limits.turn(replace(in_lane(str(OPS)), overtakes=True)) is None
    assert now() - begun < 0.1


async def test_a_job_that_gets_no_turn_comes_back_at_once_for_others_to_go_first(
    limits: Limits, rate: RateLimiter, lanes: Iterator[str], clock: HandClock
) -> None:
    async with crowd(rate, lanes):
        begun = now()
        assert await limits.turn(in_lane(LANE)) == clock.now()
        assert now() - begun == pytest.approx(LONGEST_TURN)


async def test_a_job_that_expires_waits_no_longer(
    limits: Limits, rate: RateLimiter, lanes: Iterator[str], clock: HandClock
) -> None:
    expiring = replace(in_lane(LANE), expires_at=START + timedelta(seconds=3))
    async with crowd(rate, lanes):
        begun = now()
        assert await limits.turn(expiring) == clock.now()
        assert now() - begun == pytest.approx(3)


async def test_a_hold_that_begins_while_a_job_waits_for_its_turn_holds_it_too(
    limits: Limits, rate: RateLimiter, lanes: Iterator[str]
) -> None:
    async with crowd(rate, lanes):
        waiting = asyncio.create_task(limits.turn(in_lane(LANE)))
        await asyncio.sleep(1)
        await limits.holds.hold(LANE, 10)
    assert await waiting == after(10)


async def test_a_slot_is_free_again_as_soon_as_its_job_queues(
    limits: Limits, rate: RateLimiter, lanes: Iterator[str]
) -> None:
    async with crowd(rate, lanes):
        before = rate.room
        slot = rate.slot_for("ci")
        assert rate.room == before - 1
        waiting = asyncio.create_task(limits.turn(in_lane(LANE), slot))
        await asyncio.sleep(1)
        assert rate.room == before - 1, "It waits itself now."
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert rate.room == before
