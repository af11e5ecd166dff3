"""Figures of processes are kept for a minute, and tasks that are not final are counted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

import pytest

from core.model.transition import TaskState
from infra.store import Store
from infra.store.sql.metrics import FORGOTTEN_AFTER, Open, SavedMetrics
from infra.store.sql.rows import milliseconds
from tests.contract.store.samples import BOT, NOW, StoppedClock, a_message, a_question, add, ask, later


@dataclass(frozen=True, slots=True)
class LaterClock:
    """It is always so many seconds after `NOW`."""

    seconds: float

    def now(self) -> datetime:
        return later(self.seconds)


def _at(store: Store, seconds: float) -> Store:
    """The same database, seen so many seconds later."""
    return Store(store.database, BOT, LaterClock(seconds), store._keys)


async def test_figures_are_read_as_they_were_kept(store: Store) -> None:
    assert await store.load_metrics() == []
    await store.save_metrics("two", 1, '{"a":[[[],1]]}')
    await store.save_metrics("one", 1, "{}")
    at = milliseconds(NOW)
    assert await store.load_metrics() == [
        SavedMetrics("one", at, "{}"),
        SavedMetrics("two", at, '{"a":[[[],1]]}'),
    ]


async def test_what_is_kept_later_takes_the_place_of_what_was_kept_before(store: Store) -> None:
    for number in range(1, 4):
        await store.save_metrics("one", number, f"[{number}]")
    assert [kept.told for kept in await store.load_metrics()] == ["[3]"]


async def test_a_write_that_arrives_late_undoes_nothing(store: Store) -> None:
    await store.save_metrics("one", 7, "new")
    await _at(store, 1).save_metrics("one", 6, "old")
    await store.save_metrics("one", 7, "the same again")
    assert [kept.told for kept in await store.load_metrics()] == ["new"]


async def test_many_processes_may_keep_their_figures_at_once(store: Store) -> None:
    await asyncio.gather(*(store.save_metrics(f"p{number:02}", 1, "{}") for number in range(40)))
    assert [kept.process for kept in await store.load_metrics()] == [f"p{number:02}" for number in range(40)]


async def test_a_process_that_is_silent_for_a_minute_is_left_out_and_then_deleted(store: Store) -> None:
    await store.save_metrics("gone", 1, "{}")
    last = FORGOTTEN_AFTER.total_seconds()
    assert [kept.process for kept in await _at(store, last).load_metrics()] == ["gone"]
    assert await _at(store, last + 1).load_metrics() == []
    await _at(store, last + 1).save_metrics("here", 1, "{}")
    assert [row[0] for row in await ask(store, "SELECT process FROM telegate_metrics")] == ["here"]


async def test_a_process_that_was_only_frozen_comes_back(store: Store) -> None:
    await store.save_metrics("frozen", 5, "before")
    woken = _at(store, 300)
    await woken.save_metrics("other", 1, "{}")
    await woken.save_metrics("frozen", 6, "after")
    assert [(kept.process, kept.told) for kept in await woken.load_metrics()] == [
        ("frozen", "after"),
        ("other", "{}"),
    ]


async def test_another_bot_s_figures_are_its_own(store: Store) -> None:
    other = Store(store.database, BOT + 1, StoppedClock(), store._keys)
    await store.save_metrics("one", 1, "ours")
    await other.save_metrics("one", 1, "theirs")
    assert [kept.told for kept in await store.load_metrics()] == ["ours"]
    assert [kept.told for kept in await other.load_metrics()] == ["theirs"]
    await add(store, a_message())
    assert (await other.open_tasks()).by_state == {"queued": 0, "sending": 0, "asked": 0}


async def test_nothing_is_open_in_an_empty_database(store: Store) -> None:
    assert await store.open_tasks() == Open({"queued": 0, "sending": 0, "asked": 0}, 0.0)


async def test_tasks_that_are_not_final_are_counted_by_state(store: Store) -> None:
    for state in (*TaskState, TaskState.ASKED):
        await add(store, a_question(state))
    assert (await store.open_tasks()).by_state == {"queued": 1, "sending": 1, "asked": 2}


@pytest.mark.parametrize("seconds", [0, 90])
async def test_the_age_of_the_oldest_queued_task_is_told(store: Store, seconds: float) -> None:
    await add(store, a_question(TaskState.ASKED))
    await add(store, a_question(TaskState.QUEUED))
    await add(store, a_question(TaskState.QUEUED, created_at=later(30)))
    assert (await _at(store, 30 + seconds).open_tasks()).oldest == 30 + seconds
