"""Updates on their way to the webhook: queues, retries, expiry, as the Bot API server does it."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from infra.sandbox.answers import JsonObject, dump
from infra.sandbox.faults import FaultKind, FaultPlan

log = logging.getLogger("telegate.sandbox")

QueueKey = tuple[str, int]
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the header's name, not a secret
DEFAULT_CONNECTIONS = 40
LONGEST_RETRY_AFTER = 3600
LONGEST_BACKOFF = 60
LONGEST_ANSWER = 1 << 20
SUCCESS = range(200, 300)
ALL_BUT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
"""Kinds of updates that come only when `allowed_updates` names them (Bot API, setWebhook)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds.

    Attributes:
        scale: factor on the waits between webhook retries, `Retry-After` among them.
        answer_within: how long the webhook may take to answer.
        presses_kept: how long a button press is kept, and may be answered.
        messages_kept: how long every other update is kept.
    """

    scale: float = 1.0
    answer_within: float = 60.0
    presses_kept: float = 150.0
    messages_kept: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where updates go, as `setWebhook` said."""

    url: str
    secret: str = ""
    max_connections: int = DEFAULT_CONNECTIONS
    tls: ssl.SSLContext | None = None
    has_certificate: bool = False


@dataclass(slots=True, eq=False)
class Update:
    """One update that waits for its turn.

    Attributes:
        kind: `message`, `callback_query` …
        expires: on the monotonic clock; later it is dropped.
        due: on the monotonic clock; not posted earlier.
        backoff: seconds of the last growing wait, before the time scale.
    """

    id: int
    kind: str
    body: bytes
    expires: float
    due: float = 0.0
    backoff: float = 1.0
    failures: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST to the webhook.

    Attributes:
        at: Unix time in seconds.
        status: what the webhook answered; None when no answer came.
        error: in Telegram's words; empty when the update was accepted.
    """

    at: float
    update_id: int
    kind: str
    status: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None
    error: str = ""
    retry_after: int = 0


@dataclass(slots=True)
class _LastError:
    date: int = 0
    message: str = ""


class UpdateQueues:
    """Posts updates to the webhook: one in flight per queue, at least once, in order.

    Args:
        timing: waits and lifetimes.
        faults: duplicates and reordering on request.
        on_change: told after every attempt.
        kept: how many attempts are kept; older ones are forgotten.
    """

    def __init__(
        self, timing: Timing, faults: FaultPlan, on_change: Callable[[], None], kept: int = 10_000
    ) -> None:
        self.webhook: Webhook | None = None
        self.allowed: frozenset[str] | None = None
        self.attempts: deque[Attempt] = deque(maxlen=kept)
        self.next_id = 100_000_000 + secrets.randbelow(800_000_000)
        self._timing = timing
        self._faults = faults
        self._on_change = on_change
        self._queues: dict[QueueKey, deque[Update]] = {}
        self._workers: dict[QueueKey, asyncio.Task[None]] = {}
        self._last_error = _LastError()
        self._held: Update | None = None
        self._moved = asyncio.Event()
        self._slots = asyncio.Semaphore(DEFAULT_CONNECTIONS)
        self._session: aiohttp.ClientSession | None = None
        self.on_reply: Callable[[Update, bytes], None] = lambda _update, _body: None

    async def close(self) -> None:
        """Stop posting; updates that wait are lost, as this double keeps nothing on disk."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def pending(self) -> int:
        """How many updates have not been accepted yet."""
        now = time.monotonic()
        held = self._held is not None
        return held + sum(1 for queue in self._queues.values() for update in queue if update.expires > now)

    @property
    def last_error(self) -> tuple[int, str]:
        """Unix time and text of the webhook's last failure; `(0, "")` when there was none."""
        return self._last_error.date, self._last_error.message

    def set_webhook(self, webhook: Webhook | None, *, drop_pending: bool = False) -> None:
        """Send updates there from now on, those that wait at once; None keeps them here."""
        if drop_pending:
            self._queues.clear()
            self._held = None
        self.webhook = webhook
        self._last_error = _LastError()
        self._slots = asyncio.Semaphore(webhook.max_connections if webhook else DEFAULT_CONNECTIONS)
        for queue in self._queues.values():
            for update in queue:
                update.due = 0.0
        self._moved.set()
        self._moved = asyncio.Event()
        for key in tuple(self._queues):
            self._start(key)

    def allows(self, kind: str) -> bool:
        """Whether the bot wants updates of that kind."""
        return kind not in ALL_BUT if self.allowed is None else kind in self.allowed

    def push(self, key: QueueKey, kind: str, payload: JsonObject) -> int | None:
        """Queue an update; returns its id, or None when the bot does not want that kind."""
        if not self.allows(kind):
            return None
        update_id = self.next_id
        self.next_id += 1
        kept = self._timing.presses_kept if kind == "callback_query" else self._timing.messages_kept
        body = dump({"update_id": update_id, kind: payload})
        update = Update(update_id, kind, body, time.monotonic() + kept)
        if self._faults.take_update(FaultKind.DUPLICATE_UPDATE):
            update.duplicates = 1
        self._enqueue(key, update)
        return update_id

    def _enqueue(self, key: QueueKey, update: Update) -> None:
        if self._held is None and self._faults.take_update(FaultKind.REORDER_UPDATES):
            self._held = update
            return
        queue = self._queues.setdefault(key, deque())
        queue.append(update)
        if self._held is not None:
            queue.append(self._held)
            self._held = None
        self._start(key)

    def _start(self, key: QueueKey) -> None:
        if self.webhook is not None and key not in self._workers:
            self._workers[key] = asyncio.create_task(self._work(key), name=f"sandbox updates {key}")

    async def _work(self, key: QueueKey) -> None:
        try:
            while self.webhook is not None and (queue := self._queues.get(key)):
                await self._advance(queue)
        finally:
            self._workers.pop(key, None)
            if not self._queues.get(key):
                self._queues.pop(key, None)

    async def _advance(self, queue: deque[Update]) -> None:
        """Post, drop or wait for the first update of a queue."""
        await self._faults.until_updates_flow()
        update = queue[0]
        now = time.monotonic()
        if update.expires <= now:
            log.info(
                "Update %s expired before the webhook took it.", update.id, extra={"action": "update_expired"}
            )
            queue.popleft()
        elif update.due > now:
            await self._sleep(update.due - now)
        elif self.webhook is not None:
            async with self._slots:
                outcome = await self._attempt(self.webhook, update)
            self._settle(queue, update, outcome)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the webhook changes."""
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return

    def _settle(self, queue: deque[Update], update: Update, outcome: _Outcome) -> None:
        self.attempts.append(Attempt(time.time(), update.id, update.kind, outcome.status, outcome.error))
        in_queue = bool(queue) and queue[0] is update
        if outcome.error:
            self._last_error = _LastError(int(time.time()), outcome.error)
            self._postpone(update, outcome.retry_after)
        elif update.duplicates:
            update.duplicates -= 1
        elif in_queue:
            queue.popleft()
        self._on_change()

    def _postpone(self, update: Update, retry_after: int) -> None:
        """The next attempt after 0, 2, 4, 8, 16, 32 s, then 60 to 120 s; or when the webhook asked for it."""
        wait = float(min(retry_after, LONGEST_RETRY_AFTER))
        if retry_after <= 0 and update.failures > 0:
            longest = random.uniform(LONGEST_BACKOFF, 2 * LONGEST_BACKOFF)  # noqa: S311 - spreads load, guards nothing
            update.backoff = wait = min(longest, update.backoff * 2)
        update.failures += 1
        update.due = time.monotonic() + wait * self._timing.scale
        update.due = min(update.due, update.expires)

    async def _attempt(self, webhook: Webhook, update: Update) -> _Outcome:
        try:
            async with asyncio.timeout(self._timing.answer_within):
                return await self._post(webhook, update)
        except TimeoutError:
            return _Outcome(None, "Read timeout expired")
        except aiohttp.ClientConnectorCertificateError:
            return _Outcome(None, "SSL error {error:0A000086:SSL routines::certificate verify failed}")
        except aiohttp.ClientSSLError as error:
            return _Outcome(None, f"SSL error {{{error.strerror or 'handshake failed'}}}")
        except aiohttp.ClientConnectorError:
            return _Outcome(None, "Connection refused")
        except (aiohttp.ClientError, ConnectionError):
            return _Outcome(None, "Webhook connection closed")

    async def _post(self, webhook: Webhook, update: Update) -> _Outcome:
        headers = {"Content-Type": "application/json"}
        if webhook.secret:
            headers[SECRET_HEADER] = webhook.secret
        tls = webhook.tls if webhook.tls is not None else True
        request = self._client().post(
            webhook.url, data=update.body, headers=headers, ssl=tls, allow_redirects=False
        )
        async with request as response:
            body = await _read_some(response)
            if response.status in SUCCESS:
                self.on_reply(update, body)
                return _Outcome(response.status)
            error = f"Wrong response from the webhook: {response.status} {response.reason}"
            return _Outcome(response.status, error, _retry_after(response))

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=None)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self._session


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body as far as anybody may want it."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            break
    return bytes(body)


def _retry_after(response: aiohttp.ClientResponse) -> int:
    value = response.headers.get("Retry-After", "")
    return int(value) if value.isascii() and value.isdigit() else 0
