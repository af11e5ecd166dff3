"""The gateway that keeps an issuer's keys for seconds instead of minutes; some tests let gunicorn load it."""

from __future__ import annotations

from infra import app
from infra.auth.issuer import Pace
from infra.server.runner import GatewayRunner


async def create_app() -> GatewayRunner:
    """A gateway that fetches an issuer's keys again after a second, and trusts them for two."""
    return await app.create_app(app.Substitutes(key_pace=Pace(soon=1.0, longest=2.0, cool_down=0.5)))
