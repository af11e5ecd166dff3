"""A gateway whose streams of events give signs of life often: gunicorn loads this for one test."""

from __future__ import annotations

from dataclasses import replace

from handlers.keys import Services
from infra import app
from infra.server.runner import GatewayRunner

COMMENT_EVERY = 0.2
"""Seconds."""


class LivelyGateway(app.Gateway):
    """A gateway that comments every fifth of a second, and looks then whether the token still counts."""

    def services(self) -> Services:
        """See `infra.app.Gateway.services`."""
        services = super().services()
        return replace(services, streams=replace(services.streams, comment_every=COMMENT_EVERY))


async def create_app() -> GatewayRunner:
    """See `infra.app.create_app`."""
    return await app.create_app(LivelyGateway)
