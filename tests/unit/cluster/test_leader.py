"""The leader: one process at a time, and another one only when that is silent or has left."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.cluster.heartbeat import INTERVAL
from core.cluster.leader import LEASE, leader_after
from core.model.cluster import Leader
from tests.fakes.clock import START
from tests.unit.cluster.conftest import Cluster


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@given(st.lists(st.tuples(st.floats(0, 119), st.sampled_from(["one", "two", "three"])), min_size=1))
def test_another_process_leads_only_when_the_leader_is_silent(steps: list[tuple[float, str]]) -> None:
    leader = leader_after(None, "one", START)
    assert leader == Leader("one", START + LEASE)
    now = 0.0
    for pause, holder in steps:
        before = leader
        now += pause
        leader = leader_after(before, holder, at(now))
        free = before.until <= at(now) or before.holder == holder
        assert leader == (Leader(holder, at(now) + LEASE) if free else before)


def test_a_lease_is_over_when_its_time_has_come() -> None:
    leader = Leader("one", at(50))
    assert leader_after(leader, "two", at(49.999)) == leader
    assert leader_after(leader, "two", at(50)) == Leader("two", at(100))


async def test_a_process_leads_from_its_first_heartbeat_until_it_leaves(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process("two")
    assert not first.leadership.is_leader
    await first.beat()
    await second.beat()
    assert (first.leadership.is_leader, second.leadership.is_leader) == (True, False)
    await first.leave()
    await second.beat()
    assert (first.leadership.is_leader, second.leadership.is_leader) == (False, True)


async def test_while_the_database_is_away_the_leader_stays_the_leader(cluster: Cluster) -> None:
    heartbeat = cluster.process()
    await heartbeat.beat()
    cluster.store.down = True
    cluster.clock.advance(70)
    await heartbeat.beat()
    assert heartbeat.leadership.is_leader


async def test_whoever_waits_to_lead_does_so_when_the_leader_is_silent(cluster: Cluster) -> None:
    first, second = cluster.process(), cluster.process("two")
    await first.beat()
    running = asyncio.create_task(second.run())
    waiting = asyncio.create_task(second.leadership.until_leader())
    await asyncio.sleep(2 * INTERVAL)
    assert not waiting.done()
    cluster.clock.advance(51)
    await asyncio.wait_for(waiting, 2 * INTERVAL)
    running.cancel()


async def test_who_led_for_a_moment_only_goes_on_waiting(cluster: Cluster) -> None:
    leadership = cluster.process().leadership
    waiting = asyncio.create_task(leadership.until_leader())
    await asyncio.sleep(0)
    leadership.learn(Leader("one", at(50)))
    leadership.learn(Leader("two", at(50)))
    await asyncio.sleep(1)
    assert not waiting.done()
    leadership.learn(Leader("one", at(50)))
    await asyncio.wait_for(waiting, 1)
