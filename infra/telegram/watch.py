"""Looks at how the webhook is doing, as Telegram tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from core.ports import NotReached, Rejected, Unclear
from infra.telegram.client import TelegramClient

LOOK_EVERY = 60.0
"""Seconds between two looks."""

LOOK_AGAIN_AFTER = 5.0
"""Seconds until the next look while something is wrong: somebody is probably mending it."""


class WebhookWatch:
    """Knows what `/readyz` says about Telegram.

    Args:
        client: asks Telegram.
        url: where the webhook should point, or None when nobody has said.

    Attributes:
        telegram: `ok`, or why Telegram does not answer.
        webhook: `ok`, or what is wrong with the webhook.
    """

    def __init__(self, client: TelegramClient, url: str | None) -> None:
        self._client = client
        self._url = url
        self.telegram = "Telegram has not answered yet."
        self.webhook = "Telegram has not told yet."

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Learn who the bot is, then look again and again, until cancelled."""
        await self._client.identify()
        while True:
            await self.look()
            await sleep(LOOK_EVERY if self.webhook == "ok" else LOOK_AGAIN_AFTER)

    async def look(self) -> None:
        """Ask Telegram once."""
        try:
            state = await self._client.webhook_info()
        except (NotReached, Rejected, Unclear) as error:
            self.telegram = error.detail
            return
        self.telegram = "ok"
        if not state.url:
            self.webhook = "No webhook is set. Run: telegate webhook set"
        elif self._url is not None and state.url != self._url:
            self.webhook = "The webhook points somewhere else. Run: telegate webhook set"
        elif state.is_failing(datetime.now(UTC)):
            self.webhook = f"Telegram could lately not deliver: {state.last_error}"
        else:
            self.webhook = "ok"
