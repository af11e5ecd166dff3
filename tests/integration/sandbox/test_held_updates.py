"""A Telegram that brings nothing and says nothing about it."""

from __future__ import annotations

import asyncio

import telegram

from infra.sandbox import Sandbox
from tests.integration.sandbox.conftest import Receiver


async def test_held_updates_wait_without_an_error_until_the_fault_is_lifted(
    sandbox: Sandbox, bot: telegram.Bot, receiver: Receiver
) -> None:
    await bot.set_webhook(receiver.url)
    ada = sandbox.person(815)
    with sandbox.fault("hold_updates", times=None):
        await ada.says(None, "one")
        await ada.says(None, "two")
        info = await bot.get_webhook_info()
        assert (info.pending_update_count, info.last_error_message) == (2, None)
        assert receiver.posts.empty()
    texts = [(await asyncio.wait_for(receiver.posts.get(), 10))["message"]["text"] for _ in range(2)]
    assert texts == ["one", "two"]
    await sandbox.wait_for(lambda: sandbox.updates.pending == 0)
