"""Sending is as fast as Telegram likes: a chat keeps its order, nobody waits for another service's flood."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance.gateway import Gate, Service, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOOD = 5_000
TELEGRAMS_RATE = 30
PARALLEL = 50


@pytest_asyncio.fixture(loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """A server that sends no faster than Telegram's usual limits."""
    async with opened(
        tmp_path_factory.mktemp("paced"), settings={"SEND_RATE": str(TELEGRAMS_RATE), "LOG_LEVEL": "warning"}
    ) as own:
        yield own
        await own.end_test()


async def flood(gate: Gate, service: Service, size: int) -> None:
    """Hand so many messages in, each to another chat, and wait for none."""
    chats = iter([gate.person().id for _ in range(size)])

    async def hand_in() -> None:
        for chat in chats:
            (await service.send(message(chat, "A flood"), prefer="respond-async")).task(202)

    await asyncio.gather(*(hand_in() for _ in range(PARALLEL)))


async def test_a_flood_of_one_service_delays_another_by_less_than_a_second_and_a_half(gate: Gate) -> None:
    flooding, other = gate.service(), gate.service()
    ada, grace = gate.person(), gate.person()
    await flood(gate, flooding, FLOOD)
    waiting = (await flooding.get("/v1/tasks?state=queued&limit=200")).document["items"]
    assert len(waiting) == 200, "The flood must still be there."
    for _ in range(3):
        begun = time.monotonic()
        assert (await other.send(message(ada))).task(200)["state"] == "sent"
        (await other.ask(question(grace), prefer="respond-async")).task(202)
        await gate.next_message(grace)
        # What the promise is about: 1.5 s for each of the two.
        assert time.monotonic() - begun < 3
    sent = gate.sandbox.calls.of("sendMessage")
    seconds = sent[-1].monotonic - sent[0].monotonic
    assert len(sent) <= TELEGRAMS_RATE * (seconds + 1) + 5


async def test_the_messages_of_a_chat_keep_the_order_in_which_they_were_accepted(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    texts = [f"Line {number}" for number in range(12)]
    gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=1)
    for text in texts:
        (await service.send(message(ada, text), prefer="respond-async")).task(202)
    await gate.sandbox.wait_for(lambda: len(gate.sandbox.chat(ada.id).messages) == len(texts))
    assert [each.text for each in gate.sandbox.chat(ada.id).messages] == texts
