"""A task is stored once, whatever happens beside it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.model.errors import IdempotencyMismatch, Overloaded, StorageUnavailable
from core.model.message import Chat
from core.model.task import Change, TaskState
from core.ports import Idempotency, TaskFilter
from infra.store import Store
from infra.store.sql.rows import milliseconds
from tests.contract.store.samples import (
    BOT,
    NOW,
    Step,
    Unlucky,
    a_key,
    a_message,
    a_question,
    ask,
    history,
    store_over,
)


async def test_a_new_task_is_found_as_it_was_added(store: Store) -> None:
    task = a_question(metadata={"build": "1234"})
    assert await store.add(task, None) == (task, True)
    assert await store.find(task.id) == task


async def test_a_new_task_begins_its_history_with_the_token_that_asked_for_it(store: Store) -> None:
    task = a_message()
    await store.add(task, None)
    assert await history(store, task.id) == [Step(1, milliseconds(NOW), "queued", None, None, "token-1")]


async def test_fifty_parallel_tries_with_one_key_make_one_task(store: Store) -> None:
    results = await asyncio.gather(*(store.add(a_question(), a_key()) for _ in range(50)))
    assert len({task.id for task, _ in results}) == 1
    assert sorted(new for _, new in results) == [False] * 49 + [True]
    assert await ask(store, "SELECT COUNT(*) FROM tasks") == [(1,)]
    assert await ask(store, "SELECT COUNT(*) FROM history") == [(1,)]


async def test_a_repeated_key_gives_the_task_as_it_stands_now(store: Store) -> None:
    task = a_question(TaskState.SENDING)
    await store.add(task, a_key())
    asked = task.asked(NOW)
    await store.amend(task.id, lambda _: Change.to_state(asked))
    assert await store.add(a_question(), a_key()) == (asked, False)


async def test_a_key_with_another_body_is_refused_and_leaves_the_task_alone(store: Store) -> None:
    task = a_question()
    await store.add(task, a_key())
    with pytest.raises(IdempotencyMismatch) as refusal:
        await store.add(a_question(), a_key(fingerprint="bbbb"))
    assert refusal.value.task is None
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
    await store.add(a_question(), a_key())
    _, new = await store.add(a_question(), other)
    assert new


async def test_two_bots_in_one_database_do_not_see_each_other(store: Store) -> None:
    other = await store_over(store.database, BOT + 1)
    task = a_question()
    await store.add(task, a_key())
    _, new = await other.add(a_question(bot=BOT + 1), a_key())
    assert new
    assert await other.find(task.id) is None
    assert await other.amend(task.id, lambda _: None) is None


async def test_a_task_can_be_added_with_the_messages_it_has(store: Store) -> None:
    task = a_question(message_ids=(7, 8))
    await store.add(task, None)
    rows = await ask(store, "SELECT message_id, task, part FROM messages ORDER BY message_id")
    assert rows == [(7, task.id, 0), (8, task.id, 1)]


async def test_a_key_that_another_process_uses_at_the_same_time_makes_no_second_task(store: Store) -> None:
    unlucky = await store_over(Unlucky(store.database, "INSERT INTO idempotency", times=1), BOT)
    task = a_question()
    assert await unlucky.add(task, a_key()) == (task, True)
    assert await ask(store, "SELECT COUNT(*) FROM tasks") == [(1,)]


async def test_a_key_whose_task_is_just_being_forgotten_is_looked_at_again(store: Store) -> None:
    task = a_question()
    await store.add(task, a_key())
    unlucky = await store_over(Unlucky(store.database, "SELECT id, kind", times=1), BOT)
    assert await unlucky.add(a_question(), a_key()) == (task, False)


async def test_who_always_comes_second_is_told_to_try_again(store: Store) -> None:
    unlucky = await store_over(Unlucky(store.database, "INSERT INTO idempotency", times=1_000), BOT)
    with pytest.raises(StorageUnavailable) as refusal:
        await unlucky.add(a_question(), a_key())
    assert refusal.value.retry_after == 3
    assert await ask(store, "SELECT COUNT(*) FROM tasks") == [(0,)]


async def test_a_task_behind_an_unsent_one_in_its_chat_is_stored_as_queued(store: Store) -> None:
    first, second = a_message(TaskState.SENDING), a_message(TaskState.SENDING)
    elsewhere = a_message(TaskState.SENDING, chat=Chat(815))
    assert await store.add(first, None) == (first, True)
    assert await store.add(second, None) == (second.waits(), True)
    assert await store.add(elsewhere, None) == (elsewhere, True)
    assert await store.find(second.id) == second.waits()
    assert [step.what for step in await history(store, second.id)] == ["queued"]


async def test_a_refusal_is_raised_only_when_a_new_task_would_be_made(store: Store) -> None:
    refusal = Overloaded("Too much waits.", retry_after=1)
    task = a_message()
    with pytest.raises(Overloaded):
        await store.add(task, a_key(), refusal)
    assert await store.find(task.id) is None
    await store.add(task, a_key())
    assert await store.add(a_message(), a_key(), refusal) == (task, False)
