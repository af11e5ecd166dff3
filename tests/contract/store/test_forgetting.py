"""Old rows go, with all that belongs to them, and nothing goes that is still needed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.model.task import TaskState
from core.model.update import Effect
from infra.store import Store
from tests.contract.store.samples import BOT, NOW, a_key, a_message, a_question, ask, do, store_over

DAY = timedelta(days=1)
TABLES = ("tasks", "history", "messages", "idempotency")


async def test_a_finished_task_goes_with_all_that_belongs_to_it(store: Store) -> None:
    task = a_question(TaskState.ANSWERED, message_ids=(70,))
    await store.add(task, a_key())
    assert await store.forget(NOW + 31 * DAY, NOW + DAY, 100) == 1
    assert await store.find(task.id) is None
    for table in TABLES:
        assert await _count(store, table) == 0
    _, new = await store.add(a_question(), a_key(fingerprint="bbbb"))
    assert new


@pytest.mark.parametrize("state", list(TaskState))
async def test_only_final_tasks_are_forgotten(store: Store, state: TaskState) -> None:
    task = a_question(state)
    await store.add(task, None)
    assert await store.forget(NOW + 31 * DAY, NOW + DAY, 100) == int(task.final)


async def test_a_task_that_is_not_old_enough_stays(store: Store) -> None:
    await store.add(a_message(TaskState.SENT), None)
    assert await store.forget(NOW + 31 * DAY, NOW, 100) == 0


async def test_a_task_with_a_key_stays_for_72_hours_even_when_retention_is_shorter(store: Store) -> None:
    await store.add(a_message(TaskState.SENT), a_key())
    await store.add(a_message(TaskState.SENT), None)
    assert await store.forget(NOW + 3 * DAY, NOW + 2 * DAY, 100) == 1
    assert await _count(store, "idempotency") == 1
    assert await store.forget(NOW + 3 * DAY + timedelta(seconds=1), NOW + 2 * DAY, 100) == 1


async def test_forgetting_goes_in_bounded_steps_oldest_first(store: Store) -> None:
    newest = a_message(TaskState.SENT, updated_at=NOW + timedelta(hours=1))
    for task in (newest, a_message(TaskState.SENT), a_message(TaskState.SENT)):
        await store.add(task, None)
    assert await store.forget(NOW + 31 * DAY, NOW + DAY, 2) == 2
    assert await store.find(newest.id) == newest
    assert await store.forget(NOW + 31 * DAY, NOW + DAY, 2) == 1


async def test_updates_are_remembered_for_72_hours(store: Store) -> None:
    for update_id in range(7):
        await store.receive(update_id, None, lambda _: Effect())
    await do(store, "UPDATE updates SET at = $1 WHERE update_id < 5", _hours(-72) - 1)
    await do(store, "UPDATE updates SET at = $1 WHERE update_id >= 5", _hours(-72))
    await store.forget(NOW, NOW, 2)
    assert await ask(store, "SELECT update_id FROM updates ORDER BY update_id") == [(5,), (6,)]


async def test_what_was_set_aside_goes_with_finished_tasks(store: Store) -> None:
    for update_id in range(5):
        await store.quarantine(update_id, "No such type.", b"{}")
    await do(store, "UPDATE quarantine SET at = $1 WHERE update_id < 4", _hours(-25))
    await do(store, "UPDATE quarantine SET at = $1 WHERE update_id = 4", _hours(-24))
    await store.forget(NOW, NOW - DAY, 2)
    assert await ask(store, "SELECT update_id FROM quarantine") == [(4,)]


async def test_another_bot_s_rows_stay(store: Store) -> None:
    await store.add(a_message(TaskState.SENT), None)
    other = await store_over(store.database, BOT + 1)
    assert await other.forget(NOW + 31 * DAY, NOW + DAY, 100) == 0


def _hours(hours: int) -> int:
    return round((NOW + timedelta(hours=hours)).timestamp() * 1000)


async def _count(store: Store, table: str) -> object:
    [(count,)] = await ask(store, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 -- names of this file
    return count
