"""Loops that run beside the server for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

log = logging.getLogger("telegate.background")

_PAUSE_AFTER_BUG = 1.0


@asynccontextmanager
async def running(loops: Mapping[str, Callable[[], Awaitable[object]]]) -> AsyncIterator[None]:
    """Run these in the background while the block lasts; one that fails is told about and started again.

    Args:
        loops: what to run, by a name for the log. One that returns is done.
    """
    started = [asyncio.create_task(_keep(name, loop), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def _keep(name: str, loop: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await loop()
        except Exception:
            log.exception("%s failed because of a bug and starts again.", name, extra={"action": "bug"})
            await asyncio.sleep(_PAUSE_AFTER_BUG)
        else:
            return
