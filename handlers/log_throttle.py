"""The log throttle: warnings that anybody outside can cause at will are logged once in a while."""

from __future__ import annotations

import logging
import time
from typing import Final

from aiohttp import web

log = logging.getLogger("telegate.http")

EVERY: Final = 60.0
"""Seconds between two warnings of the same kind."""

NEXT_TIMES: Final = web.AppKey("next_times", dict[str, float])
"""When a warning of each kind may be logged again, by the monotonic clock (seconds)."""


def warn_throttled(request: web.Request, action: str, text: str, *args: object) -> None:
    """Log a warning, unless one of its kind was logged lately.

    Args:
        request: whose application remembers it.
        action: the kind.
        text: a sentence for the operator, with placeholders for `args`.
        args: for the placeholders.
    """
    times, now = request.app[NEXT_TIMES], time.monotonic()
    if now >= times.get(action, 0.0):
        times[action] = now + EVERY
        log.warning(text, *args, extra={"action": action})
