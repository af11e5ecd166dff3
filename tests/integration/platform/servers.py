"""What the tests of this folder hold in their hands: raw sockets, and servers in and out of process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from infra.server.runner import GatewayServer, Limits

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIMIT = 20.0
ENOUGH = {
    "BOT_TOKEN": "123456789:canary-bot-token_0123456789",
    "JWT_SECRET": "canary-jwt-secret-0123456789abcdef",
    "PERMISSIONS_FILE": str(Path(__file__).parents[3] / "permissions.yaml"),
}


@dataclass
class Client:
    """A raw socket: what is written is exactly what the server gets."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def rest(self) -> str:
        """Everything until the server closes the connection."""
        async with asyncio.timeout(LIMIT):
            return (await self.reader.read()).decode()

    async def answer(self) -> str:
        """One answer with a `Content-Length`."""
        async with asyncio.timeout(LIMIT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"(?i)content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length else b""
            return head + body.decode()


@dataclass
class InProcess:
    """A server in this process."""

    server: GatewayServer
    port: int
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def hang_up(self) -> None:
        """Close every client's side."""
        for client in self.clients:
            client.writer.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()


Serve = Callable[[web.Application, Limits], AbstractAsyncContextManager[InProcess]]


@dataclass
class Gunicorn:
    """A gunicorn process, and what it has written to stderr."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    closed: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Collect lines until the server is gone, or until nobody shall read them any more."""
        assert self.process.stderr is not None
        rest = b""
        with self.process.stderr as pipe:
            while not self.hung_up.is_set():
                if not select.select([pipe], [], [], 0.05)[0]:
                    continue
                data = os.read(pipe.fileno(), 65_536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                with self.changed:
                    self.lines.extend(line.decode() for line in lines)
                    self.changed.notify_all()
        self.closed.set()

    def hang_up(self) -> None:
        """Close the pipe that the server logs into."""
        self.hung_up.set()
        assert self.closed.wait(LIMIT)

    def count(self, pattern: str) -> int:
        return sum(1 for line in self.lines if re.search(pattern, line))

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait for lines of the log; fails with the whole log."""
        deadline = time.monotonic() + LIMIT
        with self.changed:
            while self.count(pattern) < count:
                if time.monotonic() > deadline or self.closed.is_set():
                    raise AssertionError(f"{pattern!r} is not in:\n" + "\n".join(self.lines))
                self.changed.wait(0.1)
        return next(match for line in self.lines if (match := re.search(pattern, line)))

    def exit_code(self) -> int:
        """Wait for the end of the server, and of its log."""
        code = self.process.wait(LIMIT)
        assert self.closed.wait(LIMIT)
        return code

    @property
    def port(self) -> int:
        return int(self.wait_for(r"Listening at: https?://[^ ]*:(\d+)")[1])

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def stop(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.exit_code()


Start = Callable[..., Gunicorn]
