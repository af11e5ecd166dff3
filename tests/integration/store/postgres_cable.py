"""A cable between a store and PostgreSQL, which can be cut at a bad moment, or speak TLS at our end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests import postgres

_TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)


@dataclass(slots=True, eq=False)
class Cable:
    """Carries bytes between a port of the loopback and the server.

    Attributes:
        tls: our end's certificate; without one, whoever asks for TLS is told that there is none.
        cut_after: when our end says this, the server hears it, and its answer is cut off.
        cuts: how often that happened.
        connections: how many were made.
        silent: of so many, the oldest ones, no end hears the other any more, and none is told.
    """

    tls: ssl.SSLContext | None = None
    cut_after: bytes | None = None
    cuts: int = 0
    connections: int = 0
    silent: int = 0
    port: int = 0
    _near_ends: set[asyncio.StreamWriter] = field(default_factory=set)

    def hang_up(self) -> None:
        """Break off every connection that is carried now."""
        for end in self._near_ends:
            end.transport.abort()

    async def carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        bare = back.transport
        try:
            first = await near.readexactly(8)
            if first == _TLS_REQUEST:
                back.write(b"S" if self.tls else b"N")
                if self.tls:
                    await back.start_tls(self.tls)
                first = b""
            far, forth = await asyncio.open_connection("127.0.0.1", postgres.server().port)
            try:
                forth.write(first)
                await self._carry_both_ways(near, back, far, forth)
            finally:
                forth.transport.abort()
        finally:
            back.transport.abort()
            bare.abort()

    async def _carry_both_ways(
        self,
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
    ) -> None:
        self.connections += 1
        self._near_ends.add(back)
        halves = [
            asyncio.create_task(self._pump(near, forth, self.connections)),
            asyncio.create_task(self._pump(far, back, self.connections)),
        ]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            for end in (back, forth):
                # What was said last still arrives.
                with contextlib.suppress(OSError):
                    await end.drain()
        finally:
            self._near_ends.discard(back)
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
        while data := await source.read(65_536):
            if number <= self.silent:
                continue
            if self.cut_after is not None and self.cut_after in data:
                await self._cut(data, sink)
                return
            sink.write(data)
            await sink.drain()

    async def _cut(self, last: bytes, server: asyncio.StreamWriter) -> None:
        """Let the server hear the last words and do what they say; its answer goes nowhere."""
        self.cut_after = None
        self.cuts += 1
        server.write(last)
        await server.drain()
        # Bytes already sent are read by the server before it notices that nobody is there any more.
        server.write_eof()


@contextlib.asynccontextmanager
async def cable(tls: ssl.SSLContext | None = None) -> AsyncIterator[Cable]:
    """A cable to this process's PostgreSQL, in one piece."""
    made = Cable(tls)
    carried: set[asyncio.Task[None]] = set()

    async def carry(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        carried.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await made.carry(near, back)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in carried:
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)
        # The ends that were aborted close in the loop's next round.
        await asyncio.sleep(0)
