"""`/v1/tasks/{id}/events`: a task as a stream of server-sent events, one for each change.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from aiohttp import web
from pydantic_core import to_json

from core.model.errors import TelegateError
from core.model.task import Task
from core.waiting.following import Following
from handlers.admission import still_allowed
from handlers.documents import task_document
from handlers.in_flight import refusal_of
from handlers.keys import HAS_BEGUN, PRINCIPAL, REQUEST_ID, SERVICES
from handlers.requests import refuse_parameters
from handlers.tasks import sight_of

log = logging.getLogger("telegate.http")

COMMENT: Final = b":\n\n"

_RETRY = (1000, 3000)
"""Milliseconds, from and to: clients that a stopping process lets go of do not all come back at once."""

WRITING: web.AppKey[set[asyncio.Transport]] = web.AppKey("writing", set[asyncio.Transport])
"""Connections of streams that wait for their reader to take something."""


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event: a task as its service sees it.

    Attributes:
        number: of steps that the task has made; it grows from event to event.
        data: the document.
    """

    number: int
    data: bytes

    @classmethod
    def of(cls, task: Task) -> TaskEvent:
        """The event that tells this."""
        return cls(task.steps, to_json(task_document(task)))

    @property
    def id(self) -> str:
        """What `Last-Event-ID` brings back: which step, and what was told of it.

        Some steps change nothing that is told, so only what was told says whether a client has it.
        """
        return f"{self.number}-{blake2b(self.data, digest_size=8).hexdigest()}"

    def says_as_much_as(self, event_id: str) -> bool:
        """Whether whoever has the event of this id knows all that this one tells."""
        return event_id.partition("-")[2] == self.id.partition("-")[2]

    def __bytes__(self) -> bytes:
        return b"event: task\nid: %b\ndata: %b\n\n" % (self.id.encode(), self.data)


class ReaderTooSlow(ConnectionResetError):
    """A reader has taken nothing of its stream for too long."""


class EventStream:
    """An answer that goes on for as long as there is something to tell.

    Args:
        request: what it answers.
        patience: seconds after which a reader that takes nothing is dropped.
    """

    def __init__(self, request: web.Request, patience: float) -> None:
        self._request = request
        self._patience = patience
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                # nginx would keep events back until it has some kilobytes of them.
                "X-Accel-Buffering": "no",
                "Server": "telegate",
                "X-Request-Id": request[REQUEST_ID],
            }
        )
        # The end of the connection is the end of the stream, for HTTP/1.0 as well.
        self.response.force_close()

    async def open(self) -> None:
        """Send the headers."""
        transport = self._request.transport
        if transport is not None:
            _notice_silence(transport, self._patience)
        self._request[HAS_BEGUN] = True
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Send something; while the reader is slow, this waits, and nothing is put aside for it.

        Raises:
            ReaderTooSlow: it has taken nothing for too long, and is dropped.
            ConnectionError: the reader has gone.
        """
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("The reader has gone.")
        writing = self._request.app[WRITING]
        writing.add(transport)
        try:
            async with asyncio.timeout(self._patience):
                await self.response.write(data)
        except TimeoutError as error:
            transport.abort()
            raise ReaderTooSlow("The reader has taken nothing for too long.") from error
        finally:
            writing.discard(transport)


async def follow_task(request: web.Request) -> web.StreamResponse:
    """A task as it is now, then each change of it, until it is final."""
    refuse_parameters(request, "lastEventId")  # some libraries add it, besides the header
    services = request.app[SERVICES]
    service = request[PRINCIPAL].service
    last_id = request.headers.get("Last-Event-ID", "")
    async with services.tasks.follow(request.match_info["id"], service, sight_of(request)) as following:
        if following.task.final and TaskEvent.of(following.task).says_as_much_as(last_id):
            # What tells an EventSource to come back no more.
            return web.Response(status=204, headers={"Cache-Control": "no-store"})
        stream = EventStream(request, services.streams.patience)
        await stream.open()
        if request.method != "HEAD":
            await _go_on(request, stream, following, last_id)
        return stream.response


async def abandon_slow_readers(app: web.Application) -> None:
    """Let nobody who takes nothing keep the process from ending."""
    writing = app[WRITING]
    for transport in tuple(writing):
        transport.abort()


async def _go_on(request: web.Request, stream: EventStream, following: Following, last_id: str) -> None:
    began = time.perf_counter()
    try:
        await _tell(request, stream, following, last_id)
    except TelegateError as error:
        _log_early_end(error)
    except ReaderTooSlow:
        log.info(
            "A reader took nothing of its stream of events for %g s, and was dropped.",
            request.app[SERVICES].streams.patience,
            extra={"action": "slow_reader"},
        )
    except ConnectionError:
        _log_left(began)
    except asyncio.CancelledError:
        refusal = refusal_of(request)
        if refusal is None:
            _log_left(began)
            raise
        _log_early_end(refusal)


def _log_early_end(error: TelegateError) -> None:
    # The answer has begun, so this can only end it; whoever comes back is told by a problem.
    log.info("A stream of events ends early: %s", error.detail, extra={"action": error.code})


def _log_left(began: float) -> None:
    duration = round((time.perf_counter() - began) * 1000, 1)
    log.info("A client left its stream of events.", extra={"action": "stream_left", "duration_ms": duration})


async def _tell(request: web.Request, stream: EventStream, following: Following, last_id: str) -> None:
    """Tell each change and, while there is none, that the stream lives."""
    every = request.app[SERVICES].streams.comment_every
    now = asyncio.get_running_loop().time
    await stream.write(b"retry: %d\n\n" % random.randint(*_RETRY))  # noqa: S311 - this hides nothing
    while True:
        event = TaskEvent.of(following.task)
        if not event.says_as_much_as(last_id):
            await _require_still_allowed(request)
            await stream.write(bytes(event))
            last_id = event.id
        if following.over:
            return
        if not await following.moved_on(now() + every) and not following.over:
            await _require_still_allowed(request)
            await stream.write(COMMENT)


async def _require_still_allowed(request: web.Request) -> None:
    """A stream outlives its token; what is revoked meanwhile ends it at once, with everything in flight.

    Raises:
        Unauthenticated: the token does not count any more.
        Forbidden: its roles do not name this endpoint and this chat any more.
    """
    later = still_allowed(request)
    if later is not None:
        await later


def _notice_silence(transport: asyncio.Transport, seconds: float) -> None:
    """Let the system break the connection when nothing that is sent is acknowledged for so long.

    A reader whose machine or network is gone says no goodbye, and would keep its seat for 15 minutes.
    Source: https://man7.org/linux/man-pages/man7/tcp.7.html
    """
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
