"""The engine: a kind of its own gets order, back-off, leases, recovery, expiry and drain for free."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar

import pytest

from core.jobs.kinds.quiet import Quiet, nothing
from core.jobs.runner import LEASE
from core.model.effect import Decision, Effect
from core.model.failure import Failure
from core.model.job import Done, Job, Lane, Later, Outcome, Priority, Unclear
from core.model.retry import RetryPolicy
from core.ports import Run
from tests.fakes.clock import START
from tests.fakes.world import Gateway, World, until

WIDE = Lane("wide", width=3)
NARROW = Lane("narrow")
BROKEN = Failure("telegram_unavailable", "The bell is broken.")


@dataclass(slots=True, kw_only=True)
class Ring(Quiet):
    """Rings a bell: a kind that the engine has never heard of.

    Attributes:
        outcomes: of the next attempts; without one, it is done.
        bugs: are raised by the next attempts instead.
        gate: attempts wait for it, once it is there.
        rung: the subjects that were rung, in order.
        ringing: how many ring now, by lane.
        most: how many rang at once, by lane.
        attempts: the jobs, as each attempt saw them.
        given_up: the jobs that were given up, with the reason.
    """

    name: ClassVar[str] = "ring"
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=1.0, longest=8.0, unclear_tries=2)

    outcomes: deque[Outcome] = field(default_factory=deque)
    bugs: deque[Exception] = field(default_factory=deque)
    gate: asyncio.Event | None = None
    rung: list[str] = field(default_factory=list)
    ringing: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    attempts: list[Job] = field(default_factory=list)
    given_up: list[tuple[str, Failure]] = field(default_factory=list)

    async def run(self, run: Run) -> Outcome:
        """Ring once."""
        job = run.job
        lane = "" if job.lane is None else job.lane.name
        self.attempts.append(job)
        if self.bugs:
            raise self.bugs.popleft()
        self.ringing[lane] += 1
        self.most[lane] = max(self.most[lane], self.ringing[lane])
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.ringing[lane] -= 1
        outcome = self.outcomes.popleft() if self.outcomes else Done(nothing)
        if isinstance(outcome, Done):
            self.rung.append(job.subject)
        return outcome

    def give_up(self, job: Job, why: Failure, at: datetime) -> Decision:
        """Remember it."""
        del at
        self.given_up.append((job.subject, why))
        return nothing


def bell(subject: str, **changes: object) -> Job:
    """A job of that kind, due now."""
    return replace(Job("ring", "ring", subject, run_at=START), **changes)  # type: ignore[arg-type]  # of a Job


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def world(ring: Ring) -> World:
    return World(kinds=(ring,))


async def test_no_more_jobs_of_a_lane_run_at_once_than_its_width_allows(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell(f"bell-{number}", lane=WIDE) for number in range(10)])
    await world.store.put([bell("elsewhere", lane=Lane("other", width=3))])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 4)
    ring.gate.set()
    await gateway.settled()
    while await gateway.pass_time(1):
        pass
    assert ring.most["wide"] == 3
    assert sorted(ring.rung) == sorted([*(f"bell-{number}" for number in range(10)), "elsewhere"])


async def test_an_ordered_lane_runs_its_jobs_one_after_the_other_in_the_order_they_came(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.append(Later(BROKEN))
    later = bell("third", lane=NARROW, priority=Priority.HIGH)
    await world.store.put([bell("first", lane=NARROW), bell("second", lane=NARROW), later])
    await gateway.scheduler.claim_due()
    await gateway.settled()
    assert ring.rung == [], "The first one waits, so nothing may overtake it."
    await gateway.pass_time(1)
    while await gateway.pass_time(1):
        pass
    assert ring.rung == ["first", "second", "third"]
    assert ring.most["narrow"] == 1


async def test_a_job_that_was_not_done_waits_twice_as_long_each_time(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.extend([Later(BROKEN)] * 5)
    await world.store.put([bell("bell")])
    await gateway.pass_time(0)
    for wait in (1, 2, 4, 8, 8):
        before = len(ring.attempts)
        await gateway.pass_time(wait - 0.5)
        assert len(ring.attempts) == before
        await gateway.pass_time(0.5)
        assert len(ring.attempts) == before + 1
    assert ring.rung == ["bell"]
    assert [job.attempts for job in ring.attempts] == [0, 1, 2, 3, 4, 5]


async def test_the_other_side_s_own_wait_uses_no_attempt_and_holds_the_whole_lane(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.append(Later(BROKEN, after=30, counts=False, hold=True))
    await world.store.put([bell("first", lane=WIDE)])
    await gateway.pass_time(0)
    await world.store.put([bell("second", lane=WIDE), bell("elsewhere", lane=NARROW)])
    await gateway.pass_time(29)
    assert ring.rung == ["elsewhere"]
    await gateway.pass_time(1)
    assert sorted(ring.rung) == ["elsewhere", "first", "second"]
    assert ring.attempts[-1].attempts == 0


async def test_a_job_replaces_a_waiting_one_of_the_same_key_and_follows_a_running_one(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("vote-1", key="progress")])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    for number in range(2, 102):
        starter = bell("starter")
        job = bell(f"vote-{number}", key="progress")
        await store_by_effect(world, gateway, starter, Effect(jobs=(job,)))
    await gateway.scheduler.claim_due()
    assert ring.ringing[""] == 1, "While one of its key runs, the next one waits."
    ring.gate.set()
    await gateway.settled()
    await gateway.pass_time(1)
    assert ring.rung == ["vote-1", "vote-101"], "A hundred votes cost two rings."


async def store_by_effect(world: World, gateway: Gateway, job: Job, effect: Effect) -> None:
    """Store an effect as the outcome of a job that was claimed by nobody in particular."""
    await world.store.put([replace(job, queue="starters")])
    lease = gateway.runner.lease()
    now = world.clock.now()
    [(claimed, task)] = await world.store.claim("starters", now, lease, 1, lambda _job, _task: nothing, now)
    committed = await world.store.complete(claimed, task, lambda _task: effect, lease=lease)
    assert committed is not None
    gateway.runner.follow(committed)


async def test_a_job_that_stores_its_next_one_runs_by_a_schedule(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    def hourly(at: datetime) -> Done:
        following = bell("hourly", key="hourly", run_at=at + timedelta(hours=1))
        return Done(lambda _task: Effect(jobs=(following,)))

    ring.outcomes.extend(hourly(START + timedelta(hours=hour)) for hour in range(3))
    await world.store.put([bell("hourly", key="hourly")])
    await gateway.pass_time(0)
    for _ in range(2):
        await gateway.pass_time(3599)
        before = len(ring.rung)
        await gateway.pass_time(1)
        assert len(ring.rung) == before + 1


async def test_cancelling_by_subject_takes_waiting_jobs_away_and_lets_running_ones_end(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("tower")])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    await world.store.put([bell("tower", run_at=START + timedelta(hours=1)), bell("other", run_at=START)])
    await store_by_effect(world, gateway, bell("starter"), Effect(cancels=("tower",)))
    ring.gate.set()
    await gateway.settled()
    await gateway.pass_time(7200)
    assert ring.rung == ["tower", "other"]


async def test_a_job_of_a_dead_process_is_run_by_another_when_its_lease_has_run_out(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("bell")])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    await gateway.crash()
    ring.gate.set()
    heir = world.start()
    world.clock.advance(LEASE.total_seconds() - 1)
    assert await heir.scheduler.claim_due() == 0
    await heir.pass_time(1)
    assert ring.rung == ["bell"]
    assert (ring.attempts[-1].in_doubt, ring.attempts[-1].attempts) == (True, 1)
    await heir.runner.stop(0)


async def test_a_process_that_was_frozen_is_fenced_when_another_has_its_job(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("bell")])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    heir = world.start()
    world.clock.advance(LEASE.total_seconds())
    await heir.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 2)
    # The frozen one waited first, so it gets this outcome, and wakes with a lease that is another's.
    ring.outcomes.append(Done(lambda _task: Effect(jobs=(bell("forged"),))))
    ring.gate.set()
    await gateway.settled()
    await heir.settled()
    await heir.pass_time(60)
    assert ring.rung == ["bell", "bell"]
    await heir.runner.stop(0)


async def test_an_unclear_outcome_is_repeated_as_often_as_the_kind_says(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.extend([Unclear(BROKEN)] * 3)
    await world.store.put([bell("bell")])
    for seconds in (0, 1, 2, 60):
        await gateway.pass_time(seconds)
    assert [job.in_doubt for job in ring.attempts] == [False, True, True]
    assert ring.given_up == [("bell", BROKEN)]
    assert ring.rung == []


async def test_a_job_that_is_never_due_in_time_is_given_up_without_being_run(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.append(Later(BROKEN, after=30))
    await world.store.put(
        [bell("first", lane=NARROW), bell("late", lane=NARROW, expires_at=START + timedelta(seconds=10))]
    )
    await gateway.pass_time(0)
    await gateway.pass_time(10)
    assert [subject for subject, _ in ring.given_up] == ["late"]
    assert [job.subject for job in ring.attempts] == ["first"]


async def test_a_job_that_could_not_be_tried_again_in_time_is_given_up_at_once(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.outcomes.append(Later(BROKEN, after=30))
    await world.store.put([bell("bell", expires_at=START + timedelta(seconds=20))])
    await gateway.pass_time(0)
    assert ring.given_up == [("bell", BROKEN)]


async def test_stopping_lets_running_jobs_end_and_leaves_the_rest_to_the_next_process(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("quick", lane=NARROW), bell("next", lane=NARROW)])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    stopping = asyncio.create_task(gateway.runner.stop(grace=10))
    await asyncio.sleep(0)
    ring.gate.set()
    await stopping
    assert ring.rung == ["quick"]
    heir = world.start()
    await heir.pass_time(0)
    assert ring.rung == ["quick", "next"]
    assert not ring.attempts[-1].in_doubt
    await heir.runner.stop(0)


async def test_what_does_not_end_in_time_when_the_process_stops_is_in_doubt(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    ring.gate = asyncio.Event()
    await world.store.put([bell("slow")])
    await gateway.scheduler.claim_due()
    await until(lambda: len(ring.attempts) == 1)
    await gateway.runner.stop(grace=0)
    ring.gate = None
    heir = world.start()
    await heir.pass_time(0)
    assert ring.rung == ["slow"]
    assert ring.attempts[-1].in_doubt, "Nobody knows what the first attempt did."
    await heir.runner.stop(0)


async def test_a_bug_in_a_kind_stops_no_other_job(world: World, gateway: Gateway, ring: Ring) -> None:
    ring.bugs.append(ZeroDivisionError("a bug"))
    await world.store.put([bell("bad", lane=NARROW), bell("good")])
    await gateway.pass_time(0)
    assert ring.rung == ["good"]
    await gateway.pass_time(1)
    assert ring.rung == ["good", "bad"], "It may have been done, and this kind may be repeated."


async def test_services_take_turns_and_what_is_urgent_goes_first(
    world: World, gateway: Gateway, ring: Ring
) -> None:
    jobs = [bell(f"flood-{number}", service="flood") for number in range(5)]
    jobs += [bell("other-1", service="other"), bell("urgent", service="flood", priority=Priority.URGENT)]
    await world.store.put(jobs)
    now = world.clock.now()
    claimed = await world.store.claim(
        "ring", now, gateway.runner.lease(), 3, lambda _job, _task: nothing, now
    )
    assert {job.subject for job, _ in claimed} == {"urgent", "other-1", "flood-0"}
