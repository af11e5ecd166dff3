"""An update takes effect exactly once, together with everything it does, or is quarantined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from core.model.chat import Chat
from core.model.effect import Effect, UpdateDecision
from core.model.job import TELEGRAM
from core.model.lookup import ByMessage, ByToken, Lookup, OpenQuestions
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from infra.store import Store
from infra.store.sql.rows import milliseconds
from tests.contract.store.samples import (
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
    history,
    later,
    press,
    steps,
    store_over,
)


async def receive(
    store: Store, update_id: int, lookup: Lookup | None, decide: UpdateDecision
) -> Effect | None:
    """What an update has done; None when it came before."""
    committed = await store.receive(update_id, lookup, decide, lease=LEASE)
    return None if committed is None else committed.effect


async def test_an_update_that_comes_again_does_nothing(store: Store) -> None:
    task = await add(store, a_question())
    effect = await receive(store, 1, ByToken(task.token), press)
    assert effect is not None
    assert effect.changes[0].task.state is TaskState.ANSWERED
    assert await receive(store, 1, ByToken(task.token), _never) is None
    assert await steps(store, task.id) == [Step.ASKED, Step.ANSWERED]


async def test_the_same_update_a_hundred_times_at_once_has_one_effect(store: Store) -> None:
    task = await add(store, a_question())
    effects = await asyncio.gather(*(receive(store, 1, ByToken(task.token), press) for _ in range(100)))
    assert len([effect for effect in effects if effect is not None]) == 1


async def test_of_a_hundred_presses_at_once_one_answers_and_the_others_are_told(store: Store) -> None:
    task = await add(store, a_question())
    effects = await asyncio.gather(*(receive(store, n, ByToken(task.token), press) for n in range(100)))
    assert len([effect for effect in effects if effect and effect.changes]) == 1
    assert len([effect for effect in effects if effect and effect.notice]) == 99
    stored = await store.find(task.id)
    assert stored is not None
    assert [answer.choice for answer in stored.answers] == ["deploy"]


async def test_an_answer_is_stored_with_who_gave_it_and_by_which_update(store: Store) -> None:
    task = await add(store, a_question())
    effect = await receive(store, 1, ByToken(task.token), press)
    assert effect is not None
    assert await store.find(task.id) == effect.changes[0].task
    assert (await history(store, task.id))[1] == Recorded(
        2, milliseconds(NOW), Step.ANSWERED, 815, 1, None, choice="deploy"
    )


async def test_an_update_about_nothing_of_ours_is_remembered(store: Store) -> None:
    assert await receive(store, 5, None, _Expect([])) == Effect()
    assert await receive(store, 5, None, _never) is None
    assert await receive(store, 6, ByToken(b"x" * 12), _Expect([])) == Effect()


async def test_what_a_decision_raises_leaves_the_update_unseen(store: Store) -> None:
    with pytest.raises(AssertionError, match="must not be decided about"):
        await receive(store, 1, None, _never)
    assert await receive(store, 1, None, _Expect([])) == Effect()


async def test_replies_are_stored_with_the_update_that_caused_them(store: Store) -> None:
    reply = a_message(service="telegate", jti=None)
    await receive(store, 9, None, lambda _: Effect(tasks=(reply,)))
    assert await store.find(reply.id) == reply
    assert await history(store, reply.id) == [Recorded(1, milliseconds(NOW), Step.QUEUED, None, 9, None)]


async def test_what_follows_from_an_update_begins_at_once(store: Store) -> None:
    task, reply = await add(store, a_question(message_ids=(7,))), a_message(TaskState.SENDING, jti=None)
    await store.put([a_job(task.id, kind="expire", run_at=later(60), lane=None)])

    def decide(tasks: Sequence[Task]) -> Effect:
        effect = press(tasks)
        jobs = (a_job(task.id, kind="finalize", overtakes=True), a_job(reply.id))
        return replace(effect, tasks=(reply,), jobs=jobs, cancels=(task.id,))

    committed = await store.receive(1, ByToken(task.token), decide, lease=LEASE)
    assert committed is not None
    assert [(job.kind, job.lease) for job in committed.jobs] == [("finalize", LEASE), ("send", LEASE)]
    assert committed.rows == {task.id: committed.effect.changes[0].task, reply.id: reply}
    assert await store.waiting(TELEGRAM) == {}


async def test_two_steps_of_one_task_in_one_update_are_both_stored(store: Store) -> None:
    task = await add(store, a_question(TaskState.SENDING))

    def decide(tasks: Sequence[Task]) -> Effect:
        delivered = tasks[0].with_message(later(1), 70)
        return Effect(changes=(Change(delivered, Step.DELIVERED), Change.to_state(delivered.asked(later(2)))))

    await receive(store, 1, ByToken(task.token), decide)
    assert await steps(store, task.id) == [Step.SENDING, Step.DELIVERED, Step.ASKED]
    assert await ask(store, "SELECT message_id FROM telegate_messages") == [(70,)]


async def test_an_update_on_a_row_that_moved_on_is_decided_again(store: Store) -> None:
    task = await add(store, a_question())
    unlucky = await store_over(Unlucky(store.database, "UPDATE telegate_tasks", times=2), BOT)
    await receive(unlucky, 1, ByToken(task.token), press)
    assert await steps(store, task.id) == [Step.ASKED, Step.ANSWERED]
    assert await ask(store, "SELECT COUNT(*) FROM telegate_updates") == [(1,)]


@pytest.mark.parametrize("state", list(TaskState))
async def test_a_token_finds_its_task_in_every_state(store: Store, state: TaskState) -> None:
    task = await add(store, a_question(state))
    await receive(store, 1, ByToken(task.token), _Expect([task]))


async def test_an_empty_token_finds_nothing(store: Store) -> None:
    await add(store, a_message())
    await add(store, a_message())
    await receive(store, 1, ByToken(b""), _Expect([]))


async def test_a_message_finds_its_task_in_its_chat_only(store: Store) -> None:
    task = a_message(TaskState.SENT, message_ids=(70,))
    await add(store, task)
    await receive(store, 1, ByMessage(OPS, 70), _Expect([task]))
    await receive(store, 2, ByMessage(OPS, 71), _Expect([]))
    await receive(store, 3, ByMessage(815, 70), _Expect([]))


async def test_a_message_that_no_task_is_known_to_have_finds_the_open_questions_of_its_chat(
    store: Store,
) -> None:
    task = a_question(TaskState.SENDING)
    for one in (task, a_question(TaskState.EXPIRED), a_question(chat=Chat(815))):
        await add(store, one)
    await receive(store, 1, ByMessage(OPS, 71), _Expect([task]))


async def test_open_questions_of_a_chat_come_newest_first(store: Store) -> None:
    states = (TaskState.SENDING, TaskState.ASKED, TaskState.UNKNOWN)
    open_ = [replace(a_question(state), id=f"tsk_{n:026}") for n, state in enumerate(states)]
    others = [a_question(state) for state in TaskState if state not in states]
    elsewhere = a_question(chat=Chat(815))
    for task in (*open_, *others, elsewhere, a_message(TaskState.SENDING)):
        await add(store, task)
    await receive(store, 1, OpenQuestions(OPS), _Expect(open_[::-1]))


@pytest.mark.parametrize("lookup", [ByToken(b"t" * 12), ByMessage(OPS, 70), OpenQuestions(OPS)])
async def test_another_bot_finds_nothing(store: Store, lookup: Lookup) -> None:
    await add(store, a_question(token=b"t" * 12, message_ids=(70,)))
    other = await store_over(store.database, BOT + 1)
    await receive(other, 1, lookup, _Expect([]))
    assert await receive(store, 1, None, _Expect([])) == Effect()


async def test_an_update_that_cannot_be_read_is_kept_once(store: Store) -> None:
    await store.quarantine(7, "No such type.", b'{"update_id": 7}')
    await store.quarantine(7, "Again.", b"{}")
    rows = await ask(store, "SELECT update_id, reason, raw FROM telegate_quarantine")
    assert rows == [(7, "No such type.", b'{"update_id": 7}')]


async def test_an_update_without_an_id_is_kept_once_by_its_bytes(store: Store) -> None:
    for raw in (b"\x00\xff", b"\x00\xff", b"{"):
        await store.quarantine(None, "Not JSON.", raw)
    rows = await ask(store, "SELECT update_id, raw FROM telegate_quarantine ORDER BY raw")
    assert rows == [(None, b"\x00\xff"), (None, b"{")]


def _never(tasks: Sequence[Task]) -> Effect:
    raise AssertionError(f"This update must not be decided about: {tasks}")


class _Expect:
    """A decision that nothing changes, but that insists on what was found."""

    def __init__(self, expected: list[Task]) -> None:
        self._expected = expected

    def __call__(self, tasks: Sequence[Task]) -> Effect:
        assert list(tasks) == self._expected
        return Effect()
