"""What becomes of a task is decided on the row itself, by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.model.chat import Chat
from core.model.effect import Effect
from core.model.errors import AlreadyFinal
from core.model.failure import Failure
from core.model.lookup import ByMessage
from core.model.message import Edit
from core.model.task import Change, IllegalTransition, Task, TaskKind
from core.model.transition import Step, TaskState
from infra.store import Store
from infra.store.sql.rows import milliseconds
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import (
    ADA,
    BOT,
    LEASE,
    NOW,
    OPS,
    Recorded,
    Unlucky,
    a_job,
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


async def test_a_row_of_history_tells_what_was_shown_and_what_was_chosen(store: Store) -> None:
    task = await add(store, a_question())
    answer = task.question.answer_by_option(1, ADA, NOW)
    assert answer is not None
    await change(store, task.id, lambda found: Change(found, Step.DELIVERED, shown=b"\x00\xff" * 16))
    await change(store, task.id, lambda found: Change.to_state(found.answered(NOW, answer)))
    assert [(row.shown, row.choice) for row in await history(store, task.id)] == [
        (None, None),
        (b"\x00\xff" * 16, None),
        (None, "no"),
    ]


async def test_a_step_is_stored_with_its_row_of_history(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING))
    asked = task.with_message(later(1), 4711).asked(later(1))
    committed = await store.change(
        task.id, lambda _: Effect(changes=(Change(asked, Step.ASKED, 815, 3, "jti-2"),)), lease=None
    )
    assert committed.task == asked
    assert committed.rows[task.id].steps == 2
    assert await store.find(task.id) == asked
    assert (await history(store, task.id))[1:] == [
        Recorded(2, milliseconds(NOW), Step.ASKED, 815, 3, "jti-2")
    ]


async def test_a_step_may_keep_the_state(store: Store) -> None:
    task = await add(store, a_question())
    await change(
        store, task.id, lambda task: Change(replace(task, updated_at=later(2)), Step.ANSWER_REFUSED, 666)
    )
    assert await steps(store, task.id) == [Step.ASKED, Step.ANSWER_REFUSED]
    assert await store.find(task.id) == replace(task, updated_at=later(2))


async def test_everything_that_a_step_can_change_is_stored(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING, message_ids=(1,)))
    changed = replace(
        task.queued_again(later(5), Failure("telegram_unavailable", "No route.", 429, "later"), later(9)),
        chat=Chat(-100999, "ops", None),
        expires_at=later(60),
        message_ids=(1, 2),
    )
    await change(store, task.id, lambda _: Change.to_state(changed))
    assert await store.find(task.id) == changed


async def test_a_decision_that_nothing_changes_changes_nothing(store: Store) -> None:
    task = await add(store, a_question())
    committed = await store.change(task.id, nothing, lease=None)
    assert (committed.task, committed.effect, committed.jobs) == (task, Effect(), ())
    assert len(await history(store, task.id)) == 1


async def test_whoever_decides_about_a_task_that_is_not_there_gets_none(store: Store) -> None:
    seen: list[Task | None] = []

    def decide(task: Task | None) -> Effect:
        seen.append(task)
        return Effect()

    assert (await store.change("tsk_01", decide, lease=None)).task is None
    assert set(seen) == {None}


async def test_what_a_decision_raises_reaches_the_caller_and_changes_nothing(store: Store) -> None:
    task = await add(store, a_question())
    with pytest.raises(AlreadyFinal, match="too late"):
        await store.change(task.id, _forbid, lease=None)
    assert await store.find(task.id) == task
    assert len(await history(store, task.id)) == 1


async def test_of_two_steps_at_once_exactly_one_wins(store: Store) -> None:
    task = await add(store, a_question())
    results = await asyncio.gather(
        change(store, task.id, lambda task: Change.to_state(task.expired(later(1)))),
        change(store, task.id, lambda task: Change.to_state(task.cancelled(later(1)))),
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {Task, IllegalTransition}
    assert [row.seq for row in await history(store, task.id)] == [1, 2]


async def test_a_step_on_a_row_that_moved_on_is_decided_again(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING))
    decided: list[Task] = []

    def decide(task: Task) -> Change:
        decided.append(task)
        return Change.to_state(task.asked(later(1)))

    unlucky = await store_over(Unlucky(store.database, "UPDATE telegate_tasks", times=2), BOT)
    await change(unlucky, task.id, decide)
    assert decided == [task] * 3
    assert await steps(store, task.id) == [Step.SENDING, Step.ASKED]


async def test_an_effect_is_stored_whole_and_in_order(store: Store) -> None:
    task, reply = await add(store, a_question(message_ids=(7,))), a_message(TaskState.SENDING)
    await store.put([a_job(task.id, kind="remind", run_at=later(60)), a_job("other", run_at=later(60))])
    effect = Effect(
        changes=(Change.to_state(task.cancelled(later(1)), jti="jti-2"),),
        tasks=(reply,),
        jobs=(a_job(task.id, kind="finalize", overtakes=True), a_job(reply.id)),
        cancels=(task.id,),
    )
    committed = await store.change(task.id, lambda _: effect, lease=LEASE)
    # What somebody else's job waits for goes first in this chat.
    assert committed.rows == {task.id: task.cancelled(later(1)), reply.id: reply.waiting()}
    assert [(job.kind, job.lease) for job in committed.jobs] == [("finalize", LEASE), ("send", None)]
    rows = await ask(store, "SELECT id, kind, subject FROM telegate_jobs ORDER BY id")
    assert [row[1:] for row in rows] == [("send", "other"), ("finalize", task.id), ("send", reply.id)]
    assert [row[0] for row in rows[1:]] == [job.id for job in committed.jobs]
    assert await store.find(reply.id) == reply.waiting()


async def test_an_effect_that_fails_in_the_middle_leaves_nothing(store: Store) -> None:
    task = await add(store, a_question())
    await store.put([a_job(task.id, run_at=later(60))])
    # A task of this id is there already.
    effect = Effect((Change.to_state(task.cancelled(NOW)),), (task,), (a_job("new"),), (task.id,))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.change(task.id, lambda _: effect, lease=LEASE)
    assert await store.find(task.id) == task
    assert await ask(store, "SELECT subject FROM telegate_jobs") == [(task.id,)]


async def test_a_message_leads_to_its_task(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENDING))
    await change(store, task.id, lambda task: Change(task.with_message(later(1), 70), Step.PART_SENT))
    await change(store, task.id, lambda task: Change.to_state(task.with_message(later(2), 71).sent(later(2))))
    rows = await ask(
        store, "SELECT chat, message_id, part, copy FROM telegate_messages WHERE task = $1", task.id
    )
    assert sorted(rows) == [(str(OPS), 70, 0, 0), (str(OPS), 71, 1, 0)]
    assert await _by_message(store, 71) == [task.id]


async def test_an_edit_leaves_the_message_to_the_task_that_sent_it(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENT, message_ids=(70,)))
    edit = a_message(TaskState.SENDING, kind=TaskKind.EDIT, content=Edit("Red."), of=task.id)
    await add(store, edit)
    await change(store, edit.id, lambda edit: Change.to_state(edit.with_message(later(1), 70).sent(later(1))))
    assert await _by_message(store, 70) == [task.id]


async def test_a_message_id_that_comes_again_belongs_to_the_newer_task(store: Store) -> None:
    await add(store, a_question(message_ids=(70,)))
    newer = await add(store, a_question(message_ids=(70,)))
    assert await _by_message(store, 70) == [newer.id]


async def test_a_caller_who_goes_away_breaks_nothing(open_store: OpenStore) -> None:
    task = a_question(TaskState.SENDING)
    async with open_store() as store:
        adding = asyncio.ensure_future(store.add(task, [a_job(task.id)], lease=LEASE, idempotency=None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
    async with open_store() as store:
        assert (await store.change(task.id, nothing, lease=None)).task == task


async def _by_message(store: Store, message_id: int) -> list[str]:
    seen: set[str] = set()

    def decide(tasks: Sequence[Task]) -> Effect:
        seen.update(task.id for task in tasks)
        return Effect()

    await store.receive(message_id, ByMessage(OPS, message_id), decide, lease=LEASE)
    return list(seen)


def _forbid(task: Task | None) -> Effect:
    raise AlreadyFinal("It is too late.", task=task)
