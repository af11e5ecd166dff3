"""The gateway with bugs whose exceptions are full of secrets: gunicorn loads this for one test."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from core.ports import Part
from handlers.keys import Services
from infra import app
from infra.server.runner import GatewayRunner

BUG = "A text that the bug does not take"
"""A message with this text meets the bug in sending."""


class Blunder(Exception):
    """Something that nobody has thought of, in careless words."""


class BlunderingGateway(app.Gateway):
    """A gateway whose sweep and whose sending have a bug."""

    def services(self) -> Services:
        """See `infra.app.Gateway.services`."""
        really_send = self.sender.messenger.send

        async def send(chat: int | str, topic: int | None, part: Part) -> int:
            if part.body.text == BUG:
                self.blunder()
            return await really_send(chat, topic, part)

        async def sweep() -> int:
            self.blunder()

        self.sender.messenger.send = send  # type: ignore[method-assign]  # this is the bug
        return replace(super().services(), sweep=sweep)

    def blunder(self) -> NoReturn:
        """Raise what a library would that knows nothing of secrets; the cause is no better."""
        secrets = [secret.reveal() for secret in self.settings.secrets]
        url = f"https://api.telegram.org/bot{self.settings.bot_token.reveal()}/sendMessage"
        cause = LookupError(f"{self.settings} {self.settings!r} {secrets}")
        raise Blunder(f"POST {url} with {secrets!r} went wrong") from cause


async def create_app() -> GatewayRunner:
    """See `infra.app.create_app`."""
    return await app.create_app(BlunderingGateway)
