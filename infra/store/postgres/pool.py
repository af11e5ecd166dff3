"""A pool of connections: the one that was used last is used next, and those that nobody uses are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Pool:
    """Opens connections as they are needed. Why it is not asyncpg's is told by decision 0015.

    Args:
        connect: opens a connection; takes the loop's time by which it has to be open.
        idle: seconds after which a connection that rests is closed.
    """

    def __init__(self, connect: Callable[[float], Awaitable[Any]], idle: float) -> None:
        self._connect = connect
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._resting: list[tuple[float, Any]] = []
        self._alarm: asyncio.TimerHandle | None = None

    async def acquire(self, until: float) -> Any:
        """A connection of one's own, until `release`; raises what opening it raises."""
        while self._resting:
            _, connection = self._resting.pop()
            if not connection.is_closed():
                return connection
        return await self._connect(until)

    def release(self, connection: Any) -> None:
        """Let a connection rest, with no transaction open; it may be broken."""
        self._resting.append((self._loop.time(), connection))
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._idle, self._close_idle)

    def close_resting(self, rested: float = 0.0) -> None:
        """Close the connections that have rested for so many seconds."""
        latest = self._loop.time() - rested
        for since, connection in self._resting:
            if since <= latest:
                connection.terminate()
        self._resting = [each for each in self._resting if each[0] > latest]

    def _close_idle(self) -> None:
        self.close_resting(self._idle)
        self._alarm = None
        if self._resting:
            left = self._resting[0][0] + self._idle - self._loop.time()
            self._alarm = self._loop.call_later(left, self._close_idle)
