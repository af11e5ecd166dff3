"""Every call to Telegram is measured, with what came of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected
from core.model.part import FormattedText, Part
from infra.telegram.client import TelegramClient
from tests.integration.telegram.conftest import ClientAt
from tests.integration.telegram.misbehaving import Behaviour, answer, done, hang, refusal, reset, serve
from tests.ports import reserved_port

HELLO = Part(FormattedText("hello"))


def calls(client: TelegramClient) -> dict[tuple[str, ...], float]:
    """How many calls there were, by method and outcome."""
    return {labels: sum(series[1:]) for labels, series in client.calls.items()}


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (done(), "done"),
        (refusal(429, "Too Many Requests: retry after 3", retry_after=3), "too_many"),
        (refusal(403, "Forbidden: bot was blocked by the user"), "refused"),
        (reset, "unclear"),
        (answer(200, b"<html>"), "unclear"),
    ],
)
async def test_the_outcome_of_a_call_is_counted(
    client_at: ClientAt, behaviour: Behaviour, outcome: str
) -> None:
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with contextlib.suppress(NotDelivered, Rejected, Migrated, DeliveryUnknown):
            await client.send(815, None, HELLO)
    assert calls(client) == {("sendMessage", outcome): 1}


async def test_a_call_that_reached_nobody_is_counted(client_at: ClientAt) -> None:
    client = await client_at(f"http://127.0.0.1:{reserved_port()}")
    with pytest.raises(NotDelivered):
        await client.send(815, None, HELLO)
    assert calls(client) == {("sendMessage", "not_reached"): 1}


async def test_a_call_that_was_let_go_of_may_have_been_done(client_at: ClientAt) -> None:
    async with serve(hang) as server:
        client = await client_at(server.url)
        sending = asyncio.create_task(client.send(815, None, HELLO))
        await server.arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert calls(client) == {("sendMessage", "unclear"): 1}


async def test_rare_calls_are_measured_too_and_a_harmless_refusal_is_still_one(client_at: ClientAt) -> None:
    harmless = refusal(400, "Bad Request: message is not modified")
    async with serve(harmless, answer(200, {"ok": True, "result": True})) as server:
        client = await client_at(server.url)
        await client.edit(815, 7, HELLO)
        await client.webhook_delete()
    assert calls(client) == {("editMessageText", "refused"): 1, ("deleteWebhook", "done"): 1}
