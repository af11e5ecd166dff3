"""The store in memory notices what a database would not: impure decisions, and steps that are not allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from core.model.effect import Effect
from core.model.lookup import ByToken
from core.model.task import Change, Task
from core.model.transition import TaskState
from tests.contract.store.samples import LEASE, StoppedClock, a_question, add, later, press
from tests.fakes.purity import Impure, refuse_in_decision
from tests.fakes.store import Forbidden, MemoryStore

CLOCK = StoppedClock()
LOG = logging.getLogger("telegate.jobs")


def reads_the_clock(_task: Task | None) -> Effect:
    CLOCK.now()
    return Effect()


def logs(_task: Task | None) -> Effect:
    LOG.warning("A decision was made.")
    return Effect()


def mints_an_id(_task: Task | None) -> Effect:
    refuse_in_decision("mints an id")
    return Effect()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(CLOCK)


@pytest.mark.parametrize("decide", [reads_the_clock, logs, mints_an_id])
async def test_an_impure_decision_fails(store: MemoryStore, decide: Callable[[Task | None], Effect]) -> None:
    with pytest.raises(Impure):
        await store.change("tsk_1", decide, lease=None)
    # Outside of a decision it is nobody's business.
    decide(None)


async def test_a_decision_that_says_something_else_the_second_time_fails(store: MemoryStore) -> None:
    said: list[str] = []

    def decide(_task: Task | None) -> Effect:
        said.append("again")
        return Effect(cancels=tuple(said))

    with pytest.raises(Forbidden, match="made twice"):
        await store.change("tsk_1", decide, lease=None)


async def test_a_step_that_no_task_may_make_fails(store: MemoryStore) -> None:
    task = await add(store, a_question(TaskState.CANCELLED))
    asked = replace(task, state=TaskState.ASKED)
    with pytest.raises(Forbidden, match="from cancelled to asked"):
        await store.change(task.id, lambda _: Effect(changes=(Change.to_state(asked),)), lease=None)
    assert store.tasks[task.id] == task


async def test_a_question_is_decided_once(store: MemoryStore) -> None:
    task = await add(store, a_question())
    await store.receive(1, ByToken(task.token), press, lease=LEASE)
    answered = store.tasks[task.id]
    assert answered.decision is not None
    again = replace(answered, decision=replace(answered.decision, at=later(9)))
    with pytest.raises(Forbidden, match="decided again"):
        await store.change(task.id, lambda _: Effect(changes=(Change.to_state(again),)), lease=None)


async def test_rows_can_be_changed_behind_everybody_s_back(store: MemoryStore) -> None:
    task = await add(store, a_question())
    store.tasks[task.id] = replace(task, updated_at=later(5), steps=7)
    found = await store.find(task.id)
    assert found is not None
    assert (found.updated_at, found.steps) == (later(5), 7)
    store.tasks["tsk_2"] = replace(task, id="tsk_2", token=b"")
    assert list(store.tasks) == [task.id, "tsk_2"]
    del store.tasks[task.id]
    assert await store.find(task.id) is None
    assert [entry.at for entry in store.history] == []
