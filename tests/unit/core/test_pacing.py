"""Nobody sends faster than Telegram likes, the urgent go first, and every service gets its turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from core.jobs.limits import BOT_BURST, GROUP, IN_ALL, PER_SERVICE, PRIVATE, Bucket, Pace, Pacer, Urgency
from tests.fakes.world import ADA
from tests.fakes.world import GROUP as OPS

MESSAGE, QUESTION, PRESS = Urgency.MESSAGE, Urgency.QUESTION, Urgency.PRESS


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def pacer() -> Pacer:
    return Pacer(30, now)


@pytest.fixture
def chats() -> Iterator[int]:
    return iter(range(1, 100_000))


def has_room(pacer: Pacer, service: str) -> bool:
    with pacer.place_for(service) as place:
        return place.is_kept


async def used_up(pacer: Pacer, chats: Iterator[int]) -> None:
    """Let the bot make its burst, so that everybody who comes now has to wait."""
    for _ in range(BOT_BURST):
        await pacer.turn(next(chats), "flood", MESSAGE)


def test_a_bucket_allows_a_burst_and_then_a_steady_pace() -> None:
    bucket = Bucket(Pace(2.0, 3))
    for _ in range(3):
        assert bucket.delay(100.0) == 0
        bucket.spend(100.0)
    assert bucket.delay(100.0) == 2.0
    assert bucket.delay(101.5) == 0.5
    assert bucket.delay(102.0) == 0
    assert not bucket.is_idle(105.9)
    assert bucket.is_idle(106.0)


async def test_after_a_burst_the_bot_sends_thirty_a_second(pacer: Pacer, chats: Iterator[int]) -> None:
    begun = now()
    for _ in range(BOT_BURST + 90):
        await pacer.turn(next(chats), "ci", MESSAGE)
    assert now() - begun == pytest.approx(3.0, abs=0.05)


async def test_a_chat_gets_its_burst_and_then_has_to_wait(pacer: Pacer) -> None:
    for chat, pace in ((ADA.id, PRIVATE), (OPS, GROUP), ("@news", GROUP)):
        for _ in range(pace.burst):
            assert pacer.delay(chat) == 0
            await pacer.turn(chat, "ci", MESSAGE)
        assert pacer.delay(chat) == pytest.approx(pace.interval, abs=1.0)
    assert pacer.delay(4711) == 0


async def test_without_a_limit_nobody_waits() -> None:
    pacer = Pacer(0, now)
    for _ in range(1000):
        await pacer.turn(ADA.id, "ci", MESSAGE)
    assert (now(), pacer.delay(ADA.id)) == (0, 0)


async def test_presses_go_before_questions_and_questions_before_messages(
    pacer: Pacer, chats: Iterator[int]
) -> None:
    await used_up(pacer, chats)
    order: list[Urgency] = []

    async def go(urgency: Urgency) -> None:
        await pacer.turn(next(chats), "ci", urgency)
        order.append(urgency)

    await asyncio.gather(*(go(urgency) for urgency in (MESSAGE, QUESTION, PRESS, MESSAGE, PRESS)))
    assert order == [PRESS, PRESS, QUESTION, MESSAGE, MESSAGE]


async def test_a_flood_of_one_service_delays_another_by_one_turn(pacer: Pacer, chats: Iterator[int]) -> None:
    await used_up(pacer, chats)
    order: list[str] = []

    async def go(service: str) -> None:
        await pacer.turn(next(chats), service, MESSAGE)
        order.append(service)

    await asyncio.gather(*(go("flood") for _ in range(200)), go("other"), go("other"))
    assert [place for place, service in enumerate(order) if service == "other"] == [1, 3]


async def test_so_many_wait_in_memory_and_no_more(pacer: Pacer, chats: Iterator[int]) -> None:
    await used_up(pacer, chats)
    assert (pacer.room, pacer.has_much_room, has_room(pacer, "ci")) == (IN_ALL, True, True)
    waiting = [asyncio.ensure_future(pacer.turn(next(chats), "ci", MESSAGE)) for _ in range(PER_SERVICE)]
    await asyncio.sleep(0)
    assert (pacer.room, has_room(pacer, "ci"), has_room(pacer, "other")) == (
        IN_ALL - PER_SERVICE,
        False,
        True,
    )
    await asyncio.gather(*waiting)
    assert (pacer.room, has_room(pacer, "ci")) == (IN_ALL, True)


async def test_places_that_are_kept_are_taken_until_they_are_given_back(
    pacer: Pacer, chats: Iterator[int]
) -> None:
    await used_up(pacer, chats)
    places = [pacer.place_for("ci") for _ in range(PER_SERVICE + 5)]
    assert [place.is_kept for place in places] == [True] * PER_SERVICE + [False] * 5
    assert pacer.room == IN_ALL - PER_SERVICE
    with places[0] as first:
        handed = first.handed_on()
    assert not has_room(pacer, "ci"), "It was handed on, so leaving the block gives nothing back."
    handed.give_back()
    handed.give_back()
    assert has_room(pacer, "ci")
    assert pacer.room == IN_ALL - PER_SERVICE + 1


async def test_a_burst_that_can_go_at_once_needs_nobody_to_wait(pacer: Pacer) -> None:
    places = [pacer.place_for("ci") for _ in range(BOT_BURST + PER_SERVICE + 1)]
    assert [place.is_kept for place in places].count(True) == BOT_BURST + PER_SERVICE


async def test_who_goes_away_takes_nobody_s_turn(pacer: Pacer, chats: Iterator[int]) -> None:
    await used_up(pacer, chats)
    gone = asyncio.ensure_future(pacer.turn(next(chats), "ci", PRESS))
    await asyncio.sleep(0)
    gone.cancel()
    begun = now()
    await pacer.turn(next(chats), "ci", MESSAGE)
    assert now() - begun < 0.1
    assert pacer.room == IN_ALL


async def test_chats_that_are_quiet_are_forgotten() -> None:
    clock = itertools.count()
    pacer = Pacer(1_000, lambda: float(next(clock)))
    for chat in range(1, 25_000):
        await pacer.turn(chat, "ci", MESSAGE)
    assert len(pacer._chats) <= 10_000


async def test_chats_that_are_busy_are_not_looked_through_each_time() -> None:
    pacer = Pacer(1_000_000, lambda: 0.0)
    pacer._most_chats = 10
    for chat in range(1, 11):
        await pacer.turn(chat, "ci", MESSAGE)
    assert pacer._most_chats == 10
    await pacer.turn(11, "ci", MESSAGE)
    assert pacer._most_chats >= 20


async def test_a_slow_bot_takes_no_more_in_hand_than_it_can_send_in_seconds() -> None:
    slow = Pacer(1, now)
    assert slow.room == 5
    places = [slow.place_for("ci") for _ in range(20)]
    assert [place.is_kept for place in places].count(True) == 6
    assert Pacer(0.1, now).room == 1


async def test_whoever_gives_up_waiting_leaves_the_line(pacer: Pacer, chats: Iterator[int]) -> None:
    await used_up(pacer, chats)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await pacer.turn(next(chats), "ci", MESSAGE)
    assert (pacer.room, pacer._queues) == (IN_ALL, {})
    begun = now()
    await pacer.turn(next(chats), "ci", MESSAGE)
    assert now() - begun < 0.1
