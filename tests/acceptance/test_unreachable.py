"""A chat that Telegram cannot reach, and one that has moved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, message, opened, question
from tests.acceptance.policies import POLICY

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


async def until_sent(service: Service, body: Json) -> None:
    """Send it again and again, until Telegram has told that the chat can be reached."""
    async with asyncio.timeout(10):
        while (await service.send(body)).status != 200:  # noqa: ASYNC110 - the server hears of it, not we
            await asyncio.sleep(0.05)


async def test_it_is_over_as_soon_as_the_person_writes(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await ada.blocks()
    (await service.send(message(ada))).problem("recipient_unreachable")
    await ada.unblocks()
    await ada.starts()
    await gate.next_message(ada)
    assert (await service.send(message(ada))).task(200)["state"] == "sent"


async def test_it_is_over_as_soon_as_the_person_unblocks_the_bot(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await ada.blocks()
    (await service.send(message(ada))).problem("recipient_unreachable")
    await ada.unblocks()
    await until_sent(service, message(ada))


async def test_it_is_over_as_soon_as_somebody_adds_the_bot_again(gate: Gate, service: Service) -> None:
    group = gate.sandbox.add_group(-777_004, "Ops", [gate.person()])
    group.set_bot_status("kicked")
    (await service.send(message(group.id))).problem("recipient_unreachable")
    group.set_bot_status("member")
    await until_sent(service, message(group.id))


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


async def test_whoever_may_use_a_group_may_use_the_supergroup_that_it_becomes(tmp_path: Path) -> None:
    policy = POLICY.replace("  ops: -1001234567890\n", "  ops: -777003\n")
    async with opened(tmp_path, policy=policy) as gate:
        ada = gate.person()
        service = gate.service()
        narrow = service.with_roles("approver")
        group = gate.sandbox.add_group(-777_003, "Old", [ada], kind="group")
        sent = (await narrow.send(message("ops", "First"))).task(200)
        supergroup = group.upgrade()
        asked = await narrow.asked(question("ops", respondents={"people": [ada.id]}))
        again = (await narrow.send(message("ops", "Second"))).task(200)
        assert again["chat"]["id"] == supergroup.id
        path = f"/v1/messages/{again['id']}"
        assert (await narrow.call("PATCH", path, {"text": "Third"})).task(200)["state"] == "sent"
        assert (await narrow.call("DELETE", path)).task(200)["state"] == "sent"
        # A process that has just started knows it before anything is sent.
        await gate.server.terminate()
        await gate.server.start()
        assert (await narrow.get(f"/v1/tasks/{sent['id']}")).task(200) == sent
        assert (await narrow.get(f"/v1/tasks/{asked['id']}")).task(200)["chat"]["id"] == supergroup.id
        cancelled = await narrow.call("DELETE", f"/v1/tasks/{asked['id']}")
        assert cancelled.task(200)["state"] == "cancelled"
        assert (await narrow.send(message(supergroup.id, "Fourth"))).task(200)["state"] == "sent"
        (await narrow.send(message(ada.id))).problem("chat_forbidden")
        await gate.end_test()
