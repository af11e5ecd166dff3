"""The gateway with a loop that can be made to stand still, from outside: gunicorn loads this for one test."""

from __future__ import annotations

import asyncio
import signal
import time

from infra import app
from infra.server.runner import GatewayRunner

STAND_STILL = signal.SIGRTMIN
"""What makes it stand still, for longer than anybody waits."""


async def create_app() -> GatewayRunner:
    """See `infra.app.create_app`."""
    asyncio.get_running_loop().add_signal_handler(STAND_STILL, _stand_still)
    return await app.create_app()


def _stand_still() -> None:
    time.sleep(120)
