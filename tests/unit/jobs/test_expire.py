"""Expiring: what nobody answered, or what was never sent, is over when its time is, and not before."""

from __future__ import annotations

import asyncio

from core.jobs.runner import BATCH
from core.model.transition import TaskState
from tests.fakes.messenger import NOT_REACHED, UNCLEAR, later
from tests.fakes.world import Gateway


async def test_a_question_that_nobody_answered_expires(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    assert await gateway.pass_time(59) == 0
    assert gateway.row(task).state is TaskState.ASKED
    gateway.world.notifier.hints.clear()
    assert await gateway.pass_time(1) == 1
    row = gateway.row(task)
    assert (row.state, row.decision, gateway.is_closed(task)) == (TaskState.EXPIRED, None, True)
    assert gateway.world.messenger.last.text == "Deploy?\n\nNobody answered in time."
    assert gateway.world.messenger.last.buttons == ()
    assert set(gateway.world.notifier.hints) == {task.id}


async def test_what_counts_on_expiry_is_the_answer_and_nobody_gave_it(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    await gateway.settled()
    await gateway.pass_time(60)
    decision = gateway.row(task).decision
    assert decision is not None
    assert (decision.choice, decision.label, decision.by) == ("cancel", "Cancel", None)
    assert "Nobody answered in time, so “Cancel” counts." in gateway.world.messenger.last.text


async def test_a_question_that_was_answered_in_time_does_not_expire(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.jobs_of(task) == []
    await gateway.pass_time(3600)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_an_answer_that_comes_between_the_look_and_the_end_counts(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    gateway.world.clock.advance(60)
    # The timers come last.
    elsewhere, timers = (gateway.world.store.hold_back("claim") for _ in range(2))
    claiming = asyncio.create_task(gateway.scheduler.claim_due())
    elsewhere.released.set()
    await timers.arrived.wait()
    await gateway.press("Deploy")
    timers.released.set()
    assert await claiming == 1
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ANSWERED
    assert gateway.jobs_of(task) == []


async def test_a_task_that_was_never_sent_fails_when_its_time_is_over(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(59))
    task = await gateway.tell(expires_in=60)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.QUEUED
    await gateway.pass_time(60)
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_unavailable")
    assert len(gateway.said()) == 1, "What is over is not sent any more."


async def test_an_expired_question_that_was_never_sent_fails_too(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[NOT_REACHED] * 20)
    task = await gateway.ask(expires_in=60, on_expiry="cancel")
    for _ in range(70):
        await gateway.settled()
        await gateway.pass_time(1)
    assert gateway.row(task).state is TaskState.FAILED


async def test_more_than_a_batch_expires_at_once(gateway: Gateway) -> None:
    number = 2 * BATCH + 1
    for _ in range(number):
        await gateway.ask(expires_in=60)
    await gateway.settled()
    assert await gateway.pass_time(60) == number
    assert {task.state for task in gateway.world.store.tasks.values()} == {TaskState.EXPIRED}


async def test_what_is_over_comes_due_no_more(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR] * BATCH)
    for _ in range(BATCH):
        await gateway.tell()
    await gateway.settled()
    assert {task.state for task in gateway.world.store.tasks.values()} == {TaskState.UNKNOWN}
    assert await gateway.pass_time(3600) == 0


async def test_a_clock_that_is_turned_back_ends_nothing_early(gateway: Gateway) -> None:
    task = await gateway.ask(expires_in=60)
    await gateway.settled()
    await gateway.pass_time(-600)
    assert gateway.row(task).state is TaskState.ASKED
