"""A TCP server that answers each request exactly as a test wants, however wrong that is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

Behaviour = Callable[["Conversation"], Awaitable[None]]

TOKEN = "123456789:CANARY-token-that-nobody-may-ever-see"


@dataclass(slots=True)
class Conversation:
    """One request, and the means to answer it."""

    path: str
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: MisbehavingServer

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON body."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection with a TCP reset instead of a proper end."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(slots=True)
class MisbehavingServer:
    """See `serve`.

    Attributes:
        requests: what came in, oldest first.
        connections: how many connections were made.
        arrived: set when the first request is in.
        closed_by_peer: set when a connection has ended.
        released: set at the end, for behaviours that wait for ever.
    """

    behaviours: list[Behaviour]
    port: int = 0
    requests: list[Conversation] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed_by_peer: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests and let the next behaviour answer each; the last one stays for all that follow."""
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            self.closed_by_peer.set()
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        conversation = Conversation(lines[0].split(" ")[1], body, reader, writer, self)
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        self.requests.append(conversation)
        self.arrived.set()
        await behaviour(conversation)


@contextlib.asynccontextmanager
async def serve(*behaviours: Behaviour) -> AsyncIterator[MisbehavingServer]:
    """Run a server on a free port of this machine while the block runs."""
    server = MisbehavingServer(list(behaviours))
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.released.set()
        listening.close()


def answer(status: int, content: object, *, connection: str = "keep-alive") -> Behaviour:
    """Answer in JSON (or with these bytes), as a well-behaved server."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
    ).encode()

    async def behave(conversation: Conversation) -> None:
        await conversation.write(head + body)

    return behave


def done(message_id: int = 4711) -> Behaviour:
    """Answer as Telegram does to a message that was sent."""
    return answer(200, {"ok": True, "result": {"message_id": message_id}})


def refusal(status: int, description: str, **parameters: object) -> Behaviour:
    """Answer as Telegram does when it says no."""
    content: dict[str, object] = {"ok": False, "error_code": status, "description": description}
    if parameters:
        content["parameters"] = parameters
    return answer(status, content)


async def hang(conversation: Conversation) -> None:
    """Never answer, until the other side gives up."""
    gone = asyncio.ensure_future(conversation.reader.read())
    released = asyncio.ensure_future(conversation.server.released.wait())
    await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
    for waiting in (gone, released):
        waiting.cancel()
    await asyncio.gather(gone, released, return_exceptions=True)
    conversation.reset()


async def reset(conversation: Conversation) -> None:
    """Read the request, then cut the connection."""
    conversation.reset()


async def reset_in_answer(conversation: Conversation) -> None:
    """Cut the connection in the middle of the answer."""
    await conversation.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"ok": true')
    conversation.writer.close()


async def byte_by_byte(conversation: Conversation) -> None:
    """Answer so slowly that nobody can wait for it."""
    await conversation.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not conversation.server.released.is_set() and not conversation.writer.is_closing():
        await conversation.write(b" ")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(conversation.server.released.wait(), 0.01)


async def endless(conversation: Conversation) -> None:
    """Answer with ten megabytes whose length is not told before."""
    await conversation.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(160):
        await conversation.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")


async def no_http(conversation: Conversation) -> None:
    """Answer with what is no HTTP."""
    await conversation.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    conversation.writer.close()
