"""A gateway whose streams of events give signs of life often: gunicorn loads this for one test."""

from __future__ import annotations

from dataclasses import replace

from handlers.keys import Services
from infra import app
from infra.server.runner import GatewayRunner

COMMENT_EVERY = 0.2
"""Seconds."""


async def create_app() -> GatewayRunner:
    """A gateway that comments every fifth of a second, and looks then whether the token still counts."""
    return await app.create_app(app.Substitutes(services=_lively))


def _lively(services: Services) -> Services:
    return replace(services, streams=replace(services.streams, comment_every=COMMENT_EVERY))
