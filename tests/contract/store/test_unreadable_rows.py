"""A row that nobody can read is told of once, and holds up no other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.model.message import Chat
from core.model.task import Lease, Task, TaskState
from core.model.update import ByMessage, ByToken, Effect, Lookup, OpenQuestions
from core.ports import TaskFilter
from infra.store import Store
from tests.contract.store.samples import BOT, OPS, a_message, a_question, do, later, press

MINE = Lease("host-2", later(30))

BROKEN = (
    "message_ids = 'True'",
    "state = 'dreaming', message_ids = ''",
    "progress = '{'",
    "content = '[]'",
    "expires_at = 9000000000000000000",
)


async def with_a_broken_one(store: Store, tasks: list[Task], broken: str = BROKEN[0]) -> str:
    """Store these, and break the row of the first one."""
    for task in tasks:
        await store.add(task, None)
    sql = f"UPDATE tasks SET {broken} WHERE bot = $1 AND id = $2"  # noqa: S608 -- constants only
    await do(store, sql, BOT, tasks[0].id)
    return tasks[0].id


def two(state: TaskState, **changes: object) -> list[Task]:
    return [a_question(state, chat=Chat(chat), **changes) for chat in (1, 2)]


async def test_what_is_due_is_claimed_beside_a_row_that_cannot_be_read(store: Store) -> None:
    _, fine = tasks = two(TaskState.QUEUED)
    await with_a_broken_one(store, tasks)
    assert await store.claim_in(1, later(1), MINE) is None
    assert [task.id for task in await store.claim(later(1), MINE, 1)] == [fine.id]


async def test_what_was_left_behind_is_taken_over_beside_a_row_that_cannot_be_read(store: Store) -> None:
    _, fine = tasks = two(TaskState.SENDING)
    await with_a_broken_one(store, tasks)
    assert [task.id for task in await store.abandoned(later(99), MINE, 10)] == [fine.id]


@pytest.mark.parametrize("state", [TaskState.ASKED, TaskState.SENDING])
async def test_what_is_overdue_is_found_however_many_rows_cannot_be_read(
    store: Store, state: TaskState
) -> None:
    _, fine = tasks = two(state, expires_at=later(60))
    await with_a_broken_one(store, tasks)
    assert await store.overdue(later(999), 10) == [fine.id]
    # It is known by now, and takes nobody's place.
    assert await store.overdue(later(999), 1) == [fine.id]


async def test_a_row_that_cannot_be_read_is_no_deadline_once_that_is_known(store: Store) -> None:
    tasks = [a_question(expires_at=later(60)), a_question(expires_at=later(90))]
    await with_a_broken_one(store, tasks)
    assert await store.next_deadline() == later(60)
    assert await store.overdue(later(70), 10) == []
    assert await store.next_deadline() == later(90)


async def test_decided_questions_are_closed_beside_a_row_that_cannot_be_read(store: Store) -> None:
    tasks = [
        a_question(TaskState.ANSWERED, message_ids=(number,), updated_at=later(number)) for number in (1, 2)
    ]
    await with_a_broken_one(store, tasks)
    assert await store.unclosed(later(50), 10) == [tasks[1]]


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
    seen: list[list[str]] = []

    def look(found: Sequence[Task]) -> Effect:
        seen.append([task.id for task in found])
        return Effect()

    lookups: list[Lookup] = [OpenQuestions(OPS), ByMessage(OPS, 7), ByMessage(OPS, 8)]
    for number, lookup in enumerate(lookups):
        assert await store.receive(number, lookup, look) == Effect()
    assert seen == [[tasks[1].id], [], [tasks[1].id]]


async def test_a_press_on_a_row_that_cannot_be_read_is_left_to_whoever_can(store: Store) -> None:
    question = a_question()
    await with_a_broken_one(store, [question])
    with pytest.raises(ValueError, match="invalid literal"):
        await store.receive(1, ByToken(question.token), press)
    with pytest.raises(ValueError, match="invalid literal"):
        await store.find(question.id)
    await do(store, "UPDATE tasks SET message_ids = '' WHERE bot = $1", BOT)
    effect = await store.receive(1, ByToken(question.token), press)
    assert effect is not None
    assert effect.changes
