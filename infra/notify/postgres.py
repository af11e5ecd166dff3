"""Hints between processes that share a PostgreSQL database, by `LISTEN` and `NOTIFY`.

There are two connections on purpose: one that listens, and one that sends. Behind a connection pooler in
transaction mode, a connection does hear what it sends to itself, because that comes with the answer; it never
hears anybody else. Only a connection that does nothing but listen can tell whether notifications arrive.

A payload is `hints`, the bot's id, the sender and ids of tasks, or `echo`, the bot's id, the sender and a
token, with blanks between them. Whoever does not understand one ignores it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types

from core.incident import Incident
from core.model.errors import StorageUnavailable
from core.model.retry import RetryPolicy
from core.waiting.polling import POLL_EVERY_WITHOUT_HINTS
from infra.notify.local import LocalNotifier

log = logging.getLogger("telegate.notify")

CHANNEL: Final = "telegate_hints"
"""One for all bots and all versions."""

MAX_IDS: Final = 20
"""Of tasks in one payload. PostgreSQL allows 7,999 bytes; this is under 800.

Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

FAILURES_BEFORE_POLLING: Final = 3
"""So many in a row, and nobody relies on hints any more until they travel again."""

RECONNECT: Final = RetryPolicy(first=0.5, longest=2.5, jitter=1.0)
"""All is left to chance: a whole deployment must not come back at the same instant."""

Connect: TypeAlias = Callable[[], Awaitable["asyncpg.Connection"]]
"""Opens a connection of its own; whoever calls it closes it."""

_NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
_CLOSED = "The connection to PostgreSQL has ended."
_CONNECTION_ERRORS = (
    StorageUnavailable,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class Timing:
    """How quickly things happen, in seconds.

    Attributes:
        gather: between two notifications; hints that come in between travel together.
        echo_every: between the arrival of an echo and the next echo test.
        timeout: that PostgreSQL may take for anything, and an echo to arrive.
        reconnect: the pauses between attempts to connect.
    """

    gather: float = 0.005
    echo_every: float = 10.0
    timeout: float = 5.0
    reconnect: RetryPolicy = RECONNECT


class PostgresNotifier:
    """Carries hints inside this process at once, and to all others by `NOTIFY`.

    A notification has a transaction of its own, after the task's: inside, it would make commits wait for
    one another. The first hint goes out at once; those that follow it closely travel together.

    Args:
        connect: opens a connection; two are kept open.
        bot: the bot's numeric id; hints at other bots' tasks are ignored.
        timing: how quickly things happen.

    Attributes:
        trouble: see `core.ports.Notifier.trouble`; there is some until the first echo has arrived.
        dropped: see `core.ports.Notifier.dropped`.
    """

    def __init__(self, *, connect: Connect, bot: int, timing: Timing | None = None) -> None:
        self.trouble: str | None = "Notifications have not arrived yet."
        self.dropped = 0
        self._connect = connect
        self._bot = str(bot)
        self._sender = secrets.token_hex(8)
        self._timing = timing or Timing()
        self._local = LocalNotifier()
        self._missed = asyncio.Event()
        self._connected = False
        self._unsent: dict[str, None] = {}
        self._wake_up = asyncio.Event()
        self._echo: str | None = None
        self._echo_due = 0.0
        self._echo_arrived = False
        self._failures = 0
        self._outage = Incident(log)
        self._dropped_before_outage = 0
        self._refusal = Incident(log)

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Notifier.hint`."""
        ids = tuple(task_ids)
        self._local.hint(ids)
        if self._connected:
            self._unsent.update(dict.fromkeys(ids))
            self._wake_up.set()
        else:
            self.dropped += len(ids)

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """See `core.ports.Notifier.subscribe`."""
        self._local.subscribe(wake)

    async def missed(self) -> None:
        """See `core.ports.Notifier.missed`."""
        await self._missed.wait()
        self._missed.clear()

    async def run(self) -> None:
        """See `core.ports.Notifier.run`; reconnects whenever a connection fails."""
        while True:
            try:
                await self._carry()
            except _CONNECTION_ERRORS as error:
                self._failed(_reason(error, self._timing.timeout))
            await asyncio.sleep(self._timing.reconnect.delay(self._failures) or 0.0)

    async def _carry(self) -> NoReturn:
        """Connect, and carry hints until a connection fails; that is raised."""
        connections: list[asyncpg.Connection] = []
        try:
            async with asyncio.timeout(self._timing.timeout):
                for _ in range(2):
                    connections.append(await self._connect())
                    connections[-1].add_termination_listener(lambda _connection: self._wake_up.set())
                listener, sender = connections
                await listener.add_listener(CHANNEL, self._receive)
            self._connected = True
            self._echo, self._echo_due, self._echo_arrived = None, _now(), False
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._echo_due):
                        await self._wake_up.wait()
                self._wake_up.clear()
                if listener.is_closed() or sender.is_closed():
                    raise StorageUnavailable(_CLOSED)
                await self._send(sender)
        finally:
            self._connected = False
            self.dropped += len(self._unsent)
            self._unsent.clear()
            for connection in connections:
                # Not `close`, which waits for an answer: this also happens when there will never be one.
                connection.terminate()
            # What was broken off is closed in the loop's next round, which may be its last.
            await asyncio.sleep(0)

    async def _send(self, sender: asyncpg.Connection) -> None:
        """Send the hints that have come in, and an echo when it is time for one."""
        ids = list(self._unsent)
        batches = [" ".join(ids[start : start + MAX_IDS]) for start in range(0, len(ids), MAX_IDS)]
        payloads = [f"hints {self._bot} {self._sender} {batch}" for batch in batches]
        if _now() >= self._echo_due:
            if self._echo is not None:
                raise StorageUnavailable(
                    f"The echo test failed: nothing arrived within {self._timing.timeout:g} s. A connection "
                    "pooler in transaction mode would explain it: let DATABASE_URL name the database itself."
                )
            self._echo = secrets.token_hex(8)
            self._echo_due = _now() + self._timing.timeout
            payloads.append(f"echo {self._bot} {self._sender} {self._echo}")
        if not payloads:
            return
        self._unsent = {}
        sent = False
        try:
            sent = await self._notify(sender, payloads)
        finally:
            if not sent:
                self.dropped += len(ids)
        await asyncio.sleep(self._timing.gather)

    async def _notify(self, sender: asyncpg.Connection, payloads: Sequence[str]) -> bool:
        """Send these in one transaction of their own; returns whether PostgreSQL took them."""
        async with asyncio.timeout(self._timing.timeout):
            try:
                await sender.execute(_NOTIFY, CHANNEL, payloads)
            except asyncpg.PostgresError as error:
                if sender.is_closed():
                    raise
                reason = _reason(error, self._timing.timeout)
                self._refusal.begin(
                    "NOTIFY refused; hints to other processes are dropped. %s", reason, action="hints_refused"
                )
                if isinstance(error, asyncpg.ProgramLimitExceededError):
                    # A queue that was full once stays full, though everybody has read it, until somebody asks
                    # how full it is (seen with PostgreSQL 18).
                    await sender.execute("SELECT pg_notification_queue_usage()")
                return False
        self._refusal.end("NOTIFY accepted again.", action="hints_back")
        return True

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        match payload.split(" "):
            case ["echo", self._bot, self._sender, self._echo]:
                self._receive_echo()
            case ["hints", self._bot, sender, *task_ids] if sender != self._sender:
                log.debug(
                    "Hints received: %d.",
                    len(task_ids),
                    extra={"action": "hints_received", "tasks": task_ids},
                )
                self._local.hint(task_ids)

    def _receive_echo(self) -> None:
        self._echo, self._echo_due = None, _now() + self._timing.echo_every
        if self._echo_arrived:
            return
        self._echo_arrived = True
        self._failures, self.trouble = 0, None
        self._outage.end(
            "LISTEN connection restored. Hints not sent meanwhile: %d.",
            self.dropped - self._dropped_before_outage,
            action="hints_back",
        )
        # What was hinted at before this connection listened was missed.
        self._missed.set()

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._outage.begin("LISTEN connection failed; reconnecting. %s", reason, action="hints_lost"):
            self._dropped_before_outage = self.dropped
        if self._failures < FAILURES_BEFORE_POLLING:
            return
        self.trouble = f"LISTEN connection failed; polling every {POLL_EVERY_WITHOUT_HINTS:g} s. {reason}"
        if self._failures == FAILURES_BEFORE_POLLING:
            log.warning("%s", self.trouble, extra={"action": "hints_given_up"})
            # The rows are to be read more often from now on.
            self._missed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(error: Exception, timeout: float) -> str:
    match error:
        case StorageUnavailable():
            return error.detail
        case TimeoutError():
            return f"PostgreSQL does not answer within {timeout:g} s."
        case OSError():
            return f"PostgreSQL cannot be reached ({(error.strerror or type(error).__name__).lower()})."
        case asyncpg.PostgresError():
            # Its first words only: details and hints are for those who wrote the statement.
            return f"PostgreSQL says: {str(error.args[0]).rstrip('.')}."
        case _:
            return _CLOSED
