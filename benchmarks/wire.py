"""HTTP by hand: requests as bytes made beforehand, answers cut out of what came, connections kept."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from benchmarks.failing import BenchmarkFailed

NUMBER: Final = "__NUMBER____"
"""Stands where each request gets another number of just as many digits."""

FIRST_NUMBER: Final = 10 ** (len(NUMBER) - 1)

_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """One response: its status and its body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None) -> bytes:
    """A whole request.

    Args:
        method: in capitals.
        path: with its query.
        headers: beyond `Host`, and `Content-Type` and `Content-Length` when there is a body.
        body: what becomes JSON, or None.
    """
    content = b"" if body is None else json.dumps(body).replace(f'"{NUMBER}"', NUMBER).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + _END + content


def take_answer(received: bytes) -> Answer | None:
    """The response that these bytes are; None while something is missing."""
    end = received.find(_END)
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(b"content-length:")
    length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
    body = received[end + 4 :]
    return Answer(int(received[9:12]), body) if len(body) >= length else None


def fetch(port: int, raw: bytes, limit: float) -> Answer:
    """Send one request on a connection of its own, and block until it is answered.

    Args:
        port: of a server on this machine.
        raw: the request.
        limit: seconds.

    Raises:
        OSError: there is no such server, or no answer in time.
    """
    with socket.create_connection(("127.0.0.1", port), limit) as connection:
        connection.sendall(raw)
        received = b""
        while (answer := take_answer(received)) is None:
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionResetError("The server closed the connection without an answer.")
            received += chunk
    return answer


class Connection(asyncio.Protocol):
    """A kept connection with one request on its way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", port))[1]

    def ask(self, raw: bytes) -> asyncio.Future[Answer]:
        """Send a request now; the future gets its answer."""
        if self._transport is None:
            raise BenchmarkFailed("A connection was lost before its request was sent.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Tell whoever asked, once the answer is whole."""
        self._received += data
        answer = take_answer(self._received)
        if answer is not None and self._answer is not None and not self._answer.done():
            self._received = b""
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever asked that no answer will come."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("The server closed the connection."))
