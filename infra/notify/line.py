"""A line to PostgreSQL for notifications: one connection that listens, and another one that sends.

They are two on purpose. Behind a pooler in transaction mode, a notification that a connection sends to
itself does come back, because it comes with the answer; those of others never do. Only a connection
that does nothing but listen can tell whether it hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types

from core.model.errors import StorageUnavailable
from infra.notify.payloads import CHANNEL

Connect: TypeAlias = Callable[[], Awaitable["asyncpg.Connection"]]
"""Opens a connection of its own; whoever calls it closes it."""

_NOTIFY = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
_ENDED = "The connection to PostgreSQL has ended."


class LineBroken(StorageUnavailable):
    """Notifications do not travel any more; the text says why."""


class NotSent(StorageUnavailable):
    """PostgreSQL did not take these notifications, though the line is whole; the text says why."""


class Line:
    """Sends notifications; what arrives goes to whoever opened it.

    Args:
        listening: the connection that listens.
        sending: the connection that sends.
        limit: seconds within which PostgreSQL has to take what is sent.
    """

    def __init__(self, listening: asyncpg.Connection, sending: asyncpg.Connection, limit: float) -> None:
        self._listening = listening
        self._sending = sending
        self._limit = limit

    def check(self) -> None:
        """Return when both connections are open.

        Raises:
            LineBroken: one has ended.
        """
        if self._listening.is_closed() or self._sending.is_closed():
            raise LineBroken(_ENDED)

    async def send(self, payloads: Iterable[str]) -> None:
        """Send these in one transaction of their own.

        Raises:
            NotSent: PostgreSQL refuses them; the queue of notifications may be full.
            LineBroken: there is no answer, or no connection any more.
        """
        with _translated(self._limit):
            async with asyncio.timeout(self._limit):
                try:
                    await self._sending.execute(_NOTIFY, CHANNEL, list(payloads))
                except asyncpg.PostgresError as error:
                    if self._sending.is_closed():
                        raise
                    if isinstance(error, asyncpg.ProgramLimitExceededError):
                        # A queue that was full once stays full, though everybody has read it, until
                        # somebody asks how full it is (seen with PostgreSQL 18).
                        await self._sending.execute("SELECT pg_notification_queue_usage()")
                    raise NotSent(_said(error)) from error


@asynccontextmanager
async def open_line(
    connect: Connect, hear: Callable[[str], None], broke: Callable[[], None], limit: float
) -> AsyncIterator[Line]:
    """Open both connections, and close them in the end.

    Args:
        connect: opens one.
        hear: gets every payload, in the serving loop.
        broke: is called when one of the connections has ended.
        limit: seconds that opening may take, and every sending.

    Raises:
        LineBroken: it cannot be opened.
    """
    opened: list[asyncpg.Connection] = []
    try:
        with _translated(limit):
            async with asyncio.timeout(limit):
                for _ in range(2):
                    opened.append(await connect())
                    opened[-1].add_termination_listener(lambda _connection: broke())
                listening, sending = opened
                await listening.add_listener(CHANNEL, lambda *notification: hear(notification[-1]))
        yield Line(listening, sending, limit)
    finally:
        for connection in opened:
            # Not `close`, which waits for an answer: this also happens when there will never be one.
            connection.terminate()
        # What was broken off is closed in the loop's next round, which may be its last.
        await asyncio.sleep(0)


@contextmanager
def _translated(limit: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise LineBroken(f"PostgreSQL does not answer within {limit:g} s.") from error
    except asyncpg.PostgresError as error:
        raise LineBroken(_said(error)) from error
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise LineBroken(f"PostgreSQL cannot be reached ({reason}).") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise LineBroken(_ENDED) from error


def _said(error: asyncpg.PostgresError) -> str:
    # Its first words only: details and hints are for those who wrote the statement.
    return f"PostgreSQL says: {str(error.args[0]).rstrip('.')}."
