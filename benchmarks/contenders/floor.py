"""The floor: what our server does for an update and for a message, by the same libraries and nothing else.

Each request is stored durably before it is answered, as ours is. What is not here: policies, limits, pacing,
queues, leases, retries, idempotency, recovery after a crash, errors in words, and everything that waits.
The log is ours: seen from here, it is one more library.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Annotated, Any, NamedTuple

import aiohttp
import jwt
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_json

from infra.observability.logs import configure_logging

_log = logging.getLogger("floor")

_TABLES = """
CREATE TABLE IF NOT EXISTS updates (bot INTEGER, update_id INTEGER, at INTEGER,
  PRIMARY KEY (bot, update_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (bot INTEGER, id TEXT, kind TEXT, state TEXT, service TEXT, chat INTEGER,
  content TEXT, created_at INTEGER, updated_at INTEGER, message_id INTEGER,
  PRIMARY KEY (bot, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_open ON tasks (bot, chat) WHERE kind = 'question' AND state = 'asked';
CREATE TABLE IF NOT EXISTS history (bot INTEGER, task TEXT, seq INTEGER, at INTEGER, what TEXT,
  PRIMARY KEY (bot, task, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages (bot INTEGER, chat INTEGER, message_id INTEGER, task TEXT,
  PRIMARY KEY (bot, chat, message_id)) WITHOUT ROWID;
"""
_SEE = "INSERT INTO updates VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_REPLIED_TO = """
SELECT id FROM tasks WHERE bot = ? AND id = (
  SELECT task FROM messages WHERE bot = ? AND chat = ? AND message_id = ?)
"""
_OPEN = "SELECT id FROM tasks WHERE bot = ? AND chat = ? AND kind = 'question' AND state = 'asked'"
_TASK = "INSERT INTO tasks VALUES (?, ?, 'message', 'sending', ?, ?, ?, ?, ?, NULL)"
_SENT = "UPDATE tasks SET state = 'sent', updated_at = ?, message_id = ? WHERE bot = ? AND id = ?"
_HISTORY = "INSERT INTO history VALUES (?, ?, ?, ?, ?)"
_MESSAGE = "INSERT INTO messages VALUES (?, ?, ?, ?)"

_MOST_IN_GROUP = 256
_MOST_REMEMBERED = 10_000

_Transaction = Callable[[sqlite3.Cursor], object]
_Call = tuple[_Transaction, asyncio.Future[None]]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Person(_Model):
    id: int
    is_bot: bool
    first_name: str
    last_name: str | None = None
    username: str | None = None


class _Chat(_Model):
    id: int
    type: str


class _Replied(_Model):
    message_id: int
    text: str | None = None


class _Message(_Model):
    message_id: int
    chat: _Chat
    sender: _Person | None = Field(default=None, alias="from")
    text: str | None = None
    reply_to_message: _Replied | None = None


class _Update(_Model):
    update_id: int
    message: _Message


class _Wanted(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    chat: int
    text: Annotated[str, Field(min_length=1, max_length=4096)]
    silent: bool = False
    protect: bool = False


class _Service(NamedTuple):
    name: str
    expires: float


class Database:
    """One SQLite file and the thread that writes it: whatever waits is one commit."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {_TABLES}")
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def write(self, transaction: _Transaction) -> asyncio.Future[None]:
        """Done once it is durable; a group that fails, fails for everybody in it."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((transaction, done))
        return done

    async def close(self) -> None:
        """Finish what waits."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        cursor, is_open = self._connection.cursor(), True
        while is_open:
            group = [self._queue.get()]
            with suppress(Empty):
                while len(group) < _MOST_IN_GROUP:
                    group.append(self._queue.get_nowait())
            calls = [call for call in group if call is not None]
            is_open = len(calls) == len(group)
            error = self._commit(cursor, calls)
            self._loop.call_soon_threadsafe(_settle, calls, error)
        self._connection.close()

    def _commit(self, cursor: sqlite3.Cursor, calls: Sequence[_Call]) -> sqlite3.Error | None:
        try:
            cursor.execute("BEGIN IMMEDIATE")
            for transaction, _ in calls:
                transaction(cursor)
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            self._connection.rollback()
            return error
        return None


def _settle(calls: Sequence[_Call], error: sqlite3.Error | None) -> None:
    for _, done in calls:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


class Floor:
    """The two routes, each also without one of its steps: so it shows what that step costs."""

    def __init__(self) -> None:
        self._token = os.environ["BOT_TOKEN"]
        self._bot = int(self._token.partition(":")[0])
        self._secret = os.environ["WEBHOOK_SECRET"].encode()
        self._public_key = os.environ["PUBLIC_KEY"]
        self._send_url = f"{os.environ['TELEGRAM_API_URL']}/bot{self._token}/sendMessage"
        self._services: dict[str, _Service] = {}

    async def open(self, _app: web.Application) -> AsyncIterator[None]:
        """Open the database and the session, and close them in the end."""
        self._database = Database(os.environ["DATABASE_FILE"])
        connector = aiohttp.TCPConnector(limit=512)
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._telegram:
            yield
        await self._database.close()

    async def take_update(self, request: web.Request, *, logged: bool = True) -> web.Response:
        """Store an update, and find out which question it may answer; there is none."""
        begun = time.perf_counter()
        secret = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "").encode()
        if not hmac.compare_digest(secret, self._secret):
            raise web.HTTPUnauthorized
        update = _Update.model_validate_json(await request.read())
        await self._database.write(partial(self._receive, update, time.time_ns() // 1_000_000))
        response = web.Response()
        if logged:
            _tell(request, response, begun, None)
        return response

    def _receive(self, update: _Update, at: int, cursor: sqlite3.Cursor) -> None:
        if not cursor.execute(_SEE, (self._bot, update.update_id, at)).rowcount:
            return
        chat, replied = update.message.chat.id, update.message.reply_to_message
        if replied is not None:
            key = (self._bot, self._bot, chat, replied.message_id)
            found = cursor.execute(_REPLIED_TO, key).fetchall()
            if not found:
                cursor.execute(_OPEN, (self._bot, chat)).fetchall()

    async def send(self, request: web.Request, *, says_sent: bool = True, calls: bool = True) -> web.Response:
        """Store a message, send it, store that it is sent; the answer is the task."""
        begun = time.perf_counter()
        service = self._authenticate(request.headers.get("Authorization", ""))
        wanted = _Wanted.model_validate_json(await request.read())
        task, now = f"tsk_{time.time_ns():016x}{secrets.token_hex(5)}", time.time_ns() // 1_000_000
        await self._database.write(partial(self._add, task, service.name, wanted, now))
        message_id = await self._call(wanted) if calls else time.time_ns()
        if says_sent:
            later = time.time_ns() // 1_000_000
            await self._database.write(partial(self._finish, task, wanted.chat, message_id, later))
        document = {
            "id": task,
            "kind": "message",
            "state": "sent",
            "service": service.name,
            "chat": {"id": wanted.chat},
            "message_ids": [message_id],
            "created_at": now,
        }
        response = web.Response(body=to_json(document), content_type="application/json")
        _tell(request, response, begun, service.name)
        return response

    def _authenticate(self, header: str) -> _Service:
        """Whose token this is; each is verified once, and remembered until it expires."""
        known = self._services.get(header)
        if known is None:
            token = header.removeprefix("Bearer ")
            try:
                claims = jwt.decode(token, self._public_key, algorithms=["EdDSA"], audience="telegate")
            except jwt.InvalidTokenError as error:
                raise web.HTTPUnauthorized from error
            if len(self._services) >= _MOST_REMEMBERED:
                self._services.clear()
            known = self._services[header] = _Service(claims["sub"], claims["exp"])
        if known.expires <= time.time():
            raise web.HTTPUnauthorized
        return known

    def _add(self, task: str, service: str, wanted: _Wanted, at: int, cursor: sqlite3.Cursor) -> None:
        content = wanted.model_dump_json()
        cursor.execute(_TASK, (self._bot, task, service, wanted.chat, content, at, at))
        cursor.execute(_HISTORY, (self._bot, task, 1, at, "sending"))

    async def _call(self, wanted: _Wanted) -> int:
        """Source: https://core.telegram.org/bots/api#sendmessage."""
        parameters: dict[str, Any] = {"chat_id": wanted.chat, "text": wanted.text}
        if wanted.silent:
            parameters["disable_notification"] = True
        if wanted.protect:
            parameters["protect_content"] = True
        headers = {"Content-Type": "application/json"}
        async with self._telegram.post(self._send_url, data=to_json(parameters), headers=headers) as answer:
            message_id: int = from_json(await answer.read())["result"]["message_id"]
        return message_id

    def _finish(self, task: str, chat: int, message_id: int, at: int, cursor: sqlite3.Cursor) -> None:
        cursor.execute(_SENT, (at, message_id, self._bot, task))
        cursor.execute(_HISTORY, (self._bot, task, 2, at, "sent"))
        cursor.execute(_MESSAGE, (self._bot, chat, message_id, task))


def _tell(request: web.Request, response: web.Response, begun: float, service: str | None) -> None:
    took = round((time.perf_counter() - begun) * 1000, 1)
    _log.info(
        "%s %s was answered with %s.",
        request.method,
        request.path,
        response.status,
        extra={"action": "request", "status": response.status, "duration_ms": took, "service": service},
    )


async def create_app() -> web.Application:
    """An application with both routes."""
    configure_logging(log_format="json", level="info")
    floor = Floor()
    app = web.Application()
    app.cleanup_ctx.append(floor.open)
    app.router.add_post("/webhook", floor.take_update)
    app.router.add_post("/webhook/unlogged", partial(floor.take_update, logged=False))
    app.router.add_post("/messages", floor.send)
    app.router.add_post("/messages/one-commit", partial(floor.send, says_sent=False))
    app.router.add_post("/messages/unsent", partial(floor.send, calls=False))
    return app
