"""Background loops: asyncio tasks that run beside the server for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from core.model.retry import RetryPolicy

log = logging.getLogger("telegate.background")

RESTART: Final = RetryPolicy(first=1.0, longest=1.0)
"""When a loop that failed because of a bug starts again."""

CANCEL_AGAIN: Final = 1.0
"""Seconds after which a task that has not ended is cancelled once more."""


@asynccontextmanager
async def running(loops: Mapping[str, Callable[[], Awaitable[object]]]) -> AsyncIterator[None]:
    """Run these in the background while the block lasts; one that fails is logged and started again.

    Args:
        loops: what to run, by a name for the log. One that returns is done.
    """
    tasks = [asyncio.create_task(_keep_running(name, loop), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        await _cancel(tasks)


async def _keep_running(name: str, loop: Callable[[], Awaitable[object]]) -> None:
    failures = 0
    while True:
        try:
            await loop()
        except Exception:
            failures += 1
            log.exception("%s failed because of a bug and starts again.", name, extra={"action": "bug"})
            await asyncio.sleep(RESTART.delay(failures) or 0.0)
        else:
            return


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    # A cancellation can get lost, in a library, too; a server that does not end would hold up every deploy.
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
        for task in left:
            log.warning(
                "%s did not end when it was told to; it is told again.",
                task.get_name(),
                extra={"action": "told_again"},
            )
