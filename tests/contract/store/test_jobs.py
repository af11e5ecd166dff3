"""Jobs are claimed in their order, run by one process at a time, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from core.model.effect import NOTHING, Committed, Decision, Effect
from core.model.job import EXPIRY_GRACE, TELEGRAM, TIMERS, Job, Lane, Lease, Priority
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from infra.store import Store
from tests.contract.store.samples import (
    BOT,
    LEASE,
    NOW,
    OPS,
    a_job,
    a_message,
    a_question,
    add,
    ask,
    change,
    claimed,
    later,
    nothing,
    steps,
    store_over,
)

MINE = Lease("host-2", later(60))
"""Of the process that claims, beside the one that has `LEASE`."""

FORGOTTEN = timedelta(seconds=15)


def in_no_lane(subject: str, **changes: object) -> Job:
    return a_job(subject, **({"lane": None} | changes))


def wide(subject: str, **changes: object) -> Job:
    """A job of a lane in which three run at once."""
    return a_job(subject, **({"queue": "deliveries", "lane": Lane("ci@host", 3)} | changes))


async def claim(
    store: Store, at: datetime = NOW, limit: int = 10, *, queue: str = TELEGRAM, lease: Lease = MINE
) -> list[Job]:
    """What can be claimed, without the tasks; the oldest first."""
    taken = await store.claim(queue, at, lease, limit, claimed, at + FORGOTTEN)
    return sorted((job for job, _ in taken), key=lambda job: job.id)


def subjects(jobs: Collection[Job]) -> list[str]:
    return [job.subject for job in jobs]


async def run(store: Store, *jobs: Job, lease: Lease | None = LEASE) -> Sequence[Job]:
    """Store jobs as an effect does: what is due and free begins at once."""
    committed = await store.change("nothing", lambda _: Effect(jobs=jobs), lease=lease)
    return committed.jobs


async def begin(store: Store, job: Job) -> Job:
    """Store a job that begins at once."""
    [begun] = await run(store, job)
    assert begun.lease == LEASE
    return begun


async def end(store: Store, job: Job) -> None:
    assert await store.complete(job, None, nothing, lease=None) is not None


# Claiming


async def test_a_job_comes_back_as_it_was_stored(store: Store) -> None:
    job = Job(
        "deliver",
        TELEGRAM,
        "cmd_1",
        run_at=later(-1),
        expires_at=later(90),
        lane=Lane("ci@host", 7),
        overtakes=True,
        priority=Priority.URGENT,
        key="deliver:cmd_1",
        service="ci",
        attempts=3,
        in_doubt=True,
        payload={"url": "https://host/\u0001ü", "x": ""},
    )
    await store.put([job])
    [found] = await claim(store)
    assert found == replace(job, id=found.id, lease=replace(MINE, epoch=1))


async def test_what_is_due_is_claimed_once(store: Store) -> None:
    await store.put(
        [in_no_lane(name, run_at=later(seconds)) for name, seconds in (("a", 3), ("b", 4), ("c", 1))]
    )
    assert await claim(store, later(0.9)) == []
    assert subjects(await claim(store, later(3))) == ["a", "c"]
    assert await claim(store, later(3)) == []
    assert subjects(await claim(store, later(4))) == ["b"]


async def test_each_queue_is_claimed_from_alone(store: Store) -> None:
    await store.put([in_no_lane("a"), in_no_lane("b", queue=TIMERS)])
    assert subjects(await claim(store, queue=TIMERS)) == ["b"]
    assert subjects(await claim(store)) == ["a"]


async def test_a_claimed_job_brings_its_task_as_it_then_stands(store: Store) -> None:
    task = await add(store, a_message())
    await store.put([in_no_lane(task.id), in_no_lane("gone")])
    before: list[tuple[Job, Task | None]] = []

    def sends(job: Job, about: Task | None) -> Decision:
        before.append((job, about))
        return lambda task: (
            NOTHING if task is None else Effect(changes=(Change.to_state(task.sending(later(1))),))
        )

    taken = await store.claim(TELEGRAM, later(1), MINE, 10, sends, later(16))
    assert {job.subject: about for job, about in taken} == {task.id: task.sending(later(1)), "gone": None}
    assert next((job.lease, about) for job, about in before if about is not None) == (None, task)
    assert await store.find(task.id) == task.sending(later(1))
    assert await steps(store, task.id) == [Step.QUEUED, Step.SENDING]


async def test_two_who_claim_at_once_share_no_job(store: Store) -> None:
    await store.put([in_no_lane(str(number)) for number in range(20)])
    shares = await asyncio.gather(*(claim(store, lease=Lease(f"host-{n}", later(9))) for n in range(3)))
    found = [job.id for share in shares for job in share]
    assert len(found) == len(set(found)) == 20


async def test_another_bot_s_jobs_are_its_own(store: Store) -> None:
    other = await store_over(store.database, BOT + 1)
    await store.put([a_job("ours", key="k")])
    await other.put([a_job("theirs", key="k")])
    await other.hold(TELEGRAM, "", NOW, later(60))
    assert subjects(await claim(store)) == ["ours"]
    assert await other.claim_next(TELEGRAM, str(OPS), NOW, MINE, claimed) is None
    assert await other.waiting(TELEGRAM) == {"ci": 1}


# Whose turn it is


async def test_services_take_turns_and_the_urgent_go_first(store: Store) -> None:
    flood = [in_no_lane(f"flood {number}", service="billing") for number in range(5)]
    few = [
        in_no_lane("late", priority=Priority.LOW),
        in_no_lane("normal"),
        in_no_lane("question", priority=Priority.HIGH),
    ]
    await store.put([*flood, *few])
    assert await store.waiting(TELEGRAM) == {"billing": 5, "ci": 3}
    assert subjects(await claim(store, limit=3)) == ["flood 0", "flood 1", "question"]
    assert subjects(await claim(store, limit=2)) == ["flood 2", "normal"]
    assert subjects(await claim(store, limit=9)) == ["flood 3", "flood 4", "late"]
    assert await store.waiting(TELEGRAM) == {}


async def test_of_two_services_the_one_with_the_urgent_job_goes_first(store: Store) -> None:
    await store.put([in_no_lane("normal", service="ci")])
    await store.put([in_no_lane("urgent", service="billing", priority=Priority.URGENT)])
    assert subjects(await claim(store, limit=1)) == ["urgent"]


async def test_the_jobs_of_an_ordered_lane_run_one_after_the_other(store: Store) -> None:
    begun = await begin(store, a_job("first"))
    await run(store, a_job("second", priority=Priority.HIGH), a_job("third"))
    assert await claim(store) == []
    assert await store.claim_next(TELEGRAM, str(OPS), NOW, MINE, claimed) is None
    await end(store, begun)
    taken = await store.claim_next(TELEGRAM, str(OPS), NOW, MINE, claimed)
    assert taken is not None
    assert (taken[0].subject, taken[0].lease) == ("second", MINE)
    assert await store.claim_next(TELEGRAM, str(OPS), NOW, MINE, claimed) is None
    await end(store, taken[0])
    assert subjects(await claim(store)) == ["third"]


async def test_a_first_job_that_has_to_wait_lets_nobody_pass(store: Store) -> None:
    await store.put([a_job("first", run_at=later(30)), a_job("second")])
    assert await claim(store, later(29)) == []
    assert await store.claim_next(TELEGRAM, str(OPS), later(29), MINE, claimed) is None
    [behind] = await run(store, a_job("third"))
    assert behind.lease is None
    assert await store.next_due(NOW) == later(30)
    assert subjects(await claim(store, later(30))) == ["first"]


async def test_a_job_that_may_have_been_done_holds_up_nobody_while_it_waits(store: Store) -> None:
    doubtful = await begin(store, a_job("doubtful"))
    waiting = replace(doubtful, run_at=later(5), attempts=1, in_doubt=True)
    assert await store.retry(waiting, None, nothing) is not None
    second = await begin(store, a_job("second"))
    await run(store, a_job("third"))
    # It runs beside what has passed it by.
    assert subjects(await claim(store, later(5))) == ["doubtful"]
    await end(store, second)
    assert await claim(store, later(5)) == []


async def test_what_overtakes_waits_for_nobody_and_holds_up_nobody(store: Store) -> None:
    first = await begin(store, a_job("first"))
    await begin(store, a_job("overtakes", overtakes=True))
    await store.put([a_job("second"), a_job("overtakes, too", overtakes=True)])
    assert subjects(await claim(store)) == ["overtakes, too"]
    await end(store, first)
    assert subjects(await claim(store)) == ["second"]


async def test_lanes_of_the_same_name_in_two_queues_have_nothing_to_do_with_each_other(store: Store) -> None:
    await begin(store, a_job("first"))
    await store.hold(TELEGRAM, str(OPS), NOW, later(60))
    await begin(store, a_job("second", queue="other"))


async def test_in_a_lane_of_width_three_three_run_at_once(store: Store) -> None:
    begun = [await begin(store, wide("a")), await begin(store, wide("b"))]
    await store.put([wide("urgent", priority=Priority.HIGH), wide("d"), wide("e")])
    assert subjects(await claim(store, queue="deliveries")) == ["urgent"]
    assert await claim(store, queue="deliveries") == []
    await end(store, begun[0])
    assert subjects(await claim(store, queue="deliveries")) == ["d"]


async def test_of_a_wide_lane_no_more_are_claimed_than_its_width_leaves(store: Store) -> None:
    await begin(store, wide("runs"))
    await store.put([wide(str(number)) for number in range(4)])
    await store.put([wide("first", priority=Priority.URGENT), wide("elsewhere", lane=Lane("ci@other", 3))])
    taken = await claim(store, queue="deliveries")
    assert subjects(taken) == ["0", "first", "elsewhere"]
    assert await claim(store, queue="deliveries") == []
    [waiting] = await run(store, wide("new"))
    assert waiting.lease is None
    await end(store, taken[0])
    # Whoever comes first has the room; in a wide lane there is no order.
    await begin(store, wide("newest"))


async def test_a_job_of_a_full_wide_lane_is_not_due(store: Store) -> None:
    begun = [await begin(store, wide(name)) for name in ("a", "b", "c")]
    await store.put([wide("d")])
    assert await store.next_due(NOW) == LEASE.until
    await end(store, begun[1])
    assert await store.next_due(NOW) == NOW


# Holds


async def test_nothing_of_a_held_lane_runs_not_even_what_overtakes(store: Store) -> None:
    await store.put([a_job("a"), a_job("b", overtakes=True), a_job("c", lane=Lane("815"))])
    await store.hold(TELEGRAM, str(OPS), NOW, later(30))
    assert subjects(await claim(store, later(29))) == ["c"]
    assert await store.claim_next(TELEGRAM, str(OPS), later(29), MINE, claimed) is None
    [stored] = await run(store, a_job("d", overtakes=True))
    assert stored.lease is None
    assert await store.next_due(later(1)) == later(30)
    assert subjects(await claim(store, later(30))) == ["a", "b", "d"]


async def test_a_held_queue_holds_every_lane_and_what_has_none(store: Store) -> None:
    await store.put([a_job("a"), in_no_lane("b"), in_no_lane("c", queue=TIMERS)])
    await store.hold(TELEGRAM, "", NOW, later(30))
    assert await claim(store, later(29)) == []
    [stored] = await run(store, in_no_lane("d"))
    assert stored.lease is None
    assert subjects(await claim(store, later(29), queue=TIMERS)) == ["c"]
    assert subjects(await claim(store, later(30))) == ["a", "b", "d"]


async def test_a_hold_is_kept_and_a_shorter_one_does_not_end_it(store: Store) -> None:
    await store.hold(TELEGRAM, "815", NOW, later(60))
    await store.hold(TELEGRAM, "815", later(1), later(2))
    assert await store.holds(TELEGRAM, later(1)) == {"815": later(60)}
    assert await store.holds("other", later(1)) == {}
    assert await store.holds(TELEGRAM, later(60)) == {}


async def test_two_lanes_held_within_five_seconds_hold_the_whole_queue(store: Store) -> None:
    await store.hold(TELEGRAM, "815", NOW, later(10))
    await store.hold(TELEGRAM, "@news", later(4.9), later(20))
    assert await store.holds(TELEGRAM, NOW) == {"815": later(10), "@news": later(20), "": later(10)}


async def test_two_lanes_held_further_apart_hold_only_themselves(store: Store) -> None:
    await store.hold(TELEGRAM, "815", NOW, later(10))
    await store.hold(TELEGRAM, "@news", later(5), later(20))
    assert set(await store.holds(TELEGRAM, NOW)) == {"815", "@news"}


@pytest.mark.parametrize(
    "seconds", [(2, 81_227), (81_227, 2), (2, 81_227, 81_000), (81_227, 2, 81_000), (81_227, 60, 2)]
)
async def test_one_lane_that_is_held_for_a_day_does_not_hold_everybody_for_a_day(
    store: Store, seconds: tuple[int, ...]
) -> None:
    for number, wait in enumerate(seconds):
        await store.hold(TELEGRAM, f"chat {number}", later(number), later(number + wait))
    everybody = (await store.holds(TELEGRAM, later(1)))[""]
    # A third that waits for long does not make it longer.
    assert everybody == min(later(number + wait) for number, wait in enumerate(seconds[:2]))


async def test_a_queue_is_never_held_for_less_than_it_was(store: Store) -> None:
    await store.hold(TELEGRAM, "", NOW, later(50))
    await store.hold(TELEGRAM, "a", NOW, later(2))
    await store.hold(TELEGRAM, "b", NOW, later(3))
    assert (await store.holds(TELEGRAM, NOW))[""] == later(50)


async def test_when_a_group_moves_its_jobs_and_its_hold_move_along(store: Store) -> None:
    first = await begin(store, a_job("first"))
    await store.put([a_job("second"), a_job("elsewhere", queue="other")])
    await store.hold(TELEGRAM, "-1009", later(-60), later(5))
    await store.hold(TELEGRAM, str(OPS), NOW, later(9))
    await store.move_chat(OPS, -1009)
    assert await store.holds(TELEGRAM, NOW) == {"-1009": later(9)}
    await end(store, first)
    taken = await store.claim_next(TELEGRAM, "-1009", later(9), MINE, claimed)
    assert taken is not None
    assert (taken[0].subject, taken[0].lane) == ("second", Lane("-1009"))
    assert [job.lane for job in await claim(store, queue="other")] == [Lane(str(OPS))]


# Keys


async def test_a_waiting_job_is_replaced_by_one_of_the_same_key(store: Store) -> None:
    await store.put([in_no_lane("old", key="k", run_at=later(5), attempts=4, payload={"text": "old"})])
    new = in_no_lane(
        "new",
        key="k",
        kind="edit",
        run_at=later(7),
        expires_at=later(99),
        priority=Priority.LOW,
        payload={"a": "b"},
    )
    [stored] = await run(store, new)
    assert await claim(store, later(6)) == []
    [found] = await claim(store, later(7))
    assert found == replace(new, id=stored.id, lease=replace(MINE, epoch=1))


async def test_a_waiting_job_that_is_put_again_stays_as_it_is(store: Store) -> None:
    await store.put([in_no_lane("old", key="k", run_at=later(5))])
    await store.put([in_no_lane("new", key="k"), in_no_lane("other", key="l")])
    assert subjects(await claim(store)) == ["other"]
    assert subjects(await claim(store, later(5))) == ["old"]


async def test_a_job_waits_while_one_of_the_same_key_runs_and_then_follows(store: Store) -> None:
    running = await begin(store, in_no_lane("running", key="k"))
    for name in ("second", "third"):
        [follows] = await run(store, in_no_lane(name, key="k"))
        assert follows.lease is None
    assert await claim(store) == []
    assert await store.next_due(NOW) == LEASE.until
    await end(store, running)
    assert subjects(await claim(store)) == ["third"]


async def test_a_job_that_is_retried_gives_way_to_one_of_the_same_key(store: Store) -> None:
    running = await begin(store, in_no_lane("running", key="k"))
    await run(store, in_no_lane("new", key="k"))
    assert await store.retry(replace(running, attempts=1), None, nothing) is not None
    [found] = await claim(store)
    assert (found.subject, found.attempts) == ("new", 0)


async def test_a_job_with_a_key_that_is_retried_waits_with_what_is_known_about_it(store: Store) -> None:
    running = await begin(store, in_no_lane("running", key="k", payload={"a": "b"}))
    again = replace(running, run_at=later(5), attempts=1, in_doubt=True)
    assert await store.retry(again, None, nothing) is not None
    assert await claim(store) == []
    [found] = await claim(store, later(5))
    assert found == replace(again, id=found.id, lease=replace(MINE, epoch=1))
    assert await store.retry(again, None, nothing) is None
    assert await store.complete(running, None, nothing, lease=None) is None


async def test_a_job_of_a_key_that_runs_is_taken_over_before_the_one_that_follows(store: Store) -> None:
    await begin(store, in_no_lane("running", key="k"))
    await run(store, in_no_lane("follows", key="k"))
    assert subjects(await claim(store, LEASE.until)) == ["running"]


# Outcomes


async def test_a_job_is_gone_with_its_outcome_and_what_follows_begins(store: Store) -> None:
    task = a_message(TaskState.SENDING)
    stored = await store.add(task, [a_job(task.id)], lease=LEASE, idempotency=None)
    assert isinstance(stored, Committed)
    [job] = stored.jobs
    following = in_no_lane(task.id, kind="tell")

    def sent(task: Task | None) -> Effect:
        assert task is not None
        return Effect(
            changes=(Change.to_state(task.with_message(later(1), 7).sent(later(1))),), jobs=(following,)
        )

    done = await store.complete(job, stored.task, sent, lease=LEASE)
    assert done is not None
    assert (done.task and done.task.message_ids, done.lease_lost) == ((7,), False)
    assert [(job.kind, job.lease) for job in done.jobs] == [("tell", LEASE)]
    assert await store.find(task.id) == done.task
    assert await ask(store, "SELECT kind FROM telegate_jobs") == [("tell",)]
    assert await store.complete(job, stored.task, sent, lease=LEASE) is None


async def test_a_task_that_is_as_it_is_known_is_decided_about_without_being_read(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING))
    job = await begin(store, a_job(task.id))
    seen: list[Task | None] = []

    def asked(current: Task | None) -> Effect:
        seen.append(current)
        assert current is not None
        return Effect(changes=(Change.to_state(current.with_message(later(1), 70).asked(later(1))),))

    done = await store.complete(job, task, asked, lease=None)
    assert done is not None
    assert done.task is not None
    assert (done.task.state, done.task.message_ids, done.task.steps) == (TaskState.ASKED, (70,), 2)
    assert all(one is task for one in seen)
    assert await store.find(task.id) == done.task
    assert await steps(store, task.id) == [Step.SENDING, Step.ASKED]


async def test_a_task_that_has_moved_on_is_decided_about_by_its_row(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING))
    job = await begin(store, a_job(task.id))
    cancelled = await change(store, task.id, lambda task: Change.to_state(task.cancelled(later(1))))
    seen: set[TaskState] = set()

    def asked(current: Task | None) -> Effect:
        assert current is not None
        seen.add(current.state)
        return NOTHING if current.final else Effect(changes=(Change.to_state(current.asked(later(2))),))

    done = await store.complete(job, task, asked, lease=None)
    assert done is not None
    assert (done.task, seen) == (cancelled, {TaskState.SENDING, TaskState.CANCELLED})


async def test_a_job_that_is_retried_waits_with_what_is_known_about_it(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENDING))
    job = await begin(store, a_job(task.id))

    def queued(task: Task | None) -> Effect:
        assert task is not None
        return Effect(changes=(Change.to_state(task.queued_again(later(1), None, later(5))),))

    again = replace(job, run_at=later(5), attempts=2, lane=Lane("-1009"))
    done = await store.retry(again, task, queued)
    assert done is not None
    assert (done.task and done.task.state, done.jobs) == (TaskState.QUEUED, ())
    assert await claim(store, later(4)) == []
    [found] = await claim(store, later(5))
    assert found == replace(again, lease=replace(MINE, epoch=2))
    assert await store.retry(again, task, queued) is None


async def test_a_step_in_the_middle_is_stored_and_the_lease_goes_on(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENDING))
    job = await begin(store, a_job(task.id))
    longer = replace(LEASE, until=later(40))

    def part(task: Task | None) -> Effect:
        assert task is not None
        return Effect(changes=(Change(task.with_message(later(9), 7), Step.PART_SENT),))

    moved = replace(job, lane=Lane("-1009"))
    recorded = await store.record(moved, task, part, longer)
    assert (recorded.task and recorded.task.message_ids, recorded.lease_lost) == ((7,), False)
    assert await claim(store, LEASE.until, lease=MINE) == []
    [taken] = await claim(store, later(40), lease=MINE)
    assert taken.lane == Lane("-1009")
    # Whoever has lost it still says what Telegram did.
    again = await store.record(moved, recorded.task, _part(8), replace(LEASE, until=later(99)))
    assert (again.task and again.task.message_ids, again.lease_lost) == ((7, 8), True)
    assert await claim(store, MINE.until, lease=LEASE) != []


async def test_whoever_lost_the_lease_stores_only_what_is_proved(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENDING))
    job = await begin(store, a_job(task.id))
    [taken] = await claim(store, LEASE.until)
    assert await store.complete(job, task, _part(7), lease=None) is None
    assert await store.retry(replace(job, run_at=NOW), task, _part(7)) is None
    assert await store.find(task.id) == task
    done = await store.complete(job, task, _part(7), lease=None, proof=True)
    assert done is not None
    assert (done.lease_lost, done.task and done.task.message_ids) == (True, (7,))
    assert await store.renew([taken], later(99)) == {taken.id}


async def test_a_job_is_cancelled_by_its_subject_unless_it_runs(store: Store) -> None:
    running = await begin(store, a_job("question"))
    await store.put([in_no_lane("question", kind="remind"), in_no_lane("other")])
    await store.change("nothing", lambda _: Effect(cancels=("question",)), lease=None)
    assert subjects(await claim(store)) == ["other"]
    assert await store.renew([running], later(99)) == {running.id}


# Leases


async def test_leases_are_renewed_for_whoever_still_has_them(store: Store) -> None:
    mine, lost = await begin(store, in_no_lane("mine")), await begin(store, in_no_lane("lost"))
    gone = await begin(store, in_no_lane("gone"))
    await end(store, gone)
    assert await store.renew([mine], later(50)) == {mine.id}
    assert subjects(await claim(store, LEASE.until)) == ["lost"]
    assert await store.renew([mine, lost, gone], later(90)) == {mine.id}
    assert await store.renew([], later(90)) == set()
    assert subjects(await claim(store, later(89), lease=replace(MINE, until=later(119)))) == ["lost"]
    assert subjects(await claim(store, later(90))) == ["mine"]


async def test_a_job_that_was_claimed_anew_is_not_its_former_holder_s_although_that_is_the_same(
    store: Store,
) -> None:
    first = await begin(store, in_no_lane("a"))
    [second] = await claim(store, LEASE.until, lease=replace(LEASE, until=later(60)))
    assert second.lease == Lease(LEASE.holder, later(60), epoch=2)
    assert await store.renew([first], later(99)) == set()
    assert await store.complete(first, None, nothing, lease=None) is None
    assert await store.complete(second, None, nothing, lease=None) is not None


async def test_a_dead_process_s_job_is_taken_over_in_doubt_and_has_used_an_attempt(store: Store) -> None:
    await begin(store, a_job("a", attempts=4))
    before: list[Job] = []

    def look(job: Job, _task: Task | None) -> Decision:
        before.append(job)
        return nothing

    assert await claim(store, LEASE.until - timedelta(milliseconds=1)) == []
    [(job, _)] = await store.claim(TELEGRAM, LEASE.until, MINE, 10, look, LEASE.until)
    assert (job.in_doubt, job.attempts, job.lease) == (True, 1, replace(MINE, epoch=2))
    assert before[0] == replace(job, lease=LEASE)
    [again] = await claim(store, MINE.until, lease=Lease("host-3", later(99)))
    assert (again.in_doubt, again.attempts) == (True, 2)


async def test_what_this_very_process_holds_and_has_forgotten_is_in_no_doubt(store: Store) -> None:
    await begin(store, a_job("forgotten", attempts=1))
    await begin(store, in_no_lane("a", lease=None))
    at = LEASE.until - FORGOTTEN
    longer = replace(LEASE, until=later(60))
    assert await claim(store, at, lease=MINE) == []
    assert await claim(store, at - timedelta(milliseconds=1), lease=longer) == []
    found = await claim(store, at, lease=longer)
    assert [(job.subject, job.in_doubt, job.attempts) for job in found] == [
        ("forgotten", False, 1),
        ("a", False, 0),
    ]
    assert [job.lease for job in found] == [replace(longer, epoch=2)] * 2


async def test_taking_over_stops_at_the_limit_and_goes_on(store: Store) -> None:
    for number in range(3):
        await begin(store, in_no_lane(str(number)))
    assert len(await claim(store, LEASE.until, limit=2)) == 2
    assert len(await claim(store, LEASE.until, limit=2)) == 1


async def test_jobs_of_a_full_wide_lane_are_taken_over(store: Store) -> None:
    for number in range(3):
        await begin(store, wide(str(number)))
    await store.put([wide("waits")])
    assert subjects(await claim(store, LEASE.until, queue="deliveries")) == ["0", "1", "2"]


async def test_a_process_that_has_the_database_for_itself_ends_all_leases(store: Store) -> None:
    await begin(store, in_no_lane("a"))
    await store.put([in_no_lane("waits", run_at=later(60))])
    assert await store.break_leases(later(1)) == 1
    [job] = await claim(store, later(1))
    assert (job.subject, job.in_doubt) == ("a", True)


# Giving up


async def test_what_was_not_run_in_time_is_claimed_to_be_given_up_whatever_holds_it_up(store: Store) -> None:
    task = await add(store, a_question(TaskState.QUEUED))
    await begin(store, a_job("first"))
    await store.put(
        [
            a_job(task.id, expires_at=later(9)),
            in_no_lane("older", expires_at=later(8), run_at=later(30)),
            in_no_lane("later", expires_at=later(10), run_at=later(30)),
            in_no_lane("never"),
        ]
    )
    await store.hold(TELEGRAM, "", NOW, later(60))
    assert await store.claim_expired(later(7), MINE, 10) == []
    assert await store.next_due(later(7)) == later(8)
    [(older, _)] = await store.claim_expired(later(9), MINE, 1)
    [(job, about)] = await store.claim_expired(later(9), MINE, 10)
    assert (older.subject, job.subject, about) == ("older", task.id, task)
    assert (job.in_doubt, job.lease) == (False, MINE)
    assert await store.claim_expired(later(9), MINE, 10) == []


async def test_what_has_expired_is_not_claimed_to_be_run(store: Store) -> None:
    await store.put([a_job("a", expires_at=later(9)), in_no_lane("b", expires_at=later(9))])
    assert await claim(store, later(9)) == []
    assert await store.claim_next(TELEGRAM, str(OPS), later(9), MINE, claimed) is None


async def test_what_still_runs_after_its_end_is_taken_from_its_holder_after_a_moment(store: Store) -> None:
    job = await begin(store, a_job("a", expires_at=later(9)))
    over = later(9) + EXPIRY_GRACE
    assert await store.claim_expired(over - timedelta(milliseconds=1), MINE, 10) == []
    [(taken, _)] = await store.claim_expired(over, MINE, 10)
    assert (taken.in_doubt, taken.lease) == (True, replace(MINE, epoch=2))
    assert await store.complete(job, None, nothing, lease=None) is None
    # Whoever has it now gets a moment to give it up.
    assert await store.claim_expired(over + timedelta(seconds=1), replace(MINE, until=later(61)), 10) == []
    assert await store.claim_expired(over + EXPIRY_GRACE, replace(MINE, until=later(62)), 10) != []


# What comes due


async def test_without_jobs_nothing_comes_due(store: Store) -> None:
    await store.hold(TELEGRAM, "815", NOW, later(9))
    assert await store.next_due(NOW) is None


async def test_the_next_that_comes_due_is_the_earliest_of_all_kinds(store: Store) -> None:
    await store.put([in_no_lane("a", run_at=later(50))])
    assert await store.next_due(NOW) == later(50)
    await begin(store, in_no_lane("b", queue=TIMERS))
    assert await store.next_due(NOW) == LEASE.until
    await store.put([in_no_lane("c", run_at=later(60), expires_at=later(25))])
    assert await store.next_due(NOW) == later(25)
    await store.put([a_job("d")])
    await store.hold(TELEGRAM, str(OPS), NOW, later(20))
    assert await store.next_due(NOW) == later(20)
    await store.put([in_no_lane("e", queue="other", run_at=later(10))])
    assert await store.next_due(NOW) == later(10)


def _part(message_id: int) -> Decision:
    def part(task: Task | None) -> Effect:
        assert task is not None
        return Effect(changes=(Change(task.with_message(later(9), message_id), Step.PART_SENT),))

    return part
