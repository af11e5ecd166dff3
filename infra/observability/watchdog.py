"""Notices when the event loop stands still, and writes down what it is stuck in."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Final, Self

log = logging.getLogger("telegate.loop")

LIMIT: Final = 1.0
"""Seconds without a tick after which the loop counts as blocked."""

TICK: Final = 0.25
"""Seconds between two ticks, and between two looks at them."""

_BUSY_SHARE: Final = 0.1
_JOIN_LIMIT: Final = 2.0


class LoopWatchdog:
    """Watches the running loop from a thread of its own, while the block lasts.

    A whole process that was stopped, or a machine that slept, is no blocked loop: then the watching thread
    stood still as well. Unless the processor worked for this process all the same: then something kept
    the interpreter's lock, and the loop from running.

    Args:
        limit: seconds without a tick after which the loop counts as blocked.
        tick: seconds between two ticks, and between two looks at them.

    Attributes:
        blocks: how often the loop has stood still; counted when it goes on.
        blocked_seconds: for how long, in all.
    """

    def __init__(self, limit: float = LIMIT, tick: float = TICK) -> None:
        self.blocks = 0
        self.blocked_seconds = 0.0
        self._limit = limit
        self._tick_every = tick
        self._ticked_at = 0.0
        self._pause: tuple[float, float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched = 0
        self._told_beginning: float | None = None
        self._told_pause: tuple[float, float] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="telegate-loop-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._watched = threading.get_ident()
        self._ticked_at = time.monotonic()
        self._tick(asyncio.get_running_loop())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join(_JOIN_LIMIT)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        before, now = self._ticked_at, time.monotonic()
        # The thread reads these two in the other order, so a pause that it sees has ended for it, too.
        self._ticked_at = now
        if now - before > self._limit:
            self._pause = (before, now)
        self._timer = loop.call_later(self._tick_every, self._tick, loop)

    # From here on everything runs in the thread.

    def _watch(self) -> None:
        looked_at, used = time.monotonic(), time.process_time()
        resumed_at = looked_at
        while not self._ended.wait(self._tick_every):
            now, used_now = time.monotonic(), time.process_time()
            gap = now - looked_at
            if gap > self._limit and used_now - used < gap * _BUSY_SHARE:
                resumed_at = now
            looked_at, used = now, used_now
            self._judge(now, resumed_at)

    def _judge(self, now: float, resumed_at: float) -> None:
        pause, ticked_at = self._pause, self._ticked_at
        if pause is not None and pause is not self._told_pause:
            self._told_pause = pause
            # Some end before anybody could look: a regular expression lets no other thread run meanwhile.
            if pause[0] == self._told_beginning or pause[0] >= resumed_at:
                self._tell_end(pause[1] - pause[0])
        if ticked_at != self._told_beginning and now - max(ticked_at, resumed_at) > self._limit:
            self._told_beginning = ticked_at
            self._tell_beginning(now - ticked_at)

    def _tell_beginning(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the documented way to another thread's stack
        stack = "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()
        log.error(
            "The event loop stands still for %.1f s now; meanwhile no request is answered. It is in:\n%s",
            seconds,
            stack,
            extra={"action": "loop_blocked", "seconds": round(seconds, 2)},
        )

    def _tell_end(self, seconds: float) -> None:
        self.blocks += 1
        self.blocked_seconds += seconds
        log.warning(
            "The event loop goes on; it stood still for %.1f s.",
            seconds,
            extra={"action": "loop_goes_on", "seconds": round(seconds, 2)},
        )
