"""Presence: one row that all processes share, and a list of questions that have to ask for another press."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.cluster.heartbeat import OUTAGE, Finding, Outage, Presence, Sign
from core.model.task import Change, Lease, Task, TaskState
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import BOT, NOW, a_message, a_question, do, history, later

GAP = Outage(NOW, later(121))


def sign(seconds: float, holder: str = "host-1", **more: object) -> Sign:
    return Sign(later(seconds), Lease(holder, later(seconds + 50)), **more)  # type: ignore[arg-type]


def open_question(message_id: int, **changes: object) -> Task:
    return a_question(message_ids=(message_id,), **changes)  # type: ignore[arg-type]


async def listed(store: Store, at: float = 0) -> list[str]:
    """Every disarmed question, taken off the list."""
    found = []
    while (disarmed := await store.take_disarmed(later(at), later(at + 1))) is not None:
        found.append(disarmed.task.id)
        await store.strike_off(disarmed.task.id)
    return sorted(found)


async def test_the_first_sign_makes_the_row_and_has_the_duty(store: Store) -> None:
    first = sign(0, received_at=later(-1), finding=Finding("ok", "It is stolen."))
    presence = Presence(NOW, later(-1), first.lease, first.finding)
    assert await store.attend(first.entered) == (presence, None)
    assert await store.attend(lambda before: (before or presence, None)) == (presence, None)


async def test_what_is_said_once_is_known_to_all(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.attend(sign(0).entered)
        told = sign(20, received_at=later(19), finding=Finding("ok", "ok"))
        await store.attend(told.entered)
    async with open_store() as store:
        presence, outage = await store.attend(sign(25, "host-2", received_at=later(3)).entered)
    assert presence == Presence(later(20), later(19), told.lease, told.finding)
    assert outage is None


@pytest.mark.parametrize("seconds", [60, 120])
async def test_a_short_gap_disarms_nothing(store: Store, seconds: float) -> None:
    await store.add(open_question(1), None)
    await store.attend(sign(0).entered)
    assert (await store.attend(sign(seconds).entered))[1] is None
    assert await listed(store, 500) == []


async def test_f12_of_all_who_come_back_after_an_outage_one_disarms_the_open_questions(store: Store) -> None:
    questions = [open_question(number) for number in (1, 2)]
    others = [
        a_question(),
        open_question(3, expires_at=later(121)),
        *(open_question(9, state=state) for state in TaskState if state is not TaskState.ASKED),
        a_message(TaskState.SENT, message_ids=(4,)),
    ]
    for task in (*questions, *others):
        await store.add(task, None)
    await store.attend(sign(0).entered)
    signs = (sign(121, f"host-{number}") for number in range(5))
    told = await asyncio.gather(*(store.attend(each.entered) for each in signs))
    outages = [outage for _, outage in told if outage is not None]
    assert outages == [GAP]
    assert len({presence.duty.holder for presence, _ in told if presence.duty is not None}) == 1
    assert await listed(store, 121) == sorted(task.id for task in questions)


async def test_an_entry_that_fails_changes_nothing(store: Store) -> None:
    before = await store.attend(sign(0).entered)

    def fail(_before: Presence | None) -> tuple[Presence, Outage | None]:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is this one
        await store.attend(fail)
    assert await store.attend(lambda found: (found or Presence(later(9)), None)) == before


async def test_a_disarmed_question_is_taken_by_one_process_and_comes_back_when_that_is_silent(
    store: Store,
) -> None:
    task = open_question(1)
    await store.add(task, None)
    assert await store.disarm(GAP) == 1
    taken = await asyncio.gather(*(store.take_disarmed(later(121), later(151)) for _ in range(3)))
    [mine] = [disarmed for disarmed in taken if disarmed is not None]
    assert (mine.task, mine.outage, mine.tries) == (task, GAP, 1)
    assert await store.take_disarmed(later(150), later(180)) is None
    again = await store.take_disarmed(later(151), later(181))
    assert again is not None
    assert again.tries == 2
    await store.postpone_disarmed(task.id, later(300))
    assert await store.take_disarmed(later(299), later(999)) is None
    assert await listed(store, 300) == [task.id]


async def test_the_history_says_once_that_a_question_was_rearmed(store: Store) -> None:
    task = open_question(1)
    await store.add(task, None)
    await store.disarm(GAP)
    assert await store.rearmed(task.id, b"shown") == task
    assert await store.rearmed(task.id, b"shown") == task
    steps = await history(store, task.id)
    assert [(step.what, step.shown) for step in steps] == [("asked", None), ("rearmed", b"shown")]
    assert await listed(store, 500) == []
    assert await store.find(task.id) == task


async def test_a_question_that_asks_again_already_is_left_as_it_is_until_something_happens_to_it(
    store: Store,
) -> None:
    task = open_question(1)
    await store.add(task, None)
    assert await store.disarm(GAP) == 1
    await store.rearmed(task.id, b"shown")
    assert await store.disarm(GAP) == 0
    await store.amend(task.id, lambda found: Change(found, "answer_refused"))
    assert await store.disarm(GAP) == 1


async def test_a_question_that_was_decided_meanwhile_stays_on_the_list_and_unchanged(store: Store) -> None:
    task = open_question(1)
    await store.add(task, None)
    await store.disarm(GAP)
    cancelled = task.cancelled(later(130))
    await store.amend(task.id, lambda _: Change.to_state(cancelled))
    assert await store.rearmed(task.id, b"shown") == cancelled
    assert [step.what for step in await history(store, task.id)] == ["asked", "cancelled"]
    assert await listed(store, 500) == [task.id]


async def test_a_second_outage_lists_a_question_once_and_begins_its_tries_anew(store: Store) -> None:
    task = open_question(1)
    await store.add(task, None)
    await store.disarm(GAP)
    await store.take_disarmed(later(121), later(122))
    second = Outage(later(130), later(130) + OUTAGE + timedelta(seconds=1))
    await store.disarm(second)
    disarmed = await store.take_disarmed(later(300), later(301))
    assert disarmed is not None
    assert (disarmed.outage, disarmed.tries) == (second, 1)
    assert await listed(store, 500) == [task.id]


async def test_nothing_of_another_bot_is_disarmed_and_a_forgotten_task_leaves_the_list(store: Store) -> None:
    other = Store(store.database, BOT + 1, store._clock, store._keys)
    task = open_question(1, bot=BOT + 1)
    await other.add(task, None)
    assert await store.disarm(GAP) == 0
    assert await other.disarm(GAP) == 1
    await do(store, "DELETE FROM tasks WHERE bot = $1 AND id = $2", BOT + 1, task.id)
    assert await listed(other, 500) == []
    assert await store.rearmed(task.id, b"shown") is None
