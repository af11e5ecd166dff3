"""Order: each chat gets its messages one after the other, and none before Telegram wants to hear of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from core.jobs.limits import RateLimiter
from core.jobs.runner import LEASE
from core.model.job import Priority
from core.model.transition import TaskState
from tests.fakes.clock import START
from tests.fakes.messenger import NOT_REACHED, Hang, later
from tests.fakes.world import ADA, BEN, GROUP, Gateway, World, turns, until


async def test_one_chat_gets_its_messages_one_after_the_other_in_order(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    for text in ("first", "second", "third"):
        await gateway.tell(text)
    await hang.arrived.wait()
    await turns()
    assert gateway.said() == ["first"]
    hang.release()
    await gateway.settled()
    assert [shown.text for shown in gateway.world.messenger.chat.values()] == ["first", "second", "third"]


async def test_a_chat_that_hangs_holds_up_no_other_chat(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    await gateway.tell("to Ada")
    await hang.arrived.wait()
    other = await gateway.tell("to Ben", chat=BEN.id)
    await until(lambda: gateway.row(other).state is TaskState.SENT)
    hang.release()
    await gateway.settled()


async def test_a_task_waits_in_the_queue_for_its_chat_and_gets_its_lease_when_it_is_its_turn(
    gateway: Gateway,
) -> None:
    first, second = Hang(), Hang()
    gateway.world.messenger.script(first, second)
    await gateway.tell("first")
    task = await gateway.tell("second")
    await first.arrived.wait()
    assert (task.state, [job.lease for job in gateway.jobs_of(task)]) == (TaskState.QUEUED, [None])
    gateway.world.clock.advance(20)
    first.release()
    await second.arrived.wait()
    [job] = gateway.jobs_of(task)
    assert job.lease is not None
    assert job.lease.until == START + timedelta(seconds=20) + LEASE
    assert gateway.world.store.steps_of(task.id) == ["queued", "sending"]
    second.release()
    await gateway.settled()
    assert gateway.said() == ["first", "second"]


async def test_what_a_chat_is_told_keeps_its_order_when_the_first_has_to_wait(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, NOT_REACHED)
    tasks = [await gateway.tell(text) for text in ("one", "two", "three")]
    elsewhere = await gateway.tell("elsewhere", chat=BEN.id)
    await gateway.settled()
    assert [gateway.row(task).state for task in tasks] == [TaskState.QUEUED] * 3
    await gateway.pass_time(1)
    for _ in range(5):
        await gateway.pass_time(2)
    assert [gateway.row(task).state for task in (*tasks, elsewhere)] == [TaskState.SENT] * 4
    assert [shown.text for shown in gateway.world.messenger.chat.values() if shown.chat == ADA.id] == [
        "one",
        "two",
        "three",
    ]


async def test_a_chat_that_was_told_to_wait_gets_nothing_else_meanwhile(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(30))
    await gateway.tell("first")
    await gateway.tell("second")
    other = await gateway.tell("to Ben", chat=BEN.id, wait=5)
    await gateway.settled()
    assert other.state is TaskState.SENT
    assert gateway.said() == ["first", "to Ben"]
    await gateway.pass_time(29)
    assert gateway.said() == ["first", "to Ben"]
    await gateway.pass_time(1)
    assert gateway.said() == ["first", "to Ben", "first", "second"]


async def test_two_chats_that_are_told_to_wait_make_the_whole_bot_wait(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(30), later(20))
    await gateway.tell("to Ada")
    await gateway.tell("to Ben", chat=BEN.id)
    await gateway.settled()
    task = await gateway.tell("to the group", chat=GROUP)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.QUEUED
    assert [job.attempts for job in gateway.jobs_of(task)] == [0]
    await gateway.pass_time(30)
    assert gateway.row(task).state is TaskState.SENT


async def test_who_never_gets_a_turn_goes_back_to_the_queue_and_is_never_unknown(world: World) -> None:
    rate = RateLimiter(2, asyncio.get_running_loop().time)
    gateway, other = world.start(rate), world.start()
    over = asyncio.Event()

    async def flood() -> None:
        while not over.is_set():
            await rate.turn(str(BEN.id), "flood", Priority.HIGH)

    flooding = [asyncio.create_task(flood()) for _ in range(3)]
    await asyncio.sleep(5)
    task = await gateway.tell("Hello")
    for _ in range(20):
        await asyncio.sleep(3)
        world.clock.advance(3)
        await gateway.scheduler.claim_due()
        await other.scheduler.claim_due()
    assert gateway.said() == []
    assert set(world.store.steps_of(task.id)) == {"sending", "queued"}
    over.set()
    await asyncio.gather(*flooding)
    await other.runner.stop(0)
    await gateway.pass_time(1)
    assert (gateway.row(task).state, gateway.said()) == (TaskState.SENT, ["Hello"])
    await gateway.runner.stop(0)
