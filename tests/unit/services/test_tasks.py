"""The way of every task: stored, performed, waited for; and what becomes of a wait."""

from __future__ import annotations

import asyncio

import pytest

from core.model.errors import AlreadyFinal, ChatForbidden, IdempotencyMismatch, NotFound, StorageUnavailable
from core.model.lookup import TaskFilter
from core.model.task import Task
from core.model.transition import Step, TaskState
from tests.fakes.messenger import UNCLEAR, Hang
from tests.fakes.notifier import DeafNotifier
from tests.fakes.world import BILLING, CI, Gateway, World, key, turns, until


def now() -> float:
    return asyncio.get_running_loop().time()


async def waiting(gateway: Gateway, **how: object) -> asyncio.Task[Task]:
    """A service that asks and waits an hour; returns once the question stands in the chat."""
    before = len(gateway.world.messenger.chat)
    asking = asyncio.create_task(gateway.ask(wait=3600, **how))  # type: ignore[arg-type]
    await until(lambda: len(gateway.world.messenger.chat) > before)
    await gateway.settled()
    return asking


async def test_the_answer_ends_the_wait(gateway: Gateway) -> None:
    asking = await waiting(gateway)
    await gateway.press("Deploy")
    task = await asking
    assert (task.state, task.decision and task.decision.choice) == (TaskState.ANSWERED, "deploy")
    assert now() == 0, "The answer should not have to be waited for."


async def test_without_a_wait_the_task_comes_back_as_it_is(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.ask(wait=0)
    assert task.state is TaskState.SENDING
    assert now() == 0
    hang.release()
    await gateway.settled()


async def test_when_the_time_is_up_the_task_comes_back_as_far_as_it_has_come(gateway: Gateway) -> None:
    task = await gateway.ask(wait=25)
    assert task.state is TaskState.ASKED
    assert now() == pytest.approx(25)
    assert task == gateway.row(task)


async def test_an_unknown_outcome_ends_the_wait(gateway: Gateway) -> None:
    gateway.world.messenger.script(UNCLEAR)
    assert (await gateway.tell(wait=25)).state is TaskState.UNKNOWN
    assert now() == 0


async def test_expiry_ends_the_wait(gateway: Gateway) -> None:
    asking = await waiting(gateway, expires_in=60, on_expiry="cancel")
    await gateway.pass_time(60)
    task = await asking
    assert (task.state, task.decision and task.decision.choice) == (TaskState.EXPIRED, "cancel")


async def test_withdrawing_ends_the_wait(gateway: Gateway) -> None:
    asking = await waiting(gateway)
    (task_id,) = gateway.room.task_ids
    await gateway.tasks.cancel(task_id, CI, lambda _task: None)
    assert (await asking).state is TaskState.CANCELLED


# The same key


async def test_the_same_key_attaches_to_the_open_question_and_both_get_the_answer(gateway: Gateway) -> None:
    first = await waiting(gateway, idempotency=key("k1"))
    second = asyncio.create_task(gateway.ask(wait=3600, idempotency=key("k1")))
    await turns(100)
    await gateway.press("Deploy")
    one, other = await asyncio.gather(first, second)
    assert one.id == other.id
    assert one.decision == other.decision is not None
    assert gateway.said() == ["Deploy?"]


async def test_the_same_key_finds_the_answer_that_has_come_already(gateway: Gateway) -> None:
    first = await waiting(gateway, idempotency=key("k1"))
    await gateway.press("Deploy")
    assert await gateway.ask(wait=3600, idempotency=key("k1")) == gateway.row(await first)
    assert now() == 0


async def test_fifty_at_once_with_one_key_make_one_task_and_one_message(gateway: Gateway) -> None:
    asking = [asyncio.create_task(gateway.ask(wait=3600, idempotency=key("k1"))) for _ in range(50)]
    await until(lambda: len(gateway.room) == 50 and len(gateway.room.task_ids) == 1)
    await until(lambda: len(gateway.world.messenger.chat) == 1)
    await gateway.settled()
    await gateway.press("Cancel")
    tasks = await asyncio.gather(*asking)
    assert len({task.id for task in tasks}) == 1
    assert {task.decision and task.decision.choice for task in tasks} == {"cancel"}
    assert gateway.said() == ["Deploy?"]


async def test_the_same_key_with_another_body_is_refused_and_asks_nothing(gateway: Gateway) -> None:
    await gateway.ask(idempotency=key("k1"))
    with pytest.raises(IdempotencyMismatch):
        await gateway.ask("Something else?", idempotency=key("k1", "another body"))
    await gateway.settled()
    assert gateway.said() == ["Deploy?"]


async def test_the_same_key_on_another_route_is_another_task(gateway: Gateway) -> None:
    question = await gateway.ask(idempotency=key("k1"))
    message = await gateway.tell(idempotency=key("k1", route="POST /v1/messages"))
    assert question.id != message.id


async def test_a_new_process_attaches_by_the_same_key(world: World, gateway: Gateway) -> None:
    first = await waiting(gateway, idempotency=key("k1"))
    first.cancel()
    await gateway.crash()
    other = world.start()
    again = asyncio.create_task(other.ask(wait=3600, idempotency=key("k1")))
    await until(lambda: len(other.room.task_ids) == 1)
    await turns()
    await other.press("Deploy")
    assert (await again).state is TaskState.ANSWERED
    assert gateway.said() == ["Deploy?"]
    await other.settled()


# Whoever goes away


async def test_a_service_that_goes_away_frees_its_seat_and_the_question_stays(gateway: Gateway) -> None:
    asking = await waiting(gateway)
    (task_id,) = gateway.room.task_ids
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(gateway.room) == 0
    looking = asyncio.create_task(gateway.tasks.look(task_id, "ci", 3600))
    await until(lambda: len(gateway.room) == 1)
    await turns()
    await gateway.press("Deploy")
    assert (await looking).state is TaskState.ANSWERED


async def test_a_service_that_goes_away_while_its_task_is_stored_does_not_strand_it(gateway: Gateway) -> None:
    held = gateway.world.store.hold_back("add")
    telling = asyncio.create_task(gateway.tell(wait=25))
    await held.arrived.wait()
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    held.released.set()
    await until(lambda: gateway.said() == ["Hello"])
    await gateway.settled()
    (task,) = gateway.world.store.tasks.values()
    assert task.state is TaskState.SENT


# No hint, or none in time


async def test_an_answer_that_comes_before_the_wait_begins_is_seen(gateway: Gateway) -> None:
    """The press falls between the read of the row and the first wait."""
    task = await gateway.ask()
    await gateway.settled()
    held = gateway.world.store.hold_back("find")
    looking = asyncio.create_task(gateway.tasks.look(task.id, "ci", 3600))
    await held.arrived.wait()
    await gateway.press("Deploy")
    held.released.set()
    assert (await looking).state is TaskState.ANSWERED
    assert now() == 0


async def test_with_a_notifier_that_drops_every_hint_a_look_at_the_room_brings_the_answer() -> None:
    gateway = World(notifier=DeafNotifier()).start()
    asking = await waiting(gateway)
    await gateway.press("Deploy")
    await turns(100)
    assert not asking.done(), "Somebody was woken by a hint that was dropped."
    await gateway.sweep_room()
    assert (await asking).state is TaskState.ANSWERED
    assert len(gateway.room) == 0
    await gateway.settled()


async def test_with_a_notifier_that_drops_every_hint_the_deadline_still_brings_the_answer() -> None:
    gateway = World(notifier=DeafNotifier()).start()
    asking = asyncio.create_task(gateway.ask(wait=25))
    await until(lambda: len(gateway.world.messenger.chat) == 1)
    await gateway.settled()
    await gateway.press("Deploy")
    assert (await asking).state is TaskState.ANSWERED
    assert now() == pytest.approx(25)
    await gateway.settled()


async def test_a_look_at_the_room_asks_the_database_once_however_many_wait(gateway: Gateway) -> None:
    asking = [await waiting(gateway, text=f"Question {number}?") for number in range(20)]
    before = dict(gateway.world.store.calls)
    await gateway.sweep_room()
    await turns()
    after = gateway.world.store.calls
    assert after["progress"] == before.get("progress", 0) + 1
    assert after.get("find", 0) == before.get("find", 0), (
        "A task that is not final is no reason to read its row."
    )
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_a_hint_for_nothing_is_looked_at_and_waited_on(gateway: Gateway) -> None:
    asking = await waiting(gateway)
    gateway.room.wake(gateway.room.task_ids)
    await turns(50)
    assert not asking.done()
    await gateway.press("Deploy")
    assert (await asking).state is TaskState.ANSWERED


async def test_closing_the_room_gives_everybody_the_task_as_it_stands(gateway: Gateway) -> None:
    asking = [await waiting(gateway, text=f"Question {number}?") for number in range(20)]
    gateway.room.close()
    assert {task.state for task in await asyncio.gather(*asking)} == {TaskState.ASKED}
    assert now() == 0


# The database


async def test_a_database_that_is_down_makes_no_task(gateway: Gateway) -> None:
    gateway.world.store.down = True
    with pytest.raises(StorageUnavailable):
        await gateway.ask(wait=25)
    gateway.world.store.down = False
    assert gateway.world.store.tasks == {}
    assert gateway.said() == []


async def test_a_database_that_is_down_for_a_while_does_not_end_a_wait(gateway: Gateway) -> None:
    asking = await waiting(gateway)
    gateway.world.store.down = True
    gateway.room.wake(gateway.room.task_ids)
    await turns(50)
    gateway.world.store.down = False
    assert not asking.done(), "The wait should outlast a database that is down."
    await gateway.press("Deploy")
    assert (await asking).state is TaskState.ANSWERED


async def test_a_database_that_is_down_at_the_deadline_does_not_hide_that_a_task_was_made(
    gateway: Gateway,
) -> None:
    asking = asyncio.create_task(gateway.ask(wait=25))
    await until(lambda: len(gateway.world.messenger.chat) == 1)
    await gateway.settled()
    gateway.world.store.down = True
    task = await asking
    gateway.world.store.down = False
    assert task.id in gateway.world.store.tasks
    assert not task.final


# Looking


async def test_a_task_is_nobody_else_s(gateway: Gateway) -> None:
    task = await gateway.ask()
    with pytest.raises(NotFound, match="This service has no task tsk_"):
        await gateway.tasks.look(task.id, "billing")
    with pytest.raises(NotFound):
        await gateway.tasks.look("tsk_nothing", "ci")
    assert await gateway.tasks.look(task.id, "ci") == gateway.row(task)


async def test_a_service_s_tasks_are_listed_newest_first(gateway: Gateway) -> None:
    tasks = [await gateway.tell(f"Message {number}") for number in range(3)]
    await gateway.settled()
    page, more = await gateway.tasks.page(TaskFilter("ci", limit=2))
    assert ([task.id for task in page], more) == ([tasks[2].id, tasks[1].id], True)
    rest, more = await gateway.tasks.page(TaskFilter("ci", after=page[-1].id, limit=2))
    assert ([task.id for task in rest], more) == ([tasks[0].id], False)


# Taking back


async def test_a_withdrawn_question_tells_so_in_the_chat(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    cancelled = await gateway.withdraw(task)
    await gateway.settled()
    assert cancelled.state is TaskState.CANCELLED
    assert "This question was withdrawn on 22 November" in gateway.world.messenger.last.text
    assert gateway.world.messenger.last.buttons == ()
    (step,) = [entry for entry in gateway.world.store.history if entry.step is Step.CANCELLED]
    assert (step.task, step.jti) == (task.id, CI.jti)


async def test_a_question_that_is_over_cannot_be_withdrawn(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    with pytest.raises(AlreadyFinal, match="This task is answered") as caught:
        await gateway.withdraw(task)
    assert caught.value.task is not None
    assert caught.value.task.state is TaskState.ANSWERED


async def test_a_message_cannot_be_withdrawn(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang)
    task = await gateway.tell()
    await hang.arrived.wait()
    with pytest.raises(AlreadyFinal, match="only an open question can be cancelled"):
        await gateway.withdraw(task)
    hang.release()
    await gateway.settled()


async def test_nobody_withdraws_another_service_s_question(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()
    for task_id in (task.id, "tsk_nothing"):
        with pytest.raises(NotFound):
            await gateway.tasks.cancel(task_id, BILLING, lambda _task: None)
    assert gateway.row(task).state is TaskState.ASKED


async def test_a_principal_who_may_not_withdraw_changes_nothing(gateway: Gateway) -> None:
    def refuse(_task: Task) -> None:
        raise ChatForbidden("No role of this token names this chat.")

    task = await gateway.ask()
    await gateway.settled()
    with pytest.raises(ChatForbidden):
        await gateway.tasks.cancel(task.id, CI, refuse)
    assert gateway.row(task).state is TaskState.ASKED


async def test_a_question_that_goes_away_while_it_is_withdrawn_is_not_found(gateway: Gateway) -> None:
    task = await gateway.ask()
    await gateway.settled()

    def forget(found: Task) -> None:
        del gateway.world.store.tasks[found.id]

    with pytest.raises(NotFound):
        await gateway.tasks.cancel(task.id, CI, forget)
