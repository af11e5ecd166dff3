"""Polling the rows of all tasks that are waited for: a hint that got lost costs time, never an answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from core.incident import Incident
from core.model.errors import StorageUnavailable
from core.ports import Notifier, TaskStore
from core.waiting.room import WaitingRoom

log = logging.getLogger("telegate.waiting")

POLL_EVERY: Final = 2.0
"""Seconds between two queries while hints arrive: a lost one costs at most this time."""

POLL_EVERY_WITHOUT_HINTS: Final = 0.5
"""Seconds between two queries while the hints of other processes do not arrive."""


async def poll_waiting_room(store: TaskStore, room: WaitingRoom, notifier: Notifier) -> None:
    """Wake whoever waits for what has happened already, with one query each time, until cancelled.

    Args:
        store: where the rows are.
        room: who waits.
        notifier: tells how often to query, and when to query at once.
    """
    incident = Incident(log)
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_EVERY if notifier.trouble is None else POLL_EVERY_WITHOUT_HINTS):
                await notifier.missed()
        task_ids = room.task_ids
        if not task_ids:
            continue
        try:
            progress = await store.progress(task_ids)
        except StorageUnavailable as error:
            incident.begin("Polling for waiting requests failed: %s", error.detail, action="sweep_failed")
            continue
        incident.end("Polling for waiting requests works again.", action="sweep_well")
        final = [task_id for task_id, (_, is_final) in progress.items() if is_final]
        if final:
            log.debug(
                "Polling found final tasks that are waited for: %d.",
                len(final),
                extra={"action": "sweep_found", "tasks": final},
            )
        room.wake_unaware(progress)
