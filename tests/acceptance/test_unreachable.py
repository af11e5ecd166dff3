"""A chat that Telegram cannot reach, and one that has moved."""

from __future__ import annotations

import pytest

from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_has_blocked_the_bot_is_told_at_once_and_telegram_is_not_asked_again(
    gate: Gate, service: Service
) -> None:
    ada, grace = gate.person(), gate.person()
    await ada.blocks()
    refused = (await service.ask(question(ada))).problem("recipient_unreachable")
    assert refused["task"]["state"] == "failed"
    again = (await service.send(message(ada))).problem("recipient_unreachable")
    assert again["task"]["error"] == refused["task"]["error"]
    assert len(gate.sandbox.calls.of("sendMessage", ada.id)) == 1
    assert (await service.send(message(grace))).task(200)["state"] == "sent"


async def test_a_new_process_remembers_it_too(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await ada.blocks()
    (await service.send(message(ada))).problem("recipient_unreachable")
    await gate.server.terminate()
    await gate.server.start()
    await gate.until_identified()
    (await service.send(message(ada))).problem("recipient_unreachable")
    assert len(gate.sandbox.calls.of("sendMessage", ada.id)) == 1


async def test_it_is_over_as_soon_as_the_person_writes(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await ada.blocks()
    (await service.send(message(ada))).problem("recipient_unreachable")
    await ada.unblocks()
    await ada.starts()
    await gate.next_message(ada)
    assert (await service.send(message(ada))).task(200)["state"] == "sent"


async def test_a_question_in_a_group_that_has_moved_is_asked_there_and_answered(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    group = gate.sandbox.add_group(-777_002, "Old", [ada], kind="group")
    supergroup = group.upgrade()
    asking = service.asking(question(group.id, respondents={"people": [ada.id]}))
    await ada.taps(await gate.next_message(supergroup), "Yes")
    task = (await asking).task(200)
    assert (task["answer"]["choice"], task["chat"]["id"]) == ("yes", supergroup.id)
    edited = await service.send(message(group.id, "First"))
    first = edited.task(200)
    corrected = await service.call("PATCH", f"/v1/messages/{first['id']}", {"text": "Second"})
    assert corrected.task(200)["state"] == "sent"
    assert supergroup.messages[-1].text == "Second"
