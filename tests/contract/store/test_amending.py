"""One step of a task is decided on the row itself, by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.model.errors import AlreadyFinal
from core.model.message import Chat, Edit
from core.model.task import Change, Failure, IllegalTransition, Task, TaskKind, TaskState
from core.model.update import ByMessage, Effect
from infra.store import Store
from infra.store.sql.rows import milliseconds
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import (
    ADA,
    BOT,
    LEASE,
    NOW,
    OPS,
    Step,
    Unlucky,
    a_message,
    a_question,
    ask,
    history,
    later,
    store_over,
)


async def test_a_row_of_history_tells_what_was_shown_and_what_was_chosen(store: Store) -> None:
    task = a_question()
    await store.add(task, None)
    answer = task.question.answer_by_option(1, ADA, NOW)
    assert answer is not None
    await store.amend(task.id, lambda found: Change(found, "delivered", shown=b"\x00\xff" * 16))
    await store.amend(task.id, lambda found: Change.to_state(found.answered(NOW, answer)))
    steps = await history(store, task.id)
    assert [(step.shown, step.choice) for step in steps] == [
        (None, None),
        (b"\x00\xff" * 16, None),
        (None, "no"),
    ]


async def test_a_step_is_stored_with_its_row_of_history(store: Store) -> None:
    task = a_question(TaskState.SENDING)
    await store.add(task, None)
    asked = task.with_message(later(1), 4711).asked(later(1))
    assert await store.amend(task.id, lambda _: Change(asked, "asked", 815, 3, "jti-2")) == asked
    assert await store.find(task.id) == asked
    assert (await history(store, task.id))[1:] == [Step(2, milliseconds(NOW), "asked", 815, 3, "jti-2")]


async def test_a_step_may_keep_the_state(store: Store) -> None:
    task = a_question()
    await store.add(task, None)
    await store.amend(task.id, lambda task: Change(replace(task, updated_at=later(2)), "press_refused", 666))
    assert [step.what for step in await history(store, task.id)] == ["asked", "press_refused"]
    assert await store.find(task.id) == replace(task, updated_at=later(2))


async def test_everything_that_a_step_can_change_is_stored(store: Store) -> None:
    task = a_question(TaskState.SENDING, message_ids=(1,))
    await store.add(task, None)
    changed = replace(
        task.queued_again(later(5), Failure("telegram_unavailable", "No route.", 429, "later"), later(9), 3),
        chat=Chat(-100999, "ops", None),
        expires_at=later(60),
        message_ids=(1, 2),
        closed=True,
    )
    await store.amend(task.id, lambda _: Change.to_state(changed))
    assert await store.find(task.id) == changed


async def test_no_step_changes_nothing(store: Store) -> None:
    task = a_question()
    await store.add(task, None)
    assert await store.amend(task.id, lambda _: None) == task
    assert len(await history(store, task.id)) == 1


async def test_a_task_that_is_not_there_is_not_judged(store: Store) -> None:
    assert await store.amend("tsk_01", _forbid) is None


async def test_what_the_judge_raises_reaches_the_caller_and_changes_nothing(store: Store) -> None:
    task = a_question()
    await store.add(task, None)
    with pytest.raises(AlreadyFinal, match="too late"):
        await store.amend(task.id, _forbid)
    assert await store.find(task.id) == task
    assert len(await history(store, task.id)) == 1


async def test_of_two_steps_at_once_exactly_one_wins(store: Store) -> None:
    task = a_question()
    await store.add(task, None)
    steps = [
        store.amend(task.id, lambda task: Change.to_state(task.expired(later(1)))),
        store.amend(task.id, lambda task: Change.to_state(task.cancelled(later(1)))),
    ]
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert {type(result) for result in results} == {Task, IllegalTransition}
    assert [step.seq for step in await history(store, task.id)] == [1, 2]


async def test_a_step_on_a_row_that_moved_on_is_judged_again(store: Store) -> None:
    task = a_question(TaskState.SENDING)
    await store.add(task, None)
    judged: list[Task] = []

    def judge(task: Task) -> Change:
        judged.append(task)
        return Change.to_state(task.asked(later(1)))

    unlucky = await store_over(Unlucky(store.database, "UPDATE tasks", times=2), BOT)
    await unlucky.amend(task.id, judge)
    assert judged == [task] * 3
    assert [step.what for step in await history(store, task.id)] == ["sending", "asked"]


async def test_a_message_leads_to_its_task(store: Store) -> None:
    task = a_message(TaskState.SENDING)
    await store.add(task, None)
    await store.amend(task.id, lambda task: Change(task.with_message(later(1), 70), "part_sent"))
    await store.amend(task.id, lambda task: Change.to_state(task.with_message(later(2), 71).sent(later(2))))
    rows = await ask(store, "SELECT chat, message_id, part, copy FROM messages WHERE task = $1", task.id)
    assert sorted(rows) == [(str(OPS), 70, 0, 0), (str(OPS), 71, 1, 0)]
    assert await _by_message(store, 71) == [task.id]


async def test_an_edit_leaves_the_message_to_the_task_that_sent_it(store: Store) -> None:
    task = a_message(TaskState.SENT, message_ids=(70,))
    edit = a_message(TaskState.SENDING, kind=TaskKind.EDIT, content=Edit("Red."), of=task.id)
    await store.add(task, None)
    await store.add(edit, None)
    await store.amend(edit.id, lambda edit: Change.to_state(edit.with_message(later(1), 70).sent(later(1))))
    assert await _by_message(store, 70) == [task.id]


async def test_a_message_id_that_comes_again_belongs_to_the_newer_task(store: Store) -> None:
    older, newer = a_question(message_ids=(70,)), a_question(message_ids=(70,))
    await store.add(older, None)
    await store.add(newer, None)
    assert await _by_message(store, 70) == [newer.id]


async def test_a_caller_who_goes_away_breaks_nothing(open_store: OpenStore) -> None:
    task = a_question(TaskState.SENDING, lease=LEASE)
    async with open_store() as store:
        adding = asyncio.ensure_future(store.add(task, None))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
    async with open_store() as store:
        assert await store.amend(task.id, lambda _: None) == task


async def _by_message(store: Store, message_id: int) -> list[str]:
    seen: list[str] = []

    def judge(tasks: Sequence[Task]) -> Effect:
        seen.extend(task.id for task in tasks)
        return Effect()

    await store.receive(message_id, ByMessage(OPS, message_id), judge)
    return seen


def _forbid(task: Task) -> Change:
    raise AlreadyFinal("It is too late.", task=task)


async def test_a_task_that_is_as_it_is_known_is_advanced_without_being_read(store: Store) -> None:
    task = a_question(TaskState.SENDING, lease=LEASE)
    stored, _ = await store.add(task, None)
    judged: list[Task] = []

    def judge(current: Task) -> Change:
        judged.append(current)
        return Change.to_state(current.with_message(later(1), 70).asked(later(1)))

    asked = await store.advance(stored, judge)
    assert asked is not None
    assert (asked.state, asked.message_ids, asked.steps) == (TaskState.ASKED, (70,), 2)
    assert len(judged) == 1
    assert await store.find(task.id) == asked
    assert [step.what for step in await history(store, task.id)] == ["sending", "asked"]
    again = await store.advance(asked, lambda current: Change(current.shown(), "closed"))
    assert again is not None
    assert (again.closed, again.steps) == (True, 3)


async def test_a_task_that_has_moved_on_is_judged_by_its_row(store: Store) -> None:
    stored, _ = await store.add(a_question(TaskState.SENDING, lease=LEASE), None)
    await store.amend(stored.id, lambda task: Change.to_state(task.cancelled(later(1))))
    judged: list[TaskState] = []

    def judge(current: Task) -> Change | None:
        judged.append(current.state)
        return None if current.final else Change.to_state(current.asked(later(2)))

    after = await store.advance(stored, judge)
    assert (after and after.state, judged) == (TaskState.CANCELLED, [TaskState.SENDING, TaskState.CANCELLED])
    assert await store.advance(a_question(), lambda _task: None) is None
