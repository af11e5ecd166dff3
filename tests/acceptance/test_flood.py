"""Telegram asks to wait: that chat does, and the whole bot when two chats are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance.contract import time_of
from tests.acceptance.gateway import Gate, Service, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """A server of its own: what Telegram has told the bot lasts beyond the test that provoked it."""
    async with opened(tmp_path_factory.mktemp("own")) as own:
        yield own
        await own.end_test()


async def test_a_chat_that_is_told_to_wait_waits_and_others_do_not(gate: Gate, service: Service) -> None:
    ada, grace = gate.person(), gate.person()
    gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=2)
    told = (await service.send(message(ada), prefer="respond-async", key="k")).task(202)
    task = await service.until(told["id"], "queued")
    assert task["error"]["detail"]
    named = time_of(task["not_before"]) - time_of(task["updated_at"])
    assert 1.9 <= named.total_seconds() <= 2.3
    assert (await service.send(message(grace))).task(200)["state"] == "sent"
    behind = service.sending(message(ada, "Behind it"))
    assert (await service.send(message(ada), key="k")).task(200)["state"] == "sent"
    assert (await behind).task(200)["state"] == "sent"
    first, *later = gate.sandbox.calls.of("sendMessage", ada.id)
    assert len(later) == 2
    assert all(call.monotonic - first.monotonic >= 2 for call in later)


async def test_a_question_waits_out_the_flood_and_is_asked_once(gate: Gate, service: Service) -> None:
    ada = gate.person()
    gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=1)
    asking = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    assert len(gate.sandbox.chat(ada.id).messages) == 1


async def test_two_chats_told_to_wait_make_the_whole_bot_wait(gate: Gate, service: Service) -> None:
    ada, grace, alan = gate.person(), gate.person(), gate.person()
    for each in (ada, grace):
        gate.sandbox.fault("too_many_requests", method="sendMessage", chat=each.id, retry_after=3)
    for each in (ada, grace):
        told = (await service.send(message(each), prefer="respond-async")).task(202)
        await service.until(told["id"], "queued")
    told = await gate.request("GET", "/readyz")
    assert (told.status, told.document["ready"]) == (200, True)
    assert "nothing is sent before" in told.document["checks"]["sending"]
    accepted = (await service.send(message(alan), prefer="respond-async")).task(202)
    await service.until(accepted["id"], "sent")
    refused = [gate.sandbox.calls.of("sendMessage", each.id)[0] for each in (ada, grace)]
    call = gate.sandbox.calls.of("sendMessage", alan.id)[0]
    assert call.monotonic - max(each.monotonic for each in refused) >= 2.9
    assert (await gate.request("GET", "/readyz")).document["checks"]["sending"] == "ok"
