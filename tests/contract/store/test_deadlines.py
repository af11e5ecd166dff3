"""What is due by the clock is found in order, and taken by one process at a time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

from core.model.message import Chat
from core.model.task import LOST, Change, Failure, Lease, Task, TaskState
from infra.store import Store
from tests.contract.store import samples
from tests.contract.store.samples import LEASE, NOW, OPS, history, later

MINE = Lease("host-2", later(30))

_chats = itertools.count(1000)


def a_message(*args: TaskState, **changes: object) -> Task:
    """A message in a chat of its own, so that it has to wait for no other."""
    return samples.a_message(*args, **({"chat": Chat(next(_chats))} | changes))  # type: ignore[arg-type]


def a_question(*args: TaskState, **changes: object) -> Task:
    """A question in a chat of its own."""
    return samples.a_question(*args, **({"chat": Chat(next(_chats))} | changes))  # type: ignore[arg-type]


async def test_due_tasks_are_claimed_oldest_first(store: Store) -> None:
    tasks = [a_message(not_before=later(seconds)) for seconds in (3, 10, 2, 1)]
    for task in tasks:
        await store.add(task, None)
    claimed = await store.claim(later(3), MINE, 2)
    assert [task.id for task in claimed] == [tasks[0].id, tasks[2].id]
    assert [task.id for task in await store.claim(later(3), MINE, 2)] == [tasks[3].id]
    assert await store.claim(later(3), MINE, 2) == []


async def test_every_service_gets_its_turn_and_its_questions_go_first(store: Store) -> None:
    flood = [a_message(service="billing") for _ in range(5)]
    few = [a_message(service="ci"), a_question(TaskState.QUEUED, service="ci")]
    for task in (*flood, *few):
        await store.add(task, None)
    assert await store.waiting() == {"billing": 5, "ci": 2}
    claimed = await store.claim(NOW, MINE, 3)
    assert {task.id for task in claimed} == {flood[0].id, few[1].id, flood[1].id}
    assert {task.id for task in await store.claim(NOW, MINE, 2)} == {few[0].id, flood[2].id}
    assert await store.waiting() == {"billing": 2}


async def test_of_a_chat_only_the_first_task_is_claimed(store: Store) -> None:
    first, second, third = (samples.a_message() for _ in range(3))
    for task in (first, second, third):
        await store.add(task, None)
    assert [task.id for task in await store.claim(NOW, MINE, 10)] == [first.id]
    assert await store.claim(NOW, MINE, 10) == []
    assert await store.claim_in(OPS, NOW, MINE) is None
    await store.amend(first.id, lambda task: Change.to_state(task.sent(NOW)))
    claimed = await store.claim_in(OPS, NOW, MINE)
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.lease) == (second.id, TaskState.SENDING, MINE)
    assert await store.claim_in(OPS, NOW, MINE) is None


async def test_a_first_task_that_has_to_wait_lets_nobody_pass(store: Store) -> None:
    first, second = samples.a_message(not_before=later(30)), samples.a_message()
    for task in (first, second):
        await store.add(task, None)
    assert await store.claim(later(29), MINE, 10) == []
    assert await store.claim_in(OPS, later(29), MINE) is None
    assert await store.next_deadline() == later(30)
    assert [task.id for task in await store.claim(later(30), MINE, 10)] == [first.id]


async def test_a_task_in_doubt_holds_up_nobody(store: Store) -> None:
    doubtful, following = samples.a_question(TaskState.SENDING), samples.a_message()
    for task in (doubtful, following):
        await store.add(task, None)
    failure = Failure("outcome_unknown", "It may be there.")
    await store.amend(doubtful.id, lambda task: Change(task.unclear(failure, 1, LEASE), "unclear"))
    assert [task.id for task in await store.claim(NOW, MINE, 10)] == [following.id]


async def test_a_claimed_task_is_sending_under_the_lease_and_its_history_says_so(store: Store) -> None:
    task = a_message()
    await store.add(task, None)
    [claimed] = await store.claim(later(1), MINE, 10)
    assert claimed == task.sending(later(1), MINE)
    assert await store.find(task.id) == claimed
    assert [step.what for step in await history(store, task.id)] == ["queued", "sending"]


async def test_a_queued_task_without_a_time_is_due_at_once(store: Store) -> None:
    task = a_message(not_before=None)
    await store.add(task, None)
    assert await store.next_deadline() is not None
    assert [claimed.id for claimed in await store.claim(NOW, MINE, 10)] == [task.id]


async def test_two_who_claim_at_once_share_no_task(store: Store) -> None:
    for _ in range(20):
        await store.add(a_message(), None)
    shares = await asyncio.gather(*(store.claim(NOW, Lease(f"host-{n}", later(9)), 10) for n in range(3)))
    ids = [task.id for share in shares for task in share]
    assert len(ids) == len(set(ids)) == 20


async def test_only_tasks_whose_lease_ran_out_are_taken_over(store: Store) -> None:
    left = a_message(TaskState.SENDING, lease=Lease("host-1", later(10)))
    held = a_message(TaskState.SENDING, lease=Lease("host-1", later(20)))
    lost = a_message(TaskState.SENDING, lease=None)
    for task in (left, held, lost, a_message(TaskState.SENT)):
        await store.add(task, None)
    taken = await store.abandoned(later(15), MINE, 10)
    assert [task.id for task in taken] == [lost.id, left.id]
    assert [task.lease for task in taken] == [MINE, MINE]
    assert await store.find(left.id) == taken[1]
    assert [step.what for step in await history(store, left.id)] == ["sending", "taken_over"]
    assert await store.abandoned(later(15), MINE, 10) == []


async def test_taking_over_counts_as_a_try_unless_it_is_the_next_one(store: Store) -> None:
    stopped = a_message(TaskState.SENDING, lease=Lease("host-1", later(10)))
    waits = a_message(TaskState.SENDING).unclear(LOST, 2, Lease("host-1", later(10)))
    for task in (stopped, waits):
        await store.add(task, None)
    taken = await store.abandoned(later(15), Lease("host-2", later(45)), 10)
    assert [(task.attempts, task.error) for task in taken] == [(1, LOST), (2, LOST)]
    again = await store.abandoned(later(50), MINE, 10)
    assert [(task.attempts, task.error) for task in again] == [(2, LOST), (3, LOST)]


async def test_what_one_holds_is_told_but_for_what_waits_for_its_next_try(store: Store) -> None:
    mine = a_message(TaskState.SENDING, lease=Lease("host-1", later(10)))
    late = a_message(TaskState.SENDING, lease=Lease("host-1", later(20)))
    waits = a_message(TaskState.SENDING).unclear(LOST, 1, Lease("host-1", later(10)))
    theirs = a_message(TaskState.SENDING, lease=Lease("host-2", later(10)))
    for task in (mine, late, waits, theirs, a_message(TaskState.SENT)):
        await store.add(task, None)
    assert await store.held("host-1", later(15), 10) == [mine]
    assert await store.held("host-1", later(20), 10) == [mine, late]
    assert await store.held("host-1", later(20), 1) == [mine]


async def test_taking_over_stops_at_the_limit(store: Store) -> None:
    for _ in range(3):
        await store.add(a_message(TaskState.SENDING), None)
    assert len(await store.abandoned(later(99), MINE, 2)) == 2


async def test_overdue_tasks_come_oldest_first(store: Store) -> None:
    soon = {state: a_question(state, expires_at=later(60)) for state in TaskState}
    older = a_question(expires_at=later(30))
    for task in (*soon.values(), older, a_question(expires_at=later(61))):
        await store.add(task, None)
    overdue = await store.overdue(later(60), 10)
    assert overdue[0] == older.id
    assert set(overdue[1:]) == {soon[TaskState.QUEUED].id, soon[TaskState.ASKED].id}
    assert await store.overdue(later(60), 1) == [older.id]


async def test_decided_questions_whose_message_shows_it_not_yet_are_unclosed(store: Store) -> None:
    decided = [TaskState.ANSWERED, TaskState.EXPIRED, TaskState.CANCELLED]
    wanted = [
        a_question(state, message_ids=(n,), updated_at=later(9 - n)) for n, state in enumerate(decided, 1)
    ]
    unwanted = [
        a_question(TaskState.ANSWERED, message_ids=(10,), closed=True),
        a_question(TaskState.CANCELLED),
        a_question(TaskState.ASKED, message_ids=(11,)),
        a_question(TaskState.ANSWERED, message_ids=(12,), updated_at=later(99)),
        a_message(TaskState.SENT, message_ids=(13,)),
    ]
    for task in wanted + unwanted:
        await store.add(task, None)
    assert await store.unclosed(later(50), 10) == wanted[::-1]
    assert await store.unclosed(later(50), 1) == wanted[2:]


async def test_without_open_tasks_nothing_comes_due(store: Store) -> None:
    assert await store.next_deadline() is None
    for state in TaskState:
        if a_question(state).final:
            await store.add(a_question(state), None)
    assert await store.next_deadline() is None


async def test_the_next_deadline_is_the_earliest_of_all_kinds(store: Store) -> None:
    await store.add(a_question(expires_at=later(50)), None)
    assert await store.next_deadline() == later(50)
    await store.add(a_message(TaskState.SENDING, lease=replace(LEASE, until=later(40))), None)
    assert await store.next_deadline() == later(40)
    await store.add(a_message(not_before=later(30)), None)
    assert await store.next_deadline() == later(30)
    await store.add(a_message(not_before=later(35), expires_at=later(20)), None)
    assert await store.next_deadline() == later(20)
