"""Loops that run beside the server for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

log = logging.getLogger("telegate.background")

PAUSE_AFTER_BUG = 1.0
"""Seconds until a loop that failed starts again."""

TELL_AGAIN = 1.0
"""Seconds after which a loop that does not end is told to once more."""


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
        await _end(started)


async def _end(started: Iterable[asyncio.Task[None]]) -> None:
    # A cancellation can get lost, in a library, too; a server that does not end would hold up every deploy.
    left = set(started)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=TELL_AGAIN)
        for task in left:
            log.warning(
                "%s did not end when it was told to; it is told again.",
                task.get_name(),
                extra={"action": "told_again"},
            )


async def _keep(name: str, loop: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await loop()
        except Exception:
            log.exception("%s failed because of a bug and starts again.", name, extra={"action": "bug"})
            await asyncio.sleep(PAUSE_AFTER_BUG)
        else:
            return
