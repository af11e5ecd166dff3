"""Processes in small: a notifier with its connections, and what it heard; a pooler that keeps hints back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types

from core.model.retry import RetryPolicy
from infra.notify.postgres import PostgresNotifier, Timing

BOT = 42
LIMIT = 20.0
"""Seconds that anything may take on a busy machine."""

QUICK = Timing(echo_every=0.1, timeout=1.0, reconnect=RetryPolicy(first=0.02, longest=0.05, jitter=1.0))
"""A connection that is dead is noticed after a second."""


@dataclass(slots=True, eq=False)
class Process:
    """A notifier, and everything it told its subscriber.

    Attributes:
        heard: ids of tasks, in order.
    """

    notifier: PostgresNotifier
    heard: list[str] = field(default_factory=list)
    _called: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, task_ids: Iterable[str]) -> None:
        self.heard.extend(task_ids)
        self._called.set()

    async def until(self, true: Callable[[list[str]], bool]) -> None:
        """Wait until this is true of what was heard."""
        async with asyncio.timeout(LIMIT):
            while not true(self.heard):
                self._called.clear()
                await self._called.wait()

    async def until_missed(self) -> None:
        """Wait until it says that hints may have been missed, as after every connect."""
        async with asyncio.timeout(LIMIT):
            await self.notifier.missed()

    async def until_trouble(self) -> str:
        """Wait until it polls for the time being; returns what it says."""
        async with asyncio.timeout(LIMIT):
            while "polling every" not in (self.notifier.trouble or ""):
                await self.notifier.missed()
        return self.notifier.trouble or ""

    async def until_well(self) -> None:
        """Wait until hints travel again."""
        async with asyncio.timeout(LIMIT):
            while self.notifier.trouble is not None:
                await self.notifier.missed()


@contextlib.asynccontextmanager
async def process(
    url: str, bot: int = BOT, timing: Timing = QUICK, *, connected: bool = True
) -> AsyncIterator[Process]:
    """A process whose notifier runs.

    Args:
        url: of the database.
        bot: whose tasks it has.
        timing: how quickly things happen.
        connected: whether to wait until hints travel.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, ssl=False)

    async with running(PostgresNotifier(connect=connect, bot=bot, timing=timing)) as own:
        if connected:
            await own.until_missed()
        yield own


@contextlib.asynccontextmanager
async def running(notifier: PostgresNotifier) -> AsyncIterator[Process]:
    """The process of this notifier, which runs."""
    own = Process(notifier)
    notifier.subscribe(own.hear)
    run = asyncio.create_task(notifier.run())
    try:
        yield own
        assert not run.done(), "The notifier has stopped."
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """An outsider's connection."""
    opened = await asyncpg.connect(url, ssl=False)
    try:
        yield opened
    finally:
        await opened.close()


class TransactionPooler:
    """A pooler in front of PostgreSQL that hands over notifications only together with an answer.

    That is what a pooler in transaction mode does: outside a transaction a client has no connection to the
    server, and what comes in then is nobody's.

    Attributes:
        keeps_back: whether it does so; otherwise it hands over everything.
        asked: set whenever a client has sent something.
    """

    def __init__(self, port: int) -> None:
        self.keeps_back = True
        self.asked = asyncio.Event()
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def cut(self) -> None:
        """Break all connections."""
        broken = list(self._connections)
        for each in broken:
            each.cancel()
        await asyncio.gather(*broken, return_exceptions=True)
        # What was aborted closes in the loop's next round.
        await asyncio.sleep(0)

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        # Until its very end it is one of those that `cut` waits for.
        self._connections.add(own)
        own.add_done_callback(self._connections.discard)
        try:
            await self._carry(client, to_client)
        finally:
            to_client.transport.abort()

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        connection = _Pooled(self)
        halves = [
            asyncio.create_task(connection.forward(client, to_server)),
            asyncio.create_task(connection.back(server, to_client)),
        ]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First of all: whoever cuts the connections may interrupt the waiting below.
            to_server.transport.abort()
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)


@dataclass(slots=True)
class _Pooled:
    pooler: TransactionPooler
    busy: bool = True

    async def forward(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await client.read(65_536):
            self.busy = True
            self.pooler.asked.set()
            to_server.write(data)
            await to_server.drain()

    async def back(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Hand over whole messages: https://www.postgresql.org/docs/current/protocol-message-formats.html."""
        while head := await server.readexactly(5):
            body = await server.readexactly(int.from_bytes(head[1:]) - 4)
            if head[:1] == b"A" and self.pooler.keeps_back and not self.busy:
                continue
            to_client.write(head + body)
            await to_client.drain()
            if head[:1] == b"Z":
                self.busy = False
