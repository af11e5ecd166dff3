"""Background tasks: work that goes on by itself, each piece in an asyncio.Task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from core.model.errors import StorageUnavailable, TelegateError

T = TypeVar("T")

log = logging.getLogger("telegate.jobs")

current_task: ContextVar[str | None] = ContextVar("task", default=None)
"""The id of the task that is being worked on, for log lines; a background task sets it for itself alone."""


@dataclass(slots=True)
class BackgroundTasks:
    """What is running, so that it can end when the process does.

    Attributes:
        stopping: whether nothing new is to be begun.
    """

    stopping: bool = False
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def running(self) -> Collection[asyncio.Task[None]]:
        """What is running now."""
        return frozenset(self._running)

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Start a piece of work. What goes wrong in it is logged: nobody else would be told."""
        running = asyncio.create_task(_logged(work))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        # What is cancelled before its first step would otherwise never be awaited.
        running.add_done_callback(lambda _done: work.close())
        return running

    async def stop(self, grace: float) -> None:
        """Let what is running end for at most `grace` seconds, then cancel it."""
        self.stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        # What ends may start something else: an answer's question is finalized, for example.
        while self._running and loop.time() < deadline:
            await asyncio.wait(set(self._running), timeout=deadline - loop.time())
        late = set(self._running)
        for running in late:
            running.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def run_to_completion(work: Coroutine[object, object, T]) -> T:
    """Await a piece of work that goes on to its end even when its caller is cancelled."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(_log_abandoned)
        raise


def _log_abandoned(done: asyncio.Task[T]) -> None:
    """The caller has gone, and can repeat the request: a failure is worth a line."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, TelegateError):
        log.warning(
            "Background work failed after the caller disconnected: %s",
            error.detail,
            extra={"action": error.code},
        )
    elif error is not None:
        log.error(
            "Unhandled exception in background work after the caller disconnected.",
            exc_info=error,
            extra={"action": "bug"},
        )


async def _logged(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except StorageUnavailable as error:
        log.warning(
            "Background work stopped because the database is unavailable; it will be resumed: %s",
            error.detail,
            extra={"action": "store_failed"},
        )
    except TelegateError as error:
        log.warning("A call to Telegram failed: %s", error.detail, extra={"action": error.code})
    except Exception:
        log.exception("Unhandled exception in background work.", extra={"action": "bug"})
