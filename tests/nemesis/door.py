"""The door: one address in front of all servers, as a platform's router is, for Telegram's updates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import count


class Door:
    """Forwards each connection to one server that takes it, the servers in turn.

    Args:
        ports: of the servers.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._turns = count()
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def opened(self, port: int) -> AsyncIterator[None]:
        """Listen on this port of the loopback while the block runs."""
        server = await asyncio.start_server(self._enter, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._forward(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._ports:
            port = self._ports[next(self._turns) % len(self._ports)]
            with contextlib.suppress(OSError):
                inner, outer = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            return
        # When either side ends, so does the other: a broken server is seen at once.
        ways = {asyncio.create_task(_pipe(reader, outer)), asyncio.create_task(_pipe(inner, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            outer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
