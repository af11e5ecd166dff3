"""The gateway with bugs whose exceptions are full of secrets: gunicorn loads this for one test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from core.model.part import Part
from core.ports import Messenger
from handlers.keys import Services
from infra import app
from infra.config.settings import Settings
from infra.server.runner import GatewayRunner

BUG = "A text that the bug does not take"
"""A message with this text meets the bug in sending."""


class Blunder(Exception):
    """Something that nobody has thought of, in careless words."""


class BlunderingMessenger:
    """A messenger with a bug."""

    def __init__(self, inner: Messenger) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send(self, chat: int | str, topic: int | None, part: Part) -> int:
        """See `core.ports.Messenger.send`."""
        if part.body.text == BUG:
            blunder()
        return await self._inner.send(chat, topic, part)


async def create_app() -> GatewayRunner:
    """A gateway whose sweep and whose sending have a bug."""
    return await app.create_app(app.Substitutes(messenger=BlunderingMessenger, services=_with_bad_sweep))


def _with_bad_sweep(services: Services) -> Services:
    async def sweep() -> int:
        blunder()

    return replace(services, sweep=sweep)


def blunder() -> NoReturn:
    """Raise what a library would that knows nothing of secrets; the cause is no better."""
    settings = Settings.from_environment()
    secrets = [secret.reveal() for secret in settings.secrets]
    url = f"https://api.telegram.org/bot{settings.bot_token.reveal()}/sendMessage"
    cause = LookupError(f"{settings} {settings!r} {secrets}")
    raise Blunder(f"POST {url} with {secrets!r} went wrong") from cause
