"""Editing and deleting: what is done to a message once it is sent, and what when it never is."""

from __future__ import annotations

import pytest

from core.model.transition import TaskState
from core.services.tasks import Submission
from tests.fakes.messenger import DELIVERED, NOT_REACHED, UNCLEAR_LOST
from tests.fakes.world import CI, Gateway
from tests.unit.jobs.samples import LONG, REFUSED


async def test_an_edit_changes_the_message(gateway: Gateway) -> None:
    message = await gateway.tell("Deploying", wait=5)
    edit = await gateway.correct(message, "Deployed", wait=5)
    assert edit.state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


async def test_an_edit_waits_until_its_message_is_sent(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, NOT_REACHED)
    message = await gateway.tell("Deploying")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    assert gateway.row(edit).state is TaskState.QUEUED
    assert gateway.world.messenger.of("edit") == []
    for _ in range(5):
        await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


async def test_an_edit_of_a_message_that_was_never_sent_fails(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, REFUSED)
    message = await gateway.tell("Deploying")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    for _ in range(3):
        await gateway.pass_time(1)
    row = gateway.row(edit)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_rejected")


@pytest.mark.usefixtures("short_messages")
async def test_an_edit_that_turns_out_not_to_fit_its_message_fails(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED)
    message = await gateway.tell("short")
    edit = await gateway.correct(message, LONG)
    await gateway.settled()
    for _ in range(3):
        await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.FAILED


async def test_an_edit_with_an_unclear_outcome_is_done_again(gateway: Gateway) -> None:
    message = await gateway.tell("Deploying", wait=5)
    gateway.world.messenger.script(UNCLEAR_LOST, verb="edit")
    edit = await gateway.correct(message, "Deployed")
    await gateway.settled()
    await gateway.pass_time(1)
    assert gateway.row(edit).state is TaskState.SENT
    assert gateway.world.messenger.last.text == "Deployed"


@pytest.mark.usefixtures("short_messages")
async def test_a_deletion_takes_every_part_away(gateway: Gateway) -> None:
    message = await gateway.tell(LONG, wait=5)
    deletion = await gateway.messages.delete(message.id, Submission(CI, 5))
    assert deletion.state is TaskState.SENT
    assert [shown.now for shown in gateway.world.messenger.chat.values()] == [None, None, None]


@pytest.mark.usefixtures("short_messages")
async def test_a_waiting_deletion_takes_away_what_stands_of_a_message_that_then_failed(
    gateway: Gateway,
) -> None:
    gateway.world.messenger.script(DELIVERED, NOT_REACHED, REFUSED)
    message = await gateway.tell(LONG)
    deletion = await gateway.messages.delete(message.id, Submission(CI))
    edit = await gateway.correct(message, LONG)
    await gateway.settled()
    for _ in range(5):
        await gateway.pass_time(1)
    assert gateway.row(message).state is TaskState.FAILED
    assert gateway.row(deletion).state is TaskState.SENT
    assert [shown.now for shown in gateway.world.messenger.chat.values()] == [None]
    row = gateway.row(edit)
    assert (row.state, row.error and row.error.code) == (TaskState.FAILED, "telegram_rejected")
