"""Finalizing: the message of a question that is over loses its buttons, however often that takes a try."""

from __future__ import annotations

import pytest

from core.jobs.runner import BATCH, LEASE
from tests.fakes.messenger import BLOCKED, DELIVERED, NOT_REACHED, Hang
from tests.fakes.world import Gateway, World, turns
from tests.unit.jobs.samples import LONG


@pytest.mark.usefixtures("short_messages")
async def test_only_the_last_part_of_a_long_question_shows_the_outcome(gateway: Gateway) -> None:
    await gateway.ask(LONG)
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    texts = [shown.text for shown in gateway.world.messenger.chat.values()]
    assert texts[:2] == ["a" * 10, "b" * 10]
    assert texts[2].startswith("c" * 5 + "\n\nAda L. chose")


async def test_an_edit_that_does_not_reach_telegram_is_done_later(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, verb="edit")
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert not gateway.is_closed(task)
    await gateway.pass_time(11)
    assert gateway.is_closed(task)
    assert gateway.world.messenger.last.buttons == ()


async def test_edits_that_do_not_succeed_rest_longer_and_longer_and_stand_before_no_other(
    gateway: Gateway,
) -> None:
    stuck = []
    for _ in range(BATCH + 5):
        task = await gateway.ask()
        await gateway.settled()
        gateway.world.messenger.script(NOT_REACHED, verb="edit")
        await gateway.press("Deploy")
        await gateway.settled()
        stuck.append(task)
    edits = len(gateway.world.messenger.of("edit"))
    gateway.world.messenger.script(*[NOT_REACHED] * 10_000, verb="edit")
    for _ in range(60):
        await gateway.pass_time(1)
    assert len(gateway.world.messenger.of("edit")) - edits <= 4 * len(stuck)
    gateway.world.messenger.forget_script()
    last = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.is_closed(last)
    for _ in range(12):
        await gateway.pass_time(60)
    assert all(gateway.is_closed(task) for task in stuck)


async def test_an_edit_that_telegram_refuses_is_not_repeated(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.world.messenger.script(BLOCKED, verb="edit")
    task = await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.is_closed(task)
    assert "could not be edited: This person has blocked the bot." in caplog.text
    await gateway.pass_time(60)
    assert len(gateway.world.messenger.of("edit")) == 1


async def test_an_edit_that_hangs_is_not_begun_a_second_time(gateway: Gateway) -> None:
    hang = Hang()
    gateway.world.messenger.script(hang, verb="edit")
    await gateway.ask()
    await gateway.settled()
    await gateway.press("Deploy")
    await hang.arrived.wait()
    for _ in range(4):
        gateway.world.clock.advance(11)
        await gateway.scheduler.claim_due()
        await turns()
    assert len(gateway.world.messenger.of("edit")) == 1
    hang.release()
    await gateway.settled()


async def test_a_question_that_was_never_delivered_needs_no_edit(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED)
    task = await gateway.ask()
    await gateway.settled()
    await gateway.withdraw(task)
    await gateway.pass_time(60)
    assert gateway.world.messenger.of("edit") == []
    assert gateway.jobs_of(task) == []


async def test_a_question_whose_outcome_a_dead_process_did_not_show_shows_it(
    world: World, gateway: Gateway
) -> None:
    task = await gateway.ask()
    await gateway.settled()
    hang = Hang()
    world.messenger.script(hang, DELIVERED, verb="edit")
    await gateway.press("Deploy")
    await hang.arrived.wait()
    await gateway.crash()
    other = world.start()
    await other.pass_time(LEASE.total_seconds() - 1)
    assert not gateway.is_closed(task)
    await other.pass_time(1)
    assert gateway.is_closed(task)
    assert world.messenger.last.buttons == ()
    await other.runner.stop(0)
