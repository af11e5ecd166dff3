"""Wakers: how hints travel from whoever changes a task to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from core.errors import StorageUnavailable
from core.ports import TaskStore
from core.waiting import WaitingRoom

log = logging.getLogger("telegate.waiting")

SWEEP_EVERY = 2.0
"""Seconds between two looks at what is waited for: a lost hint costs this time, never an answer."""


class LocalWaker:
    """Carries hints inside one process."""

    def __init__(self) -> None:
        self._wakes: list[Callable[[Iterable[str]], None]] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint`."""
        ids = tuple(task_ids)
        for wake in self._wakes:
            wake(ids)

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """See `core.ports.Waker.subscribe`."""
        self._wakes.append(wake)


async def sweep_waiting_room(store: TaskStore, room: WaitingRoom, interval: float = SWEEP_EVERY) -> None:
    """Look, again and again and in one query, whether a task that is waited for is final, until cancelled.

    Args:
        store: where the rows are.
        room: who waits.
        interval: seconds between two looks.
    """
    while True:
        await asyncio.sleep(interval)
        waited_for = room.task_ids
        if not waited_for:
            continue
        try:
            room.wake(await store.final_among(waited_for))
        except StorageUnavailable as error:
            log.warning(
                "The tasks waited for could not be looked at: %s",
                error.detail,
                extra={"action": "sweep_failed"},
            )
