"""Old rows are deleted, with all that belongs to them, and nothing that is still needed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.model.effect import Effect
from core.model.job import TELEGRAM
from core.model.transition import TaskState
from infra.store import Store
from tests.contract.store.samples import (
    BOT,
    LEASE,
    NOW,
    a_key,
    a_message,
    a_question,
    add,
    ask,
    do,
    later,
    store_over,
)

DAY = timedelta(days=1)
TABLES = ("telegate_tasks", "telegate_history", "telegate_messages", "telegate_idempotency")


async def test_a_finished_task_goes_with_all_that_belongs_to_it(store: Store) -> None:
    task = a_question(TaskState.ANSWERED, message_ids=(70,))
    await add(store, task, key=a_key())
    assert await store.purge(NOW + 31 * DAY, NOW + DAY, 100) == 1
    assert await store.find(task.id) is None
    for table in TABLES:
        assert await _count(store, table) == 0
    await add(store, a_question(), key=a_key(fingerprint="bbbb"))


@pytest.mark.parametrize("state", list(TaskState))
async def test_only_final_tasks_are_purged(store: Store, state: TaskState) -> None:
    task = a_question(state)
    await add(store, task)
    assert await store.purge(NOW + 31 * DAY, NOW + DAY, 100) == int(task.final)


async def test_a_task_that_is_not_old_enough_stays(store: Store) -> None:
    await add(store, a_message(TaskState.SENT))
    assert await store.purge(NOW + 31 * DAY, NOW, 100) == 0


async def test_a_task_with_a_key_stays_for_72_hours_even_when_retention_is_shorter(store: Store) -> None:
    await add(store, a_message(TaskState.SENT), key=a_key())
    await add(store, a_message(TaskState.SENT))
    assert await store.purge(NOW + 3 * DAY, NOW + 2 * DAY, 100) == 1
    assert await _count(store, "telegate_idempotency") == 1
    assert await store.purge(NOW + 3 * DAY + timedelta(seconds=1), NOW + 2 * DAY, 100) == 1


async def test_purging_goes_in_bounded_steps_oldest_first(store: Store) -> None:
    newest = a_message(TaskState.SENT, updated_at=NOW + timedelta(hours=1))
    for task in (newest, a_message(TaskState.SENT), a_message(TaskState.SENT)):
        await add(store, task)
    assert await store.purge(NOW + 31 * DAY, NOW + DAY, 2) == 2
    assert await store.find(newest.id) == newest
    assert await store.purge(NOW + 31 * DAY, NOW + DAY, 2) == 1


async def test_updates_are_remembered_for_72_hours(store: Store) -> None:
    for update_id in range(7):
        await store.receive(update_id, None, lambda _: Effect(), lease=LEASE)
    await do(store, "UPDATE telegate_updates SET at = $1 WHERE update_id < 5", _hours(-72) - 1)
    await do(store, "UPDATE telegate_updates SET at = $1 WHERE update_id >= 5", _hours(-72))
    await store.purge(NOW, NOW, 2)
    assert await ask(store, "SELECT update_id FROM telegate_updates ORDER BY update_id") == [(5,), (6,)]


async def test_what_was_quarantined_goes_with_finished_tasks(store: Store) -> None:
    for update_id in range(5):
        await store.quarantine(update_id, "No such type.", b"{}")
    await do(store, "UPDATE telegate_quarantine SET at = $1 WHERE update_id < 4", _hours(-25))
    await do(store, "UPDATE telegate_quarantine SET at = $1 WHERE update_id = 4", _hours(-24))
    await store.purge(NOW, NOW - DAY, 2)
    assert await ask(store, "SELECT update_id FROM telegate_quarantine") == [(4,)]


async def test_a_hold_goes_a_minute_after_its_end(store: Store) -> None:
    await store.hold(TELEGRAM, "over", NOW, later(9))
    await store.hold(TELEGRAM, "fresh", later(8), later(10))
    await store.purge(later(70), NOW, 100)
    assert {row[0] for row in await ask(store, "SELECT lane FROM telegate_lanes")} == {"fresh"}


async def test_another_bot_s_rows_stay(store: Store) -> None:
    await add(store, a_message(TaskState.SENT))
    other = await store_over(store.database, BOT + 1)
    assert await other.purge(NOW + 31 * DAY, NOW + DAY, 100) == 0


def _hours(hours: int) -> int:
    return round((NOW + timedelta(hours=hours)).timestamp() * 1000)


async def _count(store: Store, table: str) -> object:
    [(count,)] = await ask(store, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 -- names of this file
    return count
