"""A row that nobody can read is told of once, and holds up no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from core.model.chat import Chat
from core.model.effect import Decision, Effect
from core.model.job import TELEGRAM, Job, Lane, Lease
from core.model.lookup import ByMessage, ByToken, Lookup, OpenQuestions, TaskFilter
from core.model.task import Task
from core.model.transition import TaskState
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
    claimed,
    do,
    later,
    nothing,
    press,
)

MINE = Lease("host-2", later(30))

BROKEN = (
    "message_ids = 'True'",
    "state = 'dreaming', message_ids = ''",
    "progress = '{'",
    "content = '[]'",
    "expires_at = 9000000000000000000",
)


async def with_a_broken_one(store: Store, tasks: list[Task], broken: str = BROKEN[0]) -> str:
    """Store these, each with a job in its chat, and break the row of the first one."""
    for task in tasks:
        job = a_job(task.id, lane=Lane(str(task.chat.id)), expires_at=later(600))
        await add(store, task, lease=None)
        await store.put([job])
    sql = f"UPDATE telegate_tasks SET {broken} WHERE bot = $1 AND id = $2"  # noqa: S608 -- constants only
    await do(store, sql, BOT, tasks[0].id)
    return tasks[0].id


async def with_a_broken_job(store: Store, broken: str) -> list[str]:
    """Two jobs, of which the first cannot be read; returns their subjects."""
    await store.put([a_job("bad", lane=Lane("1")), a_job("fine", lane=Lane("2"))])
    await do(store, f"UPDATE telegate_jobs SET {broken} WHERE subject = 'bad'")  # noqa: S608 -- constants only
    return ["bad", "fine"]


def two(state: TaskState = TaskState.QUEUED, **changes: object) -> list[Task]:
    return [a_question(state, chat=Chat(chat), **changes) for chat in (1, 2)]


async def claim(store: Store, at: datetime, limit: int) -> list[str]:
    """The subjects of what can be claimed."""
    return [job.subject for job, _ in await store.claim(TELEGRAM, at, MINE, limit, claimed, at)]


async def test_what_is_due_is_claimed_beside_a_task_that_cannot_be_read(store: Store) -> None:
    _, fine = tasks = two()
    await with_a_broken_one(store, tasks)
    assert await store.claim_next(TELEGRAM, "1", later(1), MINE, claimed) is None
    assert await claim(store, later(1), 1) == [fine.id]
    assert await claim(store, later(1), 9) == []


async def test_what_was_left_behind_is_taken_over_beside_a_task_that_cannot_be_read(store: Store) -> None:
    _, fine = tasks = two()
    await with_a_broken_one(store, tasks)
    await do(store, "UPDATE telegate_jobs SET lease_holder = 'host-1', lease_until = run_at")
    assert await claim(store, later(99), 10) == [fine.id]


async def test_what_has_expired_is_found_however_many_rows_cannot_be_read(store: Store) -> None:
    _, fine = tasks = two()
    await with_a_broken_one(store, tasks)
    assert [job.subject for job, _ in await store.claim_expired(later(999), MINE, 10)] == [fine.id]
    await store.put([a_job("more", expires_at=later(700), lane=None)])
    # It is known by now, and takes nobody's place.
    more = await store.claim_expired(later(999), replace(MINE, until=later(1_030)), 1)
    assert [job.subject for job, _ in more] == [fine.id]
    assert len(await store.claim_expired(later(1_000), replace(MINE, until=later(1_031)), 1)) == 1


async def test_what_cannot_be_read_does_not_come_due_once_that_is_known(store: Store) -> None:
    tasks = two()
    await with_a_broken_one(store, tasks)
    await do(store, "UPDATE telegate_jobs SET run_at = run_at + 90000 WHERE subject = $1", tasks[1].id)
    assert await store.next_due(NOW) == NOW
    assert await claim(store, later(70), 10) == []
    assert await store.next_due(NOW) == later(90)


async def test_a_task_that_cannot_be_read_holds_up_its_chat_alone(store: Store) -> None:
    await with_a_broken_one(store, two())
    await store.put([a_job("behind it", lane=Lane("1"))])
    assert "behind it" not in await claim(store, later(1), 10)


@pytest.mark.parametrize("broken", ["payload = '{'", "priority = 7", "run_at = -9000000000000000"])
async def test_a_job_that_cannot_be_read_is_told_of_once_and_holds_up_no_other(
    store: Store, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    _, fine = await with_a_broken_job(store, broken)
    assert await claim(store, later(1), 1) in ([], [fine])
    assert await claim(store, later(1), 1) in ([], [fine])
    assert await ask(store, "SELECT lease_holder FROM telegate_jobs ORDER BY id") == [(None,), (MINE.holder,)]
    [line] = [record for record in caplog.records if getattr(record, "action", "") == "row_unreadable"]
    [(job_id, _)] = await ask(store, "SELECT id, kind FROM telegate_jobs WHERE subject = 'bad'")
    assert (line.levelname, line.__dict__["job"]) == ("ERROR", job_id)


async def test_a_job_of_a_kind_that_only_a_newer_version_knows_is_left_to_it(store: Store) -> None:
    await with_a_broken_job(store, "kind = 'dream'")

    def decide(job: Job, _task: Task | None) -> Decision:
        return {"send": nothing}[job.kind]

    taken = await store.claim(TELEGRAM, NOW, MINE, 10, decide, NOW)
    assert [job.subject for job, _ in taken] == ["fine"]
    assert await ask(store, "SELECT lease_holder FROM telegate_jobs WHERE kind = 'dream'") == [(None,)]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_page_leaves_out_what_cannot_be_read_and_tells_it_once(
    store: Store, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    tasks = [a_message() for _ in range(3)][::-1]
    bad = await with_a_broken_one(store, tasks, broken)
    assert await store.page(TaskFilter("ci")) == (tasks[1:], False)
    # Not even a page that would have nothing else is empty, for the next one begins behind its last task.
    assert await store.page(TaskFilter("ci", limit=1)) == ([tasks[1]], True)
    [line] = [record for record in caplog.records if getattr(record, "action", "") == "row_unreadable"]
    assert (line.levelname, line.__dict__["task"]) == ("ERROR", bad)
    assert bad in line.getMessage()


async def test_an_answer_in_words_finds_its_question_beside_a_row_that_cannot_be_read(store: Store) -> None:
    tasks = [a_question(message_ids=(7,)), a_question(message_ids=(8,))]
    await with_a_broken_one(store, tasks)
    seen: dict[int, list[str]] = {}

    lookups: list[Lookup] = [OpenQuestions(OPS), ByMessage(OPS, 7), ByMessage(OPS, 8)]
    for number, lookup in enumerate(lookups):

        def look(found: Sequence[Task], number: int = number) -> Effect:
            seen[number] = [task.id for task in found]
            return Effect()

        assert await store.receive(number, lookup, look, lease=LEASE) is not None
    assert seen == {0: [tasks[1].id], 1: [], 2: [tasks[1].id]}


async def test_a_press_on_a_row_that_cannot_be_read_is_left_to_whoever_can(store: Store) -> None:
    question = a_question()
    await with_a_broken_one(store, [question])
    with pytest.raises(ValueError, match="invalid literal"):
        await store.receive(1, ByToken(question.token), press, lease=LEASE)
    with pytest.raises(ValueError, match="invalid literal"):
        await store.find(question.id)
    await do(store, "UPDATE telegate_tasks SET message_ids = '' WHERE bot = $1", BOT)
    committed = await store.receive(1, ByToken(question.token), press, lease=LEASE)
    assert committed is not None
    assert committed.effect.changes
