"""The heartbeat: whoever can take updates says so, and learns what the others know."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from core.cluster.heartbeat import INTERVAL, RETRY, Beat
from core.cluster.leader import LEASE
from core.model.cluster import Entry, Finding, Leader, Outage, Presence
from core.model.update import Ignored
from tests.fakes.clock import START
from tests.fakes.heartbeat import MemoryHeartbeats
from tests.fakes.world import ends, turns, until
from tests.unit.cluster.conftest import Cluster

STOLEN = Finding("ok", "It is stolen.")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def beat(seconds: float, holder: str = "one", received: float | None = None) -> Beat:
    return Beat(at(seconds), holder, None if received is None else at(received))


# What a heartbeat makes of the row


def test_a_heartbeat_that_says_nothing_new_leaves_the_row_as_it_is() -> None:
    row, _ = beat(0).update(None)
    assert beat(14, "two").update(row) == (row, None)
    assert beat(14, "two", received=3).update(row)[0].received_at == at(3)


def test_only_the_leader_s_finding_counts_and_it_stays_until_there_is_another() -> None:
    row, _ = beat(0).update(None)
    assert Beat(at(20), "two", finding=STOLEN).update(row)[0].finding is None
    found, _ = Beat(at(20), "one", finding=STOLEN).update(row)
    assert found.finding == STOLEN
    assert beat(40).update(found)[0].finding == STOLEN


def test_the_newest_update_of_all_processes_counts() -> None:
    row, _ = beat(0, received=-5).update(None)
    row, _ = beat(20, "two", received=18).update(row)
    row, _ = beat(21, "one", received=-5).update(row)
    assert row.received_at == at(18)


def test_a_process_that_leaves_says_until_when_it_served_and_leads_no_more() -> None:
    row, _ = beat(0).update(None)
    left, outage = beat(5).leave(row)
    assert (left.served_at, left.leader, outage) == (at(5), None, None)
    assert beat(5, "two").leave(row)[0].leader == row.leader


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=400)])
def test_a_row_from_a_clock_that_was_wrong_is_put_right_without_an_outage(ahead: timedelta) -> None:
    wrong = Presence(START + ahead, leader=Leader("two", START + ahead + LEASE))
    row, outage = beat(0).update(wrong)
    assert outage is None
    assert (row.served_at, row.leader) == (START, Leader("one", START + LEASE))


def test_a_clock_that_runs_a_little_ahead_elsewhere_changes_nothing() -> None:
    row = Presence(at(30), leader=Leader("two", at(80)))
    assert beat(0).update(row) == (row, None)


# A process


async def test_a_process_knows_what_the_others_have_received_and_found(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process("two")
    await first.beat()
    first.report(STOLEN)
    parse = second.observed(lambda raw: Ignored(len(raw), "nothing"))
    assert second.received_at is None
    cluster.clock.advance(3)
    assert parse(b"12") == Ignored(2, "nothing")
    await second.beat()
    await first.beat()
    await second.beat()
    assert first.received_at == second.received_at == at(3)
    assert first.finding == second.finding == STOLEN


async def test_what_a_process_found_before_another_one_led_counts_no_more(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process("two")
    await first.beat()
    first.report(STOLEN)
    cluster.clock.advance(51)
    await second.beat()
    second.report(Finding("ok", "ok"))
    await second.beat()
    await first.beat()
    assert first.finding == second.finding == Finding("ok", "ok")


async def test_a_database_that_is_away_is_logged_when_that_begins_and_when_it_ends(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    heartbeat = cluster.process()
    await heartbeat.beat()
    cluster.store.down = True
    assert not await heartbeat.beat()
    assert not await heartbeat.beat()
    cluster.store.down = False
    assert await heartbeat.beat()
    assert await heartbeat.beat()
    assert [record.action for record in caplog.records] == ["attend_failed", "attend_well"]  # type: ignore[attr-defined]
    assert caplog.messages[0].startswith("The database could not be told that this process takes updates: ")


async def test_a_process_sends_heartbeats_until_it_stops_serving(cluster: Cluster) -> None:
    heartbeat = cluster.process()
    running = asyncio.create_task(heartbeat.run())
    await until(lambda: cluster.store.row is not None)
    for _ in range(3):
        cluster.clock.advance(INTERVAL)
        before = cluster.store.row
        await asyncio.sleep(INTERVAL + 1)
        assert cluster.store.row != before
    heartbeat.is_serving, before = False, cluster.store.row
    cluster.clock.advance(30)
    await asyncio.sleep(3 * INTERVAL)
    assert cluster.store.row == before
    running.cancel()


async def test_a_heartbeat_that_the_database_did_not_take_is_repeated_soon(cluster: Cluster) -> None:
    cluster.store.down = True
    running = asyncio.create_task(cluster.process().run())
    await turns()
    cluster.store.down = False
    pause = RETRY.delay(1)
    assert pause is not None
    assert pause < INTERVAL
    await asyncio.sleep(pause + 0.1)
    assert cluster.store.row is not None
    running.cancel()


async def test_a_database_that_does_not_answer_keeps_no_process_from_leaving(cluster: Cluster) -> None:
    class Slow(MemoryHeartbeats):
        async def beat(self, entry: Entry) -> tuple[Presence, Outage | None]:
            await asyncio.sleep(3600)
            return await super().beat(entry)

    cluster.store = Slow()
    await asyncio.wait_for(cluster.process().leave(), 2)


async def test_what_the_leader_finds_out_is_told_at_once_and_once(cluster: Cluster) -> None:
    store, heartbeat = cluster.store, cluster.process()
    running = asyncio.create_task(heartbeat.run())
    await heartbeat.leadership.until_leader()
    heartbeat.report(STOLEN)
    await until(lambda: store.row is not None and store.row.finding == STOLEN)
    assert asyncio.get_running_loop().time() == 0
    heartbeat.report(STOLEN)
    await asyncio.sleep(INTERVAL / 2)
    assert store.beats == 2
    running.cancel()


@pytest.mark.parametrize("turn", range(5))
async def test_a_process_ends_even_as_it_has_something_to_tell(cluster: Cluster, turn: int) -> None:
    heartbeat = cluster.process()
    running = asyncio.create_task(heartbeat.run())
    await turns()
    heartbeat.report(STOLEN)
    await turns(turn)
    running.cancel()
    assert await ends(running)
