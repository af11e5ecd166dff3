"""Stopping: what is running may end, the rest is handed back, and its rows say what is known of it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from core.model.chat import Chat
from core.model.effect import Committed
from core.model.errors import StorageUnavailable
from core.model.message import Message
from core.model.transition import TaskState
from core.services.factory import jobs_of
from tests.fakes.messenger import NOT_REACHED, Hang
from tests.fakes.world import ADA, BEN, Gateway, turns
from tests.unit.jobs.samples import LONG


async def test_stopping_lets_what_is_being_sent_end(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    stopping = asyncio.create_task(gateway.runner.stop(10))
    await turns()
    assert not stopping.done()
    hang.release()
    await stopping
    assert gateway.row(task).state is TaskState.SENT


async def test_stopping_lets_go_of_what_takes_too_long_and_its_row_says_so(gateway: Gateway) -> None:
    hangs = Hang(), Hang()
    gateway.world.messenger.script(*hangs)
    message, question = await gateway.tell(), await gateway.ask(chat=BEN.id)
    for hang in hangs:
        await hang.arrived.wait()
    behind = await gateway.tell("behind it")
    await gateway.runner.stop(2)
    rows = [gateway.row(task) for task in (message, question, behind)]
    assert [row.state for row in rows] == [TaskState.UNKNOWN, TaskState.SENDING, TaskState.QUEUED]
    sends = [job for job in gateway.world.store.jobs if job.kind == "send"]
    assert [(job.subject, job.in_doubt, job.lease) for job in sends] == [
        (question.id, True, None),
        (behind.id, False, None),
    ]
    assert not gateway.runner.background.running
    other = gateway.world.start()
    await other.pass_time(1)
    assert [other.row(task).state for task in (question, behind)] == [TaskState.ASKED, TaskState.SENT]
    await other.runner.stop(0)


async def test_what_is_let_go_of_in_a_call_is_in_doubt_although_it_was_not_reached_before(
    gateway: Gateway,
) -> None:
    hang = Hang()
    gateway.world.messenger.script(NOT_REACHED, hang)
    task = await gateway.ask()
    await gateway.settled()
    gateway.world.clock.advance(1)
    await gateway.scheduler.claim_due()
    await hang.arrived.wait()
    await gateway.runner.stop(0)
    row = gateway.row(task)
    assert (row.state, row.error and row.error.code) == (TaskState.SENDING, "outcome_unknown")
    assert [job.in_doubt for job in gateway.jobs_of(task) if job.kind == "send"] == [True]


async def test_stopping_without_a_database_says_that_its_jobs_could_not_be_handed_back(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    gateway.world.store.down = True
    await gateway.runner.stop(2)
    gateway.world.store.down = False
    assert gateway.row(task).state is TaskState.SENDING
    assert "another process takes it when its lease ends" in caplog.text


@pytest.mark.usefixtures("short_messages")
async def test_a_part_that_could_not_be_stored_any_more_is_not_sent_by_the_next_process(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("The database is just being restarted.")

    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell(LONG)
    await hang.arrived.wait()
    stopping = asyncio.create_task(gateway.runner.stop(10))
    await turns()
    monkeypatch.setattr(gateway.world.store, "record", fail)
    hang.release()
    await stopping
    monkeypatch.undo()
    other = gateway.world.start()
    await other.pass_time(60)
    assert gateway.said() == ["a" * 10]
    assert gateway.row(task).state is TaskState.UNKNOWN
    await other.runner.stop(0)


async def test_stopping_lets_what_follows_from_the_last_send_end_too(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    await hang.arrived.wait()
    await gateway.withdraw(task)
    stopping = asyncio.create_task(gateway.runner.stop(10))
    await turns()
    hang.release()
    await stopping
    assert not gateway.runner.background.running, "Its message is still being edited."
    assert gateway.is_closed(task)


async def test_stopping_begins_nothing_more_of_what_waits(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    await gateway.tell("first")
    behind = await gateway.tell("second")
    await hang.arrived.wait()
    stopping = asyncio.create_task(gateway.runner.stop(10))
    await turns()
    new = await gateway.tell("third", chat=BEN.id)
    hang.release()
    await stopping
    assert gateway.said() == ["first"]
    assert [gateway.row(task).state for task in (behind, new)] == [TaskState.QUEUED] * 2


async def test_stopping_without_any_grace_drops_what_has_not_begun_without_a_trace(gateway: Gateway) -> None:
    task = gateway.factory.task(Message("Hello"), service="ci", chat=Chat(ADA.id), expires_in=60)
    stored = await gateway.world.store.add(
        task, jobs_of(task), lease=gateway.runner.lease(), idempotency=None
    )
    assert isinstance(stored, Committed)
    gateway.runner.follow(stored)
    await gateway.runner.stop(0)
    gc.collect()
    assert gateway.said() == []
    assert gateway.row(task).state is TaskState.QUEUED


async def test_stopping_with_nothing_to_do_returns_at_once(gateway: Gateway) -> None:
    before = asyncio.get_running_loop().time()
    await gateway.runner.stop(10)
    assert asyncio.get_running_loop().time() == before
