"""Tasks are found by whoever may see them, newest first."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.model.chat import Chat
from core.model.lookup import TaskFilter
from core.model.task import Change, Progress, Task, TaskKind
from core.model.transition import Step, TaskState
from infra.store import Store
from tests.contract.store.samples import NOW, a_message, a_question, add, change, later


async def test_another_service_finds_nothing(store: Store) -> None:
    task = await add(store, a_question())
    assert await store.find(task.id, "ci") == task
    assert await store.find(task.id, "billing") is None


async def test_a_task_that_does_not_exist_is_not_found(store: Store) -> None:
    assert await store.find("tsk_01") is None


async def test_who_wrote_sees_what_was_written(store: Store) -> None:
    tasks = [a_message() for _ in range(50)]

    async def write_then_read(task: Task) -> bool:
        await add(store, task)
        return await store.find(task.id) == task

    assert all(await asyncio.gather(*(write_then_read(task) for task in tasks)))


async def test_pages_walk_through_all_tasks_newest_first(store: Store) -> None:
    tasks = [replace(a_message(), id=f"tsk_{number:026}") for number in range(7)]
    for task in tasks:
        await add(store, task)
    seen: list[str] = []
    more = True
    while more:
        page, more = await store.page(TaskFilter("ci", after=seen[-1] if seen else None, limit=3))
        assert len(page) <= 3
        seen += [task.id for task in page]
    assert seen == [task.id for task in reversed(tasks)]


async def test_a_full_last_page_says_that_there_is_no_more(store: Store) -> None:
    await add(store, a_message())
    page, more = await store.page(TaskFilter("ci", limit=1))
    assert (len(page), more) == (1, False)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (TaskFilter("ci"), {"question", "message", "channel"}),
        (TaskFilter("billing"), {"foreign"}),
        (TaskFilter("nobody"), set()),
        (TaskFilter("ci", state=TaskState.ASKED), {"question"}),
        (TaskFilter("ci", kind=TaskKind.MESSAGE), {"message", "channel"}),
        (TaskFilter("ci", chat=815), {"message"}),
        (TaskFilter("ci", chat="@news"), {"channel"}),
        (TaskFilter("ci", among=frozenset()), set()),
        (TaskFilter("ci", among=frozenset({815})), {"message"}),
        (TaskFilter("ci", among=frozenset({815, "@news", 1, 2})), {"message", "channel"}),
        (TaskFilter("ci", among=frozenset({"@new_", "%", "8%"})), set()),
        (TaskFilter("ci", among=frozenset({815, *range(1_000_000, 1_012_000)})), {"message"}),
        (TaskFilter("ci", chat="@news", among=frozenset({815})), set()),
        (TaskFilter("ci", since=later(10)), {"channel"}),
        (TaskFilter("ci", kind=TaskKind.MESSAGE, state=TaskState.QUEUED, chat=815, since=NOW), {"message"}),
    ],
)
async def test_a_list_holds_what_the_filter_names(
    store: Store, wanted: TaskFilter, expected: set[str]
) -> None:
    for task in (
        a_question(jti="question"),
        a_message(jti="message", chat=Chat(815)),
        a_message(jti="channel", chat=Chat("@news"), created_at=later(10)),
        a_message(jti="foreign", service="billing"),
    ):
        await add(store, task)
    page, _ = await store.page(wanted)
    assert {task.jti for task in page} == expected


async def test_how_far_many_tasks_have_come_is_told_at_once(store: Store) -> None:
    tasks = [await add(store, a_question(state)) for state in TaskState]
    moved = await change(store, tasks[0].id, lambda task: Change(task, Step.DELIVERED))
    assert await store.progress([*(task.id for task in tasks), "tsk_nothing"]) == {
        task.id: Progress(2 if task.id == moved.id else 1, task.final) for task in tasks
    }
    assert await store.progress([]) == {}


async def test_ten_thousand_ids_are_looked_at_in_one_call(store: Store) -> None:
    task = await add(store, a_question(TaskState.QUEUED))
    await change(store, task.id, lambda task: Change.to_state(task.cancelled(NOW)))
    ids = [f"tsk_{number:026}" for number in range(10_005)]
    assert await store.progress([*ids, task.id]) == {task.id: Progress(2, final=True)}
