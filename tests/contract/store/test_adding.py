"""A task is stored once, whatever happens beside it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.model.chat import Chat
from core.model.effect import Committed
from core.model.errors import IdempotencyMismatch, Overloaded, StorageUnavailable
from core.model.job import TIMERS, Lane
from core.model.lookup import Idempotency, TaskFilter
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from infra.store import Store
from infra.store.sql.rows import milliseconds
from tests.contract.store.samples import (
    BOT,
    LEASE,
    NOW,
    Recorded,
    Unlucky,
    a_job,
    a_key,
    a_message,
    a_question,
    add,
    ask,
    change,
    history,
    later,
    nothing,
    steps,
    store_over,
)


async def hand_in(store: Store, task: Task, key: Idempotency | None) -> tuple[Task, bool]:
    """The task that was stored or found, and whether it is new."""
    stored = await store.add(task, [], lease=None, idempotency=key)
    if isinstance(stored, Task):
        return stored, False
    assert stored.task is not None
    return stored.task, True


async def test_a_new_task_is_found_as_it_was_added(store: Store) -> None:
    task = a_question(metadata={"build": "1234"})
    stored = await store.add(task, [], lease=None, idempotency=None)
    assert isinstance(stored, Committed)
    assert (stored.task, stored.effect.tasks, stored.jobs) == (task, (task,), ())
    assert await store.find(task.id) == task


async def test_a_new_task_begins_its_history_with_the_token_that_asked_for_it(store: Store) -> None:
    task = a_message()
    await add(store, task)
    assert await history(store, task.id) == [
        Recorded(1, milliseconds(NOW), Step.QUEUED, None, None, "token-1")
    ]


async def test_fifty_parallel_tries_with_one_key_make_one_task(store: Store) -> None:
    results = await asyncio.gather(*(hand_in(store, a_question(), a_key()) for _ in range(50)))
    assert len({task.id for task, _ in results}) == 1
    assert sorted(new for _, new in results) == [False] * 49 + [True]
    assert await ask(store, "SELECT COUNT(*) FROM telegate_tasks") == [(1,)]
    assert await ask(store, "SELECT COUNT(*) FROM telegate_history") == [(1,)]


async def test_a_repeated_key_gives_the_task_as_it_stands_now(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING), key=a_key())
    asked = task.asked(NOW)
    await change(store, task.id, lambda _: Change.to_state(asked))
    assert await hand_in(store, a_question(), a_key()) == (asked, False)
    assert await store.made_by(a_key()) == asked


async def test_a_repeated_key_stores_no_jobs(store: Store) -> None:
    await add(store, a_question(), key=a_key())
    await store.add(a_question(), [a_job()], lease=LEASE, idempotency=a_key())
    assert await ask(store, "SELECT COUNT(*) FROM telegate_jobs") == [(0,)]


async def test_a_key_with_another_body_is_refused_and_leaves_the_task_alone(store: Store) -> None:
    task = await add(store, a_question(), key=a_key())
    with pytest.raises(IdempotencyMismatch) as refusal:
        await hand_in(store, a_question(), a_key(fingerprint="bbbb"))
    assert refusal.value.task is None
    with pytest.raises(IdempotencyMismatch):
        await store.made_by(a_key(fingerprint="bbbb"))
    assert await store.page(TaskFilter("ci")) == ([task], False)


@pytest.mark.parametrize(
    "other",
    [
        replace(a_key(), key="order-8"),
        replace(a_key(), route="POST /v1/messages"),
        replace(a_key(), service="billing"),
    ],
)
async def test_a_key_counts_for_its_service_and_route_only(store: Store, other: Idempotency) -> None:
    await add(store, a_question(), key=a_key())
    assert await store.made_by(other) is None
    _, new = await hand_in(store, a_question(), other)
    assert new


async def test_two_bots_in_one_database_do_not_see_each_other(store: Store) -> None:
    other = await store_over(store.database, BOT + 1)
    task = await add(store, a_question(), key=a_key())
    _, new = await hand_in(other, a_question(bot=BOT + 1), a_key())
    assert new
    assert await other.find(task.id) is None
    assert (await other.change(task.id, nothing, lease=None)).task is None


async def test_a_task_can_be_added_with_the_messages_it_has(store: Store) -> None:
    task = await add(store, a_question(message_ids=(7, 8)))
    rows = await ask(store, "SELECT message_id, task, part FROM telegate_messages ORDER BY message_id")
    assert rows == [(7, task.id, 0), (8, task.id, 1)]


async def test_a_key_that_another_process_uses_at_the_same_time_makes_no_second_task(store: Store) -> None:
    unlucky = await store_over(Unlucky(store.database, "INSERT INTO telegate_idempotency", times=1), BOT)
    task = a_question()
    assert await hand_in(unlucky, task, a_key()) == (task, True)
    assert await ask(store, "SELECT COUNT(*) FROM telegate_tasks") == [(1,)]


async def test_a_key_whose_task_is_just_being_purged_is_looked_at_again(store: Store) -> None:
    task = await add(store, a_question(), key=a_key())
    unlucky = await store_over(Unlucky(store.database, "SELECT id, kind", times=1), BOT)
    assert await hand_in(unlucky, a_question(), a_key()) == (task, False)


async def test_who_always_comes_second_is_told_to_try_again(store: Store) -> None:
    unlucky = await store_over(Unlucky(store.database, "INSERT INTO telegate_idempotency", times=1_000), BOT)
    with pytest.raises(StorageUnavailable) as refusal:
        await hand_in(unlucky, a_question(), a_key())
    assert refusal.value.retry_after == 3
    assert await ask(store, "SELECT COUNT(*) FROM telegate_tasks") == [(0,)]


async def test_a_task_whose_turn_has_come_is_sent_at_once_by_whoever_stored_it(store: Store) -> None:
    task = a_message(TaskState.SENDING)
    expiry = a_job(task.id, kind="expire", queue=TIMERS, lane=None, run_at=later(3600))
    stored = await store.add(task, [a_job(task.id), expiry], lease=LEASE, idempotency=None)
    assert isinstance(stored, Committed)
    assert [(job.kind, job.lease) for job in stored.jobs] == [("send", LEASE), ("expire", None)]
    assert stored.task == task
    assert await steps(store, task.id) == [Step.SENDING]


async def test_a_task_behind_an_unsent_one_in_its_chat_is_stored_as_queued(store: Store) -> None:
    first, second = a_message(TaskState.SENDING), a_message(TaskState.SENDING)
    elsewhere = a_message(TaskState.SENDING, chat=Chat(815))
    assert await add(store, first, a_job(first.id)) == first
    assert await add(store, second, a_job(second.id)) == second.waiting()
    assert await add(store, elsewhere, a_job(elsewhere.id, lane=Lane("815"))) == elsewhere
    assert await store.find(second.id) == second.waiting()
    assert await steps(store, second.id) == [Step.QUEUED]


async def test_a_task_that_nobody_has_room_for_is_stored_as_queued(store: Store) -> None:
    task = a_message(TaskState.SENDING)
    assert await add(store, task, a_job(task.id), lease=None) == task.waiting()
    later_task = a_message(TaskState.SENDING, chat=Chat(815))
    due_later = a_job(later_task.id, lane=None, run_at=later(1))
    assert await add(store, later_task, due_later) == later_task.waiting()


async def test_a_refusal_is_raised_only_when_a_new_task_would_be_made(store: Store) -> None:
    refusal = Overloaded("Too much waits.", retry_after=1)
    task = a_message()
    with pytest.raises(Overloaded):
        await store.add(task, [], lease=None, idempotency=a_key(), refusal=refusal)
    assert await store.find(task.id) is None
    await add(store, task, key=a_key())
    found = await store.add(a_message(), [], lease=None, idempotency=a_key(), refusal=refusal)
    assert found == task
