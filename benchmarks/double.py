"""A Telegram that says yes at once: the same answer to each call, in a process of its own.

It also keeps the buttons of each question that it is sent, and hands them out:
`GET /buttons?count=N` answers once there are N, with their chats, message ids and data, and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from itertools import count
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_METHOD = re.compile(rb"/([A-Za-z]+) HTTP")
_WANTED = re.compile(rb"GET /buttons\?count=(\d+) ")
_CHAT = re.compile(rb'"chat_id": ?(-?\d+)')
_DATA = re.compile(rb'"callback_data": ?"([^"]+)"')

_MESSAGE = (
    b'{"ok":true,"result":{"message_id":%d,"date":1790000000,'
    b'"chat":{"id":815,"type":"private","first_name":"Ada"},"text":"Hello"}}'
)
_ME = {"id": 123456, "is_bot": True, "first_name": "Bench", "username": "bench_bot"}
_WEBHOOK = {"url": "", "has_custom_certificate": False, "pending_update_count": 0}
_RESULTS = {b"getMe": _ME, b"getWebhookInfo": _WEBHOOK}


class Buttons:
    """The buttons sent so far, and who waits for them."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int, str]] = []
        self._waiting: list[tuple[int, asyncio.Transport]] = []

    def add(self, chat: int, message_id: int, data: str) -> None:
        """Keep one, and answer whoever has waited for it."""
        self._seen.append((chat, message_id, data))
        self._hand_out()

    def wait(self, wanted: int, transport: asyncio.Transport) -> None:
        """Answer on this connection as soon as there are so many."""
        self._waiting.append((wanted, transport))
        self._hand_out()

    def _hand_out(self) -> None:
        if self._waiting and len(self._seen) >= self._waiting[0][0]:
            _, transport = self._waiting.pop(0)
            transport.write(_answer(json.dumps(self._seen).encode()))
            self._seen = []


class Client(asyncio.Protocol):
    """One connection of whoever thinks that this is Telegram."""

    message_ids = count(10**9)

    def __init__(self, buttons: Buttons) -> None:
        self._buttons = buttons
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            self._reply(head, body)

    def _reply(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        wanted = _WANTED.match(head)
        if wanted:
            self._buttons.wait(int(wanted[1]), self._transport)
            return
        method = _METHOD.search(head)
        if method and method[1] == b"sendMessage":
            self._transport.write(_answer(self._send(body)))
        else:
            self._transport.write(_CONSTANT.get(method[1] if method else b"", _TRUE))

    def _send(self, body: bytes) -> bytes:
        message_id = next(self.message_ids)
        data, chat = _DATA.search(body), _CHAT.search(body)
        if data and chat:
            self._buttons.add(int(chat[1]), message_id, data[1].decode())
        return _MESSAGE % message_id


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


_TRUE = _answer(b'{"ok":true,"result":true}')
_CONSTANT = {
    method: _answer(json.dumps({"ok": True, "result": result}).encode())
    for method, result in _RESULTS.items()
}


async def serve(port: int) -> None:
    """Serve on this port of this machine until the process is told to stop."""
    buttons = Buttons()
    server = await asyncio.get_running_loop().create_server(lambda: Client(buttons), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(os.environ["PORT"])))
