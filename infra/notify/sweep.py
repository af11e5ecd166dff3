"""The look at everything that is waited for: a hint that got lost costs time, never an answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from core.model.errors import StorageUnavailable
from core.ports import ANNOUNCED_FOR, TaskStore, Waker
from core.waiting.room import WaitingRoom

log = logging.getLogger("telegate.waiting")

SWEEP_EVERY: Final = 2.0
"""Seconds between two looks while hints arrive: a lost one costs at most this time."""

ANNOUNCE_EVERY: Final = ANNOUNCED_FOR / 3
"""Seconds between two announcements of what is followed here."""

SWEEP_EVERY_WITHOUT_HINTS: Final = 0.5
"""Seconds between two looks while the hints of other processes do not arrive."""


async def sweep_waiting_room(store: TaskStore, room: WaitingRoom, waker: Waker) -> None:
    """Look, again and again, whether a task that is waited for is final, until cancelled.

    That takes one query, and another one for the steps of the tasks that are followed, if any is.

    Args:
        store: where the rows are.
        room: who waits.
        waker: tells how often to look, and when to look at once.
    """
    failing = False
    announce_at = 0.0
    while True:
        missed = await _nap(waker)
        now = asyncio.get_running_loop().time()
        if missed or now >= announce_at:
            waker.announce(room.followed)
            announce_at = now + ANNOUNCE_EVERY
        try:
            await _look(store, room)
            failing = False
        except StorageUnavailable as error:
            if not failing:
                log.warning(
                    "The tasks waited for could not be looked at: %s",
                    error.detail,
                    extra={"action": "sweep_failed"},
                )
            failing = True


async def _nap(waker: Waker) -> bool:
    """Sleep until the next look; whether hints may have been missed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SWEEP_EVERY if waker.trouble is None else SWEEP_EVERY_WITHOUT_HINTS):
            await waker.missed()
            return True
    return False


async def _look(store: TaskStore, room: WaitingRoom) -> None:
    waited_for = room.task_ids
    if not waited_for:
        return
    final = await store.final_among(waited_for)
    if final:
        log.debug(
            "Tasks that are waited for turned out to be final: %d.",
            len(final),
            extra={"action": "sweep_found", "tasks": list(final)},
        )
    room.wake(final)
    followed = room.followed
    if followed:
        room.wake_unaware(await store.steps_among(followed))
