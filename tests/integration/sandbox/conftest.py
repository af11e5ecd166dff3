"""A running sandbox, python-telegram-bot as an independent reader of it, and a webhook to post to."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import telegram
from aiohttp import web

from infra.sandbox import Sandbox

TOKEN = "123456:TEST-token"


@dataclass
class Receiver:
    """A webhook: keeps what was posted, answers as it is told (200 when it is told nothing)."""

    url: str = ""
    posts: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answers: deque[web.Response] = field(default_factory=deque)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    open_posts: int = 0
    most_open: int = 0

    async def take(self, request: web.Request) -> web.Response:
        self.open_posts += 1
        self.most_open = max(self.most_open, self.open_posts)
        self.headers.append(dict(request.headers))
        self.times.append(asyncio.get_running_loop().time())
        self.posts.put_nowait(await request.json())
        try:
            await self.gate.wait()
        finally:
            self.open_posts -= 1
        return self.answers.popleft() if self.answers else web.Response()

    async def next(self) -> dict[str, Any]:
        """The next update that arrived."""
        async with asyncio.timeout(10):
            return await self.posts.get()


@dataclass
class Caller:
    """Calls the Bot API without any library."""

    http: aiohttp.ClientSession
    base: str

    async def __call__(self, method: str, **values: Any) -> dict[str, Any]:
        """The answer's JSON, with the HTTP status under `status`."""
        async with self.http.post(f"{self.base}/bot{TOKEN}/{method}", json=values) as response:
            answer: dict[str, Any] = await response.json()
            return answer | {"status": response.status}

    async def refusal(self, method: str, **values: Any) -> tuple[int, str]:
        """Error code and description of a call that must fail."""
        answer = await self(method, **values)
        assert answer["ok"] is False
        assert answer["status"] == answer["error_code"]
        return answer["error_code"], answer["description"]

    async def result(self, method: str, **values: Any) -> Any:
        """The result of a call that must succeed."""
        answer = await self(method, **values)
        assert answer["ok"] is True, answer
        return answer["result"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox.start(token=TOKEN, time_scale=0.01) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@pytest.fixture
async def call(sandbox: Sandbox, http: aiohttp.ClientSession) -> Caller:
    return Caller(http, sandbox.api_url)


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[telegram.Bot]:
    made = telegram.Bot(TOKEN, base_url=f"{sandbox.api_url}/bot", base_file_url=f"{sandbox.api_url}/file/bot")
    async with made:
        yield made


async def serve(tls: ssl.SSLContext | None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    receiver.gate.set()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    receiver.gate.set()
    await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async for running in serve(None):
        yield running


@pytest.fixture
async def hooked(sandbox: Sandbox, receiver: Receiver, call: Caller) -> Receiver:
    """A webhook that is already set."""
    await call.result("setWebhook", url=receiver.url, secret_token="s3cret")
    return receiver
