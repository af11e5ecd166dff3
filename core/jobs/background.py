"""Errands: pieces of work that go on by themselves, each in an asyncio.Task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from core.model.errors import StorageUnavailable, TelegateError

T = TypeVar("T")

log = logging.getLogger("telegate.sending")

current_task: ContextVar[str | None] = ContextVar("task", default=None)
"""The id of the task that is worked at, for log lines; an errand sets it once, for itself alone."""


@dataclass(slots=True)
class Errands:
    """What is going on, so that it can end when the process does.

    Attributes:
        stopping: whether nothing new is to be begun.
    """

    stopping: bool = False
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def running(self) -> Collection[asyncio.Task[None]]:
        """What is going on."""
        return frozenset(self._running)

    def run(self, work: Coroutine[object, object, None]) -> None:
        """Begin a piece of work. What goes wrong in it is logged: nobody else would be told."""
        running = asyncio.create_task(_logged(work))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        # What is cancelled before its first step would otherwise never be awaited.
        running.add_done_callback(lambda _done: work.close())

    async def stop(self, grace: float) -> None:
        """Let what is going on end for at most `grace` seconds; then let go of it."""
        self.stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        # What ends may begin something else: an answer's question is closed, for example.
        while self._running and loop.time() < deadline:
            await asyncio.wait(set(self._running), timeout=deadline - loop.time())
        late = set(self._running)
        for running in late:
            running.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def to_its_end(work: Coroutine[object, object, T]) -> T:
    """Await a piece of work that goes on to its end even when nobody waits for it any more."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(_tell_nobody)
        raise


def _tell_nobody(done: asyncio.Task[T]) -> None:
    """Whoever wanted it has gone, and can repeat it: that it failed is worth a line."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, TelegateError):
        log.warning("What nobody waits for any more failed: %s", error.detail, extra={"action": error.code})
    elif error is not None:
        log.error(
            "What nobody waits for any more failed because of a bug.", exc_info=error, extra={"action": "bug"}
        )


async def _logged(work: Coroutine[object, object, None]) -> None:
    try:
        await work
    except StorageUnavailable as error:
        log.warning(
            "Something could not be done because the database is away; it is taken up again: %s",
            error.detail,
            extra={"action": "store_failed"},
        )
    except TelegateError as error:
        log.warning("A call to Telegram did not succeed: %s", error.detail, extra={"action": error.code})
    except Exception:
        log.exception("Sending a task failed because of a bug.", extra={"action": "bug"})
