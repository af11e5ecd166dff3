"""The heartbeat: one row that all processes share, and what an outage means for open questions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from core.model.cluster import Entry, Finding, Leader, Outage, Presence
from core.model.job import TELEGRAM, Job, Lane, Lease, Priority
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import (
    BOT,
    NOW,
    OPS,
    a_message,
    a_question,
    add,
    ask,
    change,
    claimed,
    later,
    nothing,
    store_over,
)

GAP = Outage(NOW, later(121))
MINE = Lease("host-1", later(500))


def beat(seconds: float, holder: str = "host-1", finding: Finding | None = None) -> Entry:
    """What a process says: it serves, and leads when it may; more than two minutes are an outage."""

    def entry(before: Presence | None) -> tuple[Presence, Outage | None]:
        at = later(seconds)
        leader = before.leader if before is not None else None
        if leader is None or leader.until <= at:
            leader = Leader(holder, later(seconds + 50))
        began = at if before is None else before.served_at
        outage = Outage(began, at) if at - began > timedelta(seconds=120) else None
        return Presence(at, later(-1), leader, finding), outage

    return entry


def open_question(message_id: int, **changes: object) -> Task:
    return a_question(message_ids=(message_id,), **changes)  # type: ignore[arg-type]


async def reprompts(store: Store, at: float = 500) -> list[Job]:
    """The questions that have to ask for another tap, taken off the queue."""
    taken = await store.claim(TELEGRAM, later(at), MINE, 100, claimed, later(at))
    for job, _ in taken:
        assert job.kind == "reprompt"
        assert await store.complete(job, None, nothing, lease=None) is not None
    return sorted((job for job, _ in taken), key=lambda job: job.subject)


async def test_the_first_heartbeat_makes_the_row(store: Store) -> None:
    finding = Finding("ok", "It is stolen.")
    presence = Presence(NOW, later(-1), Leader("host-1", later(50)), finding)
    assert await store.beat(beat(0, finding=finding)) == (presence, None)
    assert await store.beat(lambda before: (before or Presence(later(9)), None)) == (presence, None)


async def test_what_is_said_once_is_known_to_all(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.beat(beat(0))
        await store.beat(beat(20, finding=Finding("ok", "ok")))
    async with open_store() as store:
        presence, outage = await store.beat(lambda before: (before or Presence(later(9)), None))
    assert presence == Presence(later(20), later(-1), Leader("host-1", later(50)), Finding("ok", "ok"))
    assert outage is None


async def test_a_row_may_say_less_than_before(store: Store) -> None:
    await store.beat(beat(0, finding=Finding("ok", "ok")))
    await store.beat(lambda _before: (Presence(later(1)), None))
    assert await store.beat(lambda before: (before or Presence(later(9)), None)) == (Presence(later(1)), None)


@pytest.mark.parametrize("seconds", [60, 120])
async def test_without_an_outage_nothing_asks_for_another_tap(store: Store, seconds: float) -> None:
    await add(store, open_question(1))
    await store.beat(beat(0))
    assert (await store.beat(beat(seconds)))[1] is None
    assert await reprompts(store) == []


async def test_of_all_who_come_back_after_an_outage_one_lets_the_open_questions_ask_for_another_tap(
    store: Store,
) -> None:
    questions = [open_question(number) for number in (1, 2)]
    others = [
        a_question(),
        open_question(3, expires_at=later(121)),
        *(open_question(9, state=state) for state in TaskState if state is not TaskState.ASKED),
        a_message(TaskState.SENT, message_ids=(4,)),
    ]
    for task in (*questions, *others):
        await add(store, task)
    await store.beat(beat(0))
    told = await asyncio.gather(*(store.beat(beat(121, f"host-{number}")) for number in range(5)))
    assert [outage for _, outage in told if outage is not None] == [GAP]
    assert len({presence.leader.holder for presence, _ in told if presence.leader is not None}) == 1
    assert [job.subject for job in await reprompts(store, 121)] == sorted(task.id for task in questions)


async def test_an_entry_that_fails_changes_nothing(store: Store) -> None:
    before = await store.beat(beat(0))

    def fail(_before: Presence | None) -> tuple[Presence, Outage | None]:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is this one
        await store.beat(fail)
    assert await store.beat(lambda found: (found or Presence(later(9)), None)) == before


async def test_a_question_asks_for_another_tap_by_a_job_that_overtakes_and_tells_of_the_outage(
    store: Store,
) -> None:
    task = await add(store, open_question(1))
    assert await store.reprompt(GAP) == 1
    assert await reprompts(store, 120) == []
    [job] = await reprompts(store, 121)
    assert job == Job(
        "reprompt",
        TELEGRAM,
        task.id,
        run_at=later(121),
        lane=Lane(str(OPS)),
        overtakes=True,
        priority=Priority.HIGH,
        key=f"reprompt:{task.id}",
        service="ci",
        payload={"began": GAP.began.isoformat(), "ended": GAP.ended.isoformat()},
        lease=replace(MINE, epoch=1),
        id=job.id,
    )


async def test_a_question_that_asks_again_already_is_left_as_it_is_until_something_happens_to_it(
    store: Store,
) -> None:
    task = await add(store, open_question(1))
    assert await store.reprompt(GAP) == 1
    await reprompts(store)
    await change(store, task.id, lambda found: Change(found, Step.REPROMPTED))
    assert await store.reprompt(GAP) == 0
    await change(store, task.id, lambda found: Change(found, Step.ANSWER_REFUSED))
    assert await store.reprompt(GAP) == 1


async def test_a_second_outage_asks_once_and_begins_its_attempts_anew(store: Store) -> None:
    await add(store, open_question(1))
    await store.reprompt(GAP)
    [(job, task)] = await store.claim(TELEGRAM, later(121), MINE, 9, claimed, later(121))
    assert await store.retry(replace(job, run_at=later(150), attempts=3, lease=job.lease), task, nothing)
    second = Outage(later(130), later(260))
    assert await store.reprompt(second) == 1
    [again] = await reprompts(store)
    assert (again.attempts, again.run_at) == (0, later(150))
    assert again.payload == {"began": second.began.isoformat(), "ended": second.ended.isoformat()}


async def test_a_second_outage_while_a_question_is_being_worked_on_follows(store: Store) -> None:
    await add(store, open_question(1))
    await store.reprompt(GAP)
    [(job, _)] = await store.claim(TELEGRAM, later(121), MINE, 9, claimed, later(121))
    assert await store.reprompt(Outage(later(130), later(260))) == 1
    assert await reprompts(store, 300) == []
    assert await store.complete(job, None, nothing, lease=None) is not None
    assert len(await reprompts(store, 300)) == 1


async def test_of_another_bot_nothing_asks_for_another_tap(store: Store) -> None:
    other = await store_over(store.database, BOT + 1)
    await add(other, open_question(1, bot=BOT + 1))
    assert await store.reprompt(GAP) == 0
    assert await other.reprompt(GAP) == 1
    assert await ask(store, "SELECT bot FROM telegate_jobs") == [(BOT + 1,)]
