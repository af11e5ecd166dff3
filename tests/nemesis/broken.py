"""A server that is broken on purpose: it says everything twice, and the nemesis must notice.

gunicorn loads `tests.nemesis.broken:create_app` instead of `infra.app:create_app`.
"""

from __future__ import annotations

from typing import Any

from core.model.part import Part
from core.ports import Messenger
from infra import app
from infra.server.runner import GatewayRunner


class StutteringMessenger:
    """Sends each message a second time, and tells of the second only."""

    def __init__(self, inner: Messenger) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, chat: int | str, topic: int | None, part: Part) -> int:
        """See `core.ports.Messenger.send`."""
        await self._inner.send(chat, topic, part)
        return await self._inner.send(chat, topic, part)


async def create_app() -> GatewayRunner:
    """The gateway with such a messenger."""
    return await app.create_app(app.Substitutes(messenger=StutteringMessenger))
