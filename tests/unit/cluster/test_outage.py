"""Outages: a long time without updates is found out once, and open questions are asked again at once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cluster.heartbeat import Beat
from core.cluster.outage import OUTAGE, outage_between
from core.jobs.alarm import Alarm
from core.model.cluster import Outage
from core.model.errors import StorageUnavailable
from tests.fakes.clock import START
from tests.fakes.world import turns
from tests.unit.cluster.conftest import Cluster


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(("seconds", "expected"), [(120, None), (120.001, Outage(START, at(120.001)))])
def test_only_a_time_of_more_than_two_minutes_is_an_outage(seconds: float, expected: Outage | None) -> None:
    assert outage_between(START, at(seconds)) == expected


@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from(["one", "two", "three"])), min_size=1))
def test_every_silence_of_more_than_two_minutes_is_an_outage_that_one_process_finds(
    steps: list[tuple[float, str]],
) -> None:
    row, outage = Beat(START, "one").update(None)
    assert outage is None
    now = 0.0
    for pause, holder in steps:
        before = row
        now += pause
        row, outage = Beat(at(now), holder).update(row)
        assert (outage is not None) == (at(now) - before.served_at > OUTAGE)
        if outage is not None:
            assert outage == Outage(before.served_at, at(now))
            # Whoever comes a moment later finds none, and a leader.
            row, second = Beat(at(now + 1), "late").update(row)
            assert second is None
            assert row.leader is not None
            assert row.leader.holder == holder
        # The row may lag, but never so far that a good minute looks like an outage.
        assert timedelta(0) <= at(now) - row.served_at < timedelta(seconds=15)


async def test_whoever_comes_back_first_logs_the_outage_and_leads(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    processes = [cluster.process(name) for name in ("one", "two", "three")]
    for each in processes:
        await each.beat()
    cluster.clock.advance(121)
    for each in reversed(processes):
        await each.beat()
    assert cluster.store.reprompted == [Outage(START, at(121))]
    assert [each.leadership.is_leader for each in processes] == [False, False, True]
    [line] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert line.action == "outage"  # type: ignore[attr-defined]
    assert line.message.startswith(
        "Nobody could take updates from 2026-11-22 10:00:00 UTC to 2026-11-22 10:02:01"
    )


async def test_a_database_that_was_away_for_long_is_an_outage_when_it_is_back(cluster: Cluster) -> None:
    heartbeat = cluster.process()
    await heartbeat.beat()
    cluster.store.down = True
    cluster.clock.advance(130)
    await heartbeat.beat()
    assert cluster.store.reprompted == []
    cluster.store.down = False
    await heartbeat.beat()
    assert cluster.store.reprompted == [Outage(START, at(130))]


async def test_the_scheduler_wakes_at_once_when_a_heartbeat_has_ended_an_outage(cluster: Cluster) -> None:
    heartbeat = cluster.process()
    await heartbeat.beat()
    cluster.clock.advance(121)
    waiting = await asleep(heartbeat.outages.alarm)
    await heartbeat.beat()
    await turns()
    assert waiting.done()


async def test_updates_that_did_not_arrive_are_logged_and_wake_the_scheduler(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.store.open_questions = 3
    outages = cluster.process().outages
    outage = Outage(START - timedelta(seconds=200), START)
    waiting = await asleep(outages.alarm)
    await outages.reprompt(outage)
    await turns()
    assert waiting.done()
    assert cluster.store.reprompted == [outage]
    [line] = caplog.records
    assert line.message == (
        "No update arrived from 2026-11-22 09:56:40 UTC to 2026-11-22 10:00:00 UTC. "
        "Open questions that now ask for another tap: 3."
    )
    assert (line.action, line.questions) == ("disarmed", 3)  # type: ignore[attr-defined]


async def test_who_is_told_of_an_outage_that_cannot_be_stored_has_to_come_again(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.store.down = True
    with pytest.raises(StorageUnavailable):
        await cluster.process().outages.reprompt(Outage(START, at(200)))
    assert caplog.records == []


async def asleep(alarm: Alarm) -> asyncio.Task[None]:
    """Whoever sleeps until an alarm that rings in a while."""
    alarm.set(alarm.clock.now() + timedelta(hours=1))
    waiting = asyncio.create_task(alarm.wait())
    await turns()
    assert not waiting.done()
    return waiting
