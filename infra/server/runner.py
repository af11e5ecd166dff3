"""The HTTP server: aiohttp's own, with the limits of time and number that it lacks.

aiohttp 3.14 bounds the size of headers and the life of idle connections, but a client may take for ever
to send its headers or its body, and may open as many connections as it likes. `Connection` and
`GatewayServer` add those limits; everything else is aiohttp's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_runner import BaseSite

from infra import __version__
from infra.config.settings import Settings

_log = logging.getLogger("telegate.server")

BACKLOG: Final = 2048
LONGEST_HEADER: Final = 8190
MOST_HEADERS: Final = 128

_MOST_REFUSALS_AT_ONCE = 100
_OTHER_FILES = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of the server. Times are seconds.

    Attributes:
        connections: open connections; one more is answered `503`.
        header: from the accepted connection, or the first byte of a later request, to complete headers.
        body: from complete headers to a complete body, plus the time that `slowest` allows for its size.
        slowest: bytes per second that a long body must come with.
        idle: how long a connection is kept between requests.
        refusal: how long a refused connection is kept, so that the client can read why.
    """

    connections: int = 12_000
    header: float = 10.0
    body: float = 10.0
    slowest: int = 50_000
    idle: float = 95.0
    refusal: float = 1.0


def _plain(status: str, text: str, *headers: str) -> bytes:
    """A whole plain-text answer, for when there is no request that a handler could answer."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(text)}")
    return "\r\n".join((*lines, "Connection: close", *headers, "", text)).encode()


ARRIVAL_GRACE: Final = 1.0
"""Seconds that a server which stops waits for requests of clients that have connected already."""

_STEPS_TO_ACCEPT: Final = 3
"""Turns of the loop until a client who waits has a connection: three of asyncio's own, one of uvloop."""

_TOO_SLOW_TEXT = "The request took too long to arrive.\n"
_TOO_SLOW = _plain("408 Request Timeout", _TOO_SLOW_TEXT)
_TOO_MANY = _plain("503 Service Unavailable", "Too many connections. Try again.\n", "Retry-After: 2")


class Connection(RequestHandler):
    """One connection, with a clock that runs while headers or a body are on their way."""

    __slots__ = ("_body", "_body_bytes", "_clock", "_clock_count", "_gateway", "_has_spoken")

    def __init__(self, manager: GatewayServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._gateway = manager
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_bytes = 0
        self._clock: float | None = None
        self._clock_count = 0
        self._has_spoken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock, or refuse a connection that is one too many."""
        if self._gateway.is_full:
            self._refuse(cast("asyncio.Transport", transport))
            return
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the clock with the connection, and let nobody wait for the rest of a body."""
        self._stop_clock()
        if self._current_request is None and not self._body.is_eof():
            # The answer is out, and aiohttp reads on to let the client see it: up to ten seconds for nothing.
            self._body.feed_eof()
        self._body = EMPTY_PAYLOAD
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let aiohttp read, then see what is still missing: a body, headers, or nothing."""
        before = self._request_count
        super().data_received(data)
        arrived = self._request_count != before
        if arrived and self._messages:
            self._body, self._body_bytes = self._messages[-1][1], 0
        self._has_spoken = True
        if not self._body.is_eof():
            self._body_bytes += len(data)
            if arrived or self._clock is None:
                self._start_clock()
        elif arrived or self._body is not EMPTY_PAYLOAD:
            self._body = EMPTY_PAYLOAD
            self._stop_clock()
        elif data and self._clock is None:
            self._start_clock()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Say so when the connection closes after this answer, as it does when the server stops."""
        if self._close and isinstance(resp, web.StreamResponse) and not resp.prepared:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP without repeating them: not in the answer, not in the log.

        aiohttp would write the first bytes of an over-long header, so of `Authorization`, into both.
        """
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        _log.log(
            logging.DEBUG if isinstance(exc, BadHttpMethod) else logging.INFO,
            "A request that is not well-formed HTTP was refused.",
            extra={"action": "malformed_request", "reason": type(exc).__name__, "remote": request.remote},
        )
        answer = web.Response(status=status, text=_malformed_text(exc), headers={"Server": "telegate"})
        answer.force_close()
        return answer

    def expire(self, now: float) -> bool:
        """End the connection when its time is over.

        Returns:
            Whether the clock has done its work; False while there is time left.
        """
        if self._clock is None or self.transport is None:
            return True
        if self._body.is_eof() and self._clock_count != self._request_count:
            self._clock = None  # completed by aiohttp, from bytes that it had put aside
            return True
        if self._reading_paused or self._buffer_paused:
            self._clock = now  # the handler is slow to take what comes, not the sender
        if now - self._clock < self._allowed_time():
            return False
        self._clock = None
        self._time_out()
        return True

    def _allowed_time(self) -> float:
        limits = self._gateway.limits
        if self._body.is_eof():
            return limits.header
        return limits.body + self._body_bytes / limits.slowest

    def _time_out(self) -> None:
        self._gateway.timed_out += 1
        _log.debug("A request took too long to arrive.", extra={"action": "request_timeout"})
        if self._request_in_progress:
            if not self._body.is_eof():
                # Whoever reads the body gets this, and may make an answer of its own of it.
                self._body.set_exception(web.HTTPRequestTimeout(text=_TOO_SLOW_TEXT))
                self._body.feed_eof()
            self.close()
            return
        is_between_requests = self._waiter is not None and not self._waiter.done()
        if is_between_requests and self._has_spoken and self.transport is not None:
            self.transport.write(_TOO_SLOW)
        self.force_close()

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Answer before any request, and stay a moment: closing at once would cut the answer off."""
        self._force_close = True
        self._gateway.refusing += 1
        self._gateway.tell_refusal()
        if self._gateway.refusing > _MOST_REFUSALS_AT_ONCE:
            transport.abort()
            return
        transport.write(_TOO_MANY)
        if transport.can_write_eof():
            transport.write_eof()
        self._loop.call_later(self._gateway.limits.refusal, transport.close)

    def _start_clock(self) -> None:
        self._clock, self._clock_count = self._loop.time(), self._request_count
        self._gateway.watch(self)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock = None
            self._gateway.forget(self)
        if self._gateway.is_stopping:
            self.close()  # after this request, and so its answer tells


def _malformed_text(error: HttpProcessingError) -> str:
    if isinstance(error, LineTooLong):
        return "The request line or a header is too long.\n"
    return "This is not a well-formed HTTP request.\n"


class GatewayServer(web.Server):
    """Makes a `Connection` for each client, counts them, and looks at their clocks.

    Attributes:
        limits: what one client may take.
        open: connections that are open now.
        refused: connections that were one too many, since the start.
        refusing: of these, the ones that are still being told so.
        timed_out: requests that took too long to arrive, since the start.
        is_stopping: whether each connection closes after the request that is on its way.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.open = self.refused = self.refusing = self.timed_out = 0
        self._clocks: set[Connection] = set()
        self._sweep_every = min(1.0, limits.header / 10, limits.body / 10)
        self._is_sweeping = False
        self._next_telling = 0.0
        self.is_stopping = False
        self._heard: asyncio.Event | None = None

    def __call__(self) -> RequestHandler:
        """A protocol for a connection that was just accepted."""
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether one more connection is one too many."""
        return self.open >= self.limits.connections

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        self.open += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count a connection that is gone, although its request may still be at work."""
        if handler in self._connections:
            self.open -= 1
        else:
            self.refusing -= 1
        super().connection_lost(handler, exc)

    def pre_shutdown(self) -> None:
        """Close what is idle; whoever has connected and is about to ask, or in the middle of it, is heard."""
        self.is_stopping = True
        for connection in self._connections:
            if connection not in self._clocks:
                connection.close()

    async def let_arrive(self, seconds: float) -> None:
        """Wait for requests that are on their way, for at most so many seconds; nothing comes after them."""
        if self._clocks:
            self._heard = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
        for connection in self._clocks:
            connection.close()

    def watch(self, connection: Connection) -> None:
        """Look at this connection's clock from time to time."""
        self._clocks.add(connection)
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(self._sweep_every, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Look at this connection's clock no more."""
        self._clocks.discard(connection)
        if self._heard is not None and not self._clocks:
            self._heard.set()

    def tell_refusal(self) -> None:
        """Log that connections are refused, at most every ten seconds."""
        self.refused += 1
        now = self._loop.time()
        if now >= self._next_telling:
            self._next_telling = now + 10
            _log.warning(
                "All %d connections are taken; new ones are answered 503. Raise MAX_CONNECTIONS, "
                "or find out who keeps them open.",
                self.limits.connections,
                extra={"action": "connections_refused", "refused": self.refused},
            )

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [one for one in self._clocks if one.expire(now)]:
            self.forget(connection)
        self._is_sweeping = bool(self._clocks)
        if self._is_sweeping:
            self._loop.call_later(self._sweep_every, self._sweep)


class GatewayRunner(web.AppRunner):
    """Runs the application on a `GatewayServer`."""

    __slots__ = ("_limits",)

    def __init__(self, app: web.Application, *, limits: Limits, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._limits = limits

    @property
    def gateway_server(self) -> GatewayServer | None:
        """The server, while there is one."""
        return self.server if isinstance(self.server, GatewayServer) else None

    async def setup(self) -> None:
        """Start the application; when that fails, what it had opened is closed again."""
        try:
            await super().setup()
        except BaseException:
            await self.cleanup()
            raise

    async def cleanup(self) -> None:
        """Stop: nobody new is let in, and whoever is in is answered."""
        if isinstance(self.server, GatewayServer):
            self.server.is_stopping = True
            await self._let_in()
        await super().cleanup()

    async def _let_in(self) -> None:
        """Let the loop accept who has connected already: closing the socket would reset their connections."""
        listening = select.poll()
        for site in self.sites:
            for one in getattr(site._server, "sockets", ()):  # noqa: SLF001 - aiohttp has no other way to them
                listening.register(one.fileno(), select.POLLIN)
        deadline = time.monotonic() + ARRIVAL_GRACE
        while listening.poll(0) and time.monotonic() < deadline:
            for _ in range(_STEPS_TO_ACCEPT):
                await asyncio.sleep(0)

    async def shutdown(self) -> None:
        """Tell the application that the end has come, then hear those who were about to ask."""
        await super().shutdown()
        if isinstance(self.server, GatewayServer):
            await self.server.let_arrive(ARRIVAL_GRACE)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return GatewayServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            limits=self._limits,
            **made._kwargs,  # noqa: SLF001 - aiohttp has no hook for a server of one's own
        )

    def _reg_site(self, site: BaseSite) -> None:
        # gunicorn's aiohttp worker makes its sites itself, with a backlog of 128 whatever is configured.
        site._backlog = BACKLOG  # noqa: SLF001 - the only way to it
        super()._reg_site(site)


def make_runner(app: web.Application, settings: Settings, *, limits: Limits | None = None) -> GatewayRunner:
    """The runner that gunicorn's worker, and the tests, serve the application with.

    A handler is cancelled when its client goes away: what must happen once does not live in handlers, and
    a seat in the waiting room must not stay taken. A compressed body is not unpacked.
    On shutdown, requests that are still held after `on_shutdown` get a third of the grace time that
    remains, because aiohttp waits as long a second time for those that it has to cancel.

    Args:
        app: the application.
        settings: for `SHUTDOWN_GRACE` and `MAX_CONNECTIONS`.
        limits: other limits than those of the settings, for tests.
    """
    if limits is None:
        limits = Limits(connections=affordable_connections(settings.max_connections))
    return GatewayRunner(
        app,
        limits=limits,
        shutdown_timeout=max(0.5, (settings.shutdown_grace - 2) / 3),
        keepalive_timeout=limits.idle,
        handler_cancellation=True,
        auto_decompress=False,
        max_line_size=LONGEST_HEADER,
        max_field_size=LONGEST_HEADER,
        max_headers=MOST_HEADERS,
        access_log=None,
    )


def affordable_connections(wanted: int) -> int:
    """How many connections the limit on open files allows, after raising that limit as far as it goes.

    Args:
        wanted: the setting `MAX_CONNECTIONS`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    possible = max(1, soft - _OTHER_FILES)
    _log.warning(
        "MAX_CONNECTIONS is %d, but this machine allows %d open files, so at most %d connections. "
        "Raise the limit of open files (ulimit -n).",
        wanted,
        soft,
        possible,
        extra={"action": "few_files", "wanted": wanted, "possible": possible},
    )
    return possible


def log_start(settings: Settings) -> None:
    """Say what somebody wants to know first who reads this log and does not know this server."""
    database = settings.database
    _log.info(
        "Telegate %s has started: PUBLIC_URL is %s, the database %s, the policy %s.",
        __version__,
        settings.public_url or "not set",
        database if isinstance(database, Path) else database.place,
        settings.permissions_file,
        extra={"action": "started"},
    )


def tune_garbage_collector() -> None:
    """Keep the collector away from what lives as long as the process; requests leave hardly any cycles.

    By default it looked at everything again and again, and took a tenth to a fifth of a request's time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
