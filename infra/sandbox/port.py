"""The sandbox's listening socket, which can go down as Telegram does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from aiohttp import web

ANSWER_FIRST = 0.05
"""Seconds in which the answer to a request for an outage is still written."""

NOTICED_WITHIN = 0.02
"""Seconds in which callers notice that their idle connections are gone; later they are refused, not reset."""


class Port:
    """The listening socket; it can go down and come back on the same number.

    Args:
        app: what is served.
        host: address to listen on.
        number: port; 0 for any that is free.
    """

    def __init__(self, app: web.Application, host: str, number: int) -> None:
        self._app = app
        self._host = host
        self.number = number
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._kept: socket.socket | None = None
        self._outage: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        self._runner = runner
        try:
            await self._listen()
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop, and end all connections."""
        if self._outage is not None:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        self._give_up()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = self._site = None

    async def go_down(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._site is not None and self._runner is not None:
            await self._site.stop()
            self._site = None
            self._keep()
            server = self._runner.server
            for connection in server.connections if server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(NOTICED_WITHIN)

    async def come_back(self) -> None:
        """Listen again, on the same port."""
        if self._site is None:
            self._give_up()
            await self._listen()

    def go_down_for(self, seconds: float) -> None:
        """Refuse connections for that long, beginning when the present answer is written."""
        loop = asyncio.get_running_loop()
        self._outage = loop.create_task(self._outage_of(seconds), name="sandbox outage")

    async def _outage_of(self, seconds: float) -> None:
        await asyncio.sleep(ANSWER_FIRST)
        async with self.down():
            await asyncio.sleep(seconds)

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Refuse connections while the block runs."""
        await self.go_down()
        try:
            yield
        finally:
            await asyncio.shield(self.come_back())

    def _keep(self) -> None:
        """Hold the number while nobody listens on it: another program could take it meanwhile."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._kept = socket.socket(family)
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind((self._host, self.number))

    def _give_up(self) -> None:
        """Hold the number no longer."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("The sandbox is not running.")
        site = web.TCPSite(self._runner, self._host, self.number, reuse_address=True)
        await site.start()
        self._site = site
        host_and_port = self._runner.addresses[0]
        self.number = int(host_and_port[1])
