"""Attending: whoever is here says so, one of them has the duty, and a long silence is noticed once."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cluster.heartbeat import BEAT, DUTY, OUTAGE, Attending, Entry, Finding, Outage, Presence, Sign
from core.model.task import Lease
from core.model.update import Ignored
from core.ports import GatewayIdentity
from core.services.factory import Drafter
from tests.fakes.clock import START, HandClock
from tests.fakes.presence import MemoryPresence
from tests.fakes.world import BOT, KEYS, ends, turns, until


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def sign(seconds: float, holder: str = "one", received: float | None = None) -> Sign:
    received_at = None if received is None else at(received)
    return Sign(at(seconds), Lease(holder, at(seconds) + DUTY), received_at)


def process(store: MemoryPresence, clock: HandClock, holder: str = "one") -> Attending:
    return Attending(store, Drafter(GatewayIdentity(BOT, holder, KEYS), clock, lambda: "1"))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> MemoryPresence:
    return MemoryPresence()


# What a sign of life does to the row


@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from(["one", "two", "three"])), min_size=1))
def test_every_silence_of_more_than_two_minutes_is_an_outage_of_one_process(
    steps: list[tuple[float, str]],
) -> None:
    row, outage = sign(0).entered(None)
    assert outage is None
    now = 0.0
    for pause, holder in steps:
        before = row
        now += pause
        row, outage = sign(now, holder).entered(row)
        assert (outage is not None) == (at(now) - before.served_at > OUTAGE)
        if outage is not None:
            assert outage == Outage(before.served_at, at(now))
            # Whoever comes a moment later finds none, and the duty taken.
            row, second = sign(now + 1, "late").entered(row)
            assert second is None
            assert row.duty is not None
            assert row.duty.holder == holder
        # The row may lag, but never so far that a good minute looks like an outage.
        assert timedelta(0) <= at(now) - row.served_at < timedelta(seconds=15)


@given(st.lists(st.tuples(st.floats(0, 119), st.sampled_from(["one", "two", "three"])), min_size=1))
def test_the_duty_changes_hands_only_when_its_holder_is_silent(steps: list[tuple[float, str]]) -> None:
    row, _ = sign(0).entered(None)
    now = 0.0
    for pause, holder in steps:
        duty = row.duty
        assert duty is not None
        now += pause
        row, _ = sign(now, holder).entered(row)
        assert row.duty is not None
        free = duty.until <= at(now) or duty.holder == holder
        assert row.duty == (Lease(holder, at(now) + DUTY) if free else duty)


def test_a_sign_that_says_nothing_new_leaves_the_row_as_it_is() -> None:
    row, _ = sign(0).entered(None)
    assert sign(14, "two").entered(row) == (row, None)
    assert sign(14, "two", received=3).entered(row)[0].received_at == at(3)


def test_only_the_process_on_duty_tells_what_it_found() -> None:
    row, _ = sign(0).entered(None)
    stale = Sign(at(20), Lease("two", at(70)), finding=Finding("ok", "nonsense"))
    assert stale.entered(row)[0].finding is None
    fresh = Sign(at(20), Lease("one", at(70)), finding=Finding("ok", "ok"))
    assert fresh.entered(row)[0].finding == Finding("ok", "ok")
    assert sign(40).entered(fresh.entered(row)[0])[0].finding == Finding("ok", "ok")


def test_the_newest_update_of_all_processes_counts() -> None:
    row, _ = sign(0, received=-5).entered(None)
    row, _ = sign(20, "two", received=18).entered(row)
    row, _ = sign(21, "one", received=-5).entered(row)
    assert row.received_at == at(18)


def test_who_leaves_gives_the_duty_back_and_says_until_when_it_served() -> None:
    row, _ = sign(0).entered(None)
    left, outage = sign(5).left(row)
    assert (left.served_at, left.duty, outage) == (at(5), None, None)
    assert sign(5, "two").left(row)[0].duty == row.duty


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400)])
def test_a_row_from_a_clock_that_was_wrong_is_put_right_without_an_outage(ahead: timedelta) -> None:
    wrong = Presence(START + ahead, duty=Lease("two", START + ahead + DUTY))
    row, outage = sign(0).entered(wrong)
    assert outage is None
    assert (row.served_at, row.duty) == (START, Lease("one", START + DUTY))


def test_a_clock_that_runs_a_little_ahead_elsewhere_changes_nothing() -> None:
    row = Presence(at(30), duty=Lease("two", at(80)))
    assert sign(0).entered(row) == (row, None)


# A process


async def test_a_process_is_on_duty_after_its_first_sign(store: MemoryPresence, clock: HandClock) -> None:
    first, second = process(store, clock), process(store, clock, "two")
    assert not first.on_duty
    assert await first.attend()
    assert await second.attend()
    assert (first.on_duty, second.on_duty) == (True, False)
    await first.leave()
    assert await second.attend()
    assert (first.on_duty, second.on_duty) == (False, True)


async def test_a_process_knows_what_the_others_have_received_and_found(
    store: MemoryPresence, clock: HandClock
) -> None:
    first, second = process(store, clock), process(store, clock, "two")
    await first.attend()
    first.finding = Finding("ok", "It is stolen.")
    parse = second.noticing(lambda raw: Ignored(len(raw), "nothing"))
    assert second.received_at is None
    clock.advance(3)
    assert parse(b"12") == Ignored(2, "nothing")
    await second.attend()
    await first.attend()
    await second.attend()
    assert first.received_at == second.received_at == at(3)
    assert second.told == Finding("ok", "It is stolen.")


async def test_f12_whoever_comes_back_first_tells_of_the_outage(
    store: MemoryPresence, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    processes = [process(store, clock, name) for name in ("one", "two", "three")]
    told: list[str] = []
    for each in processes:
        each.on_outage = lambda name=each.drafter.identity.holder: told.append(name)  # type: ignore[misc]
        await each.attend()
    clock.advance(121)
    for each in reversed(processes):
        await each.attend()
    assert told == ["three"]
    assert [each.on_duty for each in processes] == [False, False, True]
    [line] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert line.message.startswith(
        "Nobody could take updates from 2026-11-22 10:00:00 UTC to 2026-11-22 10:02:01"
    )


async def test_a_database_that_is_away_is_told_once_and_the_duty_is_kept(
    store: MemoryPresence, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    attending = process(store, clock)
    await attending.attend()
    store.down = True
    clock.advance(70)
    assert not await attending.attend()
    assert not await attending.attend()
    assert attending.on_duty
    assert [record.getMessage()[:31] for record in caplog.records] == ["The database could not be told "]
    store.down = False
    clock.advance(60)
    outages: list[bool] = []
    attending.on_outage = lambda: outages.append(True)
    assert await attending.attend()
    assert outages == [True]


async def test_a_process_gives_signs_until_it_stops_serving(store: MemoryPresence, clock: HandClock) -> None:
    attending = process(store, clock)
    serving = True
    attending.is_serving = lambda: serving
    running = asyncio.create_task(attending.run())
    await asyncio.wait_for(attending.until_on_duty(), 1)
    for _ in range(3):
        clock.advance(BEAT)
        before = store.row
        await asyncio.sleep(BEAT + 1)
        assert store.row != before
    serving, before = False, store.row
    clock.advance(30)
    await asyncio.sleep(3 * BEAT)
    assert store.row == before
    running.cancel()


async def test_a_database_that_does_not_answer_keeps_no_process_from_leaving(clock: HandClock) -> None:
    class Slow(MemoryPresence):
        async def attend(self, entry: Entry) -> tuple[Presence, Outage | None]:
            await asyncio.sleep(3600)
            return await super().attend(entry)

    await asyncio.wait_for(process(Slow(), clock).leave(), 2)


async def test_a_process_in_a_hurry_gives_its_sign_at_once(store: MemoryPresence, clock: HandClock) -> None:
    attending = process(store, clock)
    running = asyncio.create_task(attending.run())
    await attending.until_on_duty()
    attending.finding = Finding("ok", "It is stolen.")
    attending.hurry()
    await until(lambda: store.row is not None and store.row.finding is not None)
    running.cancel()


@pytest.mark.parametrize("turn", range(5))
async def test_a_process_ends_even_as_its_alarm_rings(
    store: MemoryPresence, clock: HandClock, turn: int
) -> None:
    attending = process(store, clock)
    running = asyncio.create_task(attending.run())
    await turns()
    attending.hurry()
    await turns(turn)
    running.cancel()
    assert await ends(running)


async def test_who_waits_for_the_duty_gets_it_when_its_holder_has_gone(
    store: MemoryPresence, clock: HandClock
) -> None:
    first, second = process(store, clock), process(store, clock, "two")
    await first.attend()
    running = asyncio.create_task(second.run())
    waiting = asyncio.create_task(second.until_on_duty())
    await asyncio.sleep(2 * BEAT)
    assert not waiting.done()
    clock.advance(51)
    await asyncio.wait_for(waiting, 2 * BEAT)
    running.cancel()
