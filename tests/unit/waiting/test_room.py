"""The waiting room: whoever takes a seat is woken by a hint, by the deadline, or by the end, and leaves."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.model.task import Progress
from core.waiting.room import WaitingRoom
from tests.fakes.world import turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def room() -> WaitingRoom:
    return WaitingRoom()


async def sit(room: WaitingRoom, task_id: str, seconds: float) -> bool:
    with room.seat(task_id) as seat:
        return await seat.hinted(now() + seconds)


async def test_a_hint_wakes_whoever_waits_for_its_task_and_nobody_else(room: WaitingRoom) -> None:
    one, other = asyncio.create_task(sit(room, "tsk_1", 60)), asyncio.create_task(sit(room, "tsk_2", 60))
    await until(lambda: len(room) == 2)
    await turns()
    room.wake(["tsk_1", "tsk_3"])
    assert await one is True
    assert not other.done()
    assert room.task_ids == ["tsk_2"]
    room.wake(["tsk_2"])
    assert await other is True


async def test_a_hint_between_the_seat_and_the_wait_is_not_lost(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        room.wake(["tsk_1"])
        before = now()
        assert await seat.hinted(now() + 60) is True
        assert now() == before


async def test_a_hint_between_two_waits_is_not_lost(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        room.wake(["tsk_1"])
        assert await seat.hinted(now() + 60) is True
        room.wake(["tsk_1"])
        before = now()
        assert await seat.hinted(now() + 60) is True
        assert now() == before


async def test_a_hint_before_the_seat_is_nobody_s(room: WaitingRoom) -> None:
    room.wake(["tsk_1"])
    before = now()
    assert await sit(room, "tsk_1", 25) is False
    assert now() == pytest.approx(before + 25)


async def test_many_hints_at_once_are_one(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        room.wake(["tsk_1", "tsk_1"])
        room.wake(["tsk_1"])
        assert await seat.hinted(now() + 25) is True
        assert await seat.hinted(now() + 25) is False


async def test_the_deadline_ends_the_wait(room: WaitingRoom) -> None:
    before = now()
    assert await sit(room, "tsk_1", 25) is False
    assert now() == pytest.approx(before + 25)


async def test_a_deadline_that_is_over_ends_the_wait_at_once(room: WaitingRoom) -> None:
    before = now()
    assert await sit(room, "tsk_1", -1) is False
    assert now() == before


async def test_a_hint_at_the_last_moment_is_no_reason_to_wait_on(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        deadline = now() + 5
        asyncio.get_running_loop().call_at(deadline, room.wake, ["tsk_1"])
        assert await seat.hinted(deadline) is False


async def test_seats_wake_in_the_order_of_their_deadlines(room: WaitingRoom) -> None:
    woken: list[float] = []

    async def note(seconds: float) -> None:
        await sit(room, "tsk_1", seconds)
        woken.append(seconds)

    await asyncio.gather(*(note(seconds) for seconds in (30, 5, 60, 1, 25, 5.5)))
    assert woken == [1, 5, 5.5, 25, 30, 60]


async def test_everybody_waits_by_one_timer(room: WaitingRoom) -> None:
    waiting = [asyncio.create_task(sit(room, f"tsk_{n}", 60 - n)) for n in range(50)]
    await until(lambda: len(room) == 50)
    await turns()
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    assert len([timer for timer in scheduled if not timer.cancelled()]) == 1
    await asyncio.gather(*waiting)


async def test_whoever_is_called_away_leaves_a_free_seat(room: WaitingRoom) -> None:
    stays, goes = asyncio.create_task(sit(room, "tsk_1", 60)), asyncio.create_task(sit(room, "tsk_1", 30))
    await until(lambda: len(room) == 2)
    await turns()
    goes.cancel()
    with pytest.raises(asyncio.CancelledError):
        await goes
    assert len(room) == 1
    room.wake(["tsk_1"])
    assert await stays is True
    assert (len(room), room.task_ids) == (0, [])


async def test_an_error_in_the_block_frees_the_seat_too(room: WaitingRoom) -> None:
    with pytest.raises(ValueError, match="no sense"), room.seat("tsk_1"):
        raise ValueError("no sense")
    assert len(room) == 0


async def test_a_deadline_of_somebody_who_left_wakes_nobody(room: WaitingRoom) -> None:
    left = asyncio.create_task(sit(room, "tsk_1", 5))
    await turns()
    left.cancel()
    before = now()
    assert await sit(room, "tsk_1", 25) is False
    assert now() == pytest.approx(before + 25)


async def test_an_earlier_deadline_that_comes_later_is_kept(room: WaitingRoom) -> None:
    long = asyncio.create_task(sit(room, "tsk_1", 60))
    await turns()
    before = now()
    assert await sit(room, "tsk_1", 1) is False
    assert now() == pytest.approx(before + 1)
    assert await long is False
    assert now() == pytest.approx(before + 60)


async def test_closing_wakes_everybody_and_nobody_waits_any_more(room: WaitingRoom) -> None:
    waiting = [asyncio.create_task(sit(room, f"tsk_{n}", 60)) for n in range(10)]
    await until(lambda: len(room) == 10)
    await turns()
    before = now()
    room.close()
    assert await asyncio.gather(*waiting) == [False] * 10
    assert await sit(room, "tsk_1", 60) is False
    assert now() == before
    assert len(room) == 0


async def test_whoever_has_a_seat_and_does_not_wait_yet_sees_the_closing(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        room.close()
        assert await seat.hinted(now() + 60) is False


async def test_a_waiter_that_is_hinted_often_leaves_one_reminder(room: WaitingRoom) -> None:
    with room.seat("tsk_1") as seat:
        deadline = now() + 3600
        for _ in range(200):
            seat.wake()
            assert await seat.hinted(deadline) is True
        assert len(room._deadlines) <= 2


async def test_reminders_of_those_who_left_are_dropped(room: WaitingRoom) -> None:
    for _ in range(1000):
        with room.seat("tsk_1") as seat:
            room.remind(seat, now() + 3600)
    assert len(room._deadlines) <= 64


async def seated(room: WaitingRoom, count: int) -> float:
    """Let so many wait, hint at each three times, let all of them leave; returns the CPU seconds."""

    async def sit_through(task_id: str) -> None:
        with room.seat(task_id) as seat:
            deadline = now() + 3600
            for _ in range(4):
                await seat.hinted(deadline)

    waiting = [asyncio.create_task(sit_through(f"tsk_{n}")) for n in range(count)]
    await until(lambda: len(room) == count)
    started = time.process_time()
    for _ in range(4):
        await asyncio.sleep(0)
        room.wake(room.task_ids)
    await asyncio.gather(*waiting)
    assert len(room) == 0
    return time.process_time() - started


async def test_ten_thousand_leave_about_ten_times_as_slowly_as_a_thousand(room: WaitingRoom) -> None:
    small = min([await seated(room, 1000) for _ in range(3)])
    assert min([await seated(room, 10_000) for _ in range(2)]) < 60 * small


async def test_a_final_task_wakes_everybody_who_waits_for_it(room: WaitingRoom) -> None:
    with (
        room.seat("tsk_1") as end,
        room.seat("tsk_1", steps_matter=True) as step,
        room.seat("tsk_2") as other,
    ):
        step.seen = 3
        room.wake_unaware({"tsk_1": Progress(3, final=True), "tsk_3": Progress(1, final=True)})
        assert await end.hinted(now() + 25) is True
        assert await step.hinted(now() + 25) is True
        assert now() == 0
        assert await other.hinted(now() + 25) is False


async def test_a_step_wakes_whoever_has_not_seen_it_and_for_whom_steps_matter(room: WaitingRoom) -> None:
    with (
        room.seat("tsk_1") as end,
        room.seat("tsk_1", steps_matter=True) as unaware,
        room.seat("tsk_1", steps_matter=True) as aware,
    ):
        unaware.seen, aware.seen = 2, 3
        room.wake_unaware({"tsk_1": Progress(3, final=False)})
        assert await unaware.hinted(now() + 25) is True
        assert now() == 0
        assert await aware.hinted(now() + 25) is False
        assert await end.hinted(now() + 25) is False
