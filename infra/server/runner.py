"""The HTTP server: aiohttp's own, with the limits of time and number that it lacks.

aiohttp 3.14 bounds each header and the life of idle connections, but a client may take for ever to send its
headers or its body or to take its answer, may leave the memory of both to the server, and may open as many
connections as it likes. `Connection` and `GatewayServer` add those limits; everything else is aiohttp's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import select
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from aiohttp.web_runner import BaseSite

from infra import __version__
from infra.config.settings import Settings
from infra.server.eviction import Use, holder_of, victims
from infra.server.sockets import bound_system_buffer, unacknowledged

_log = logging.getLogger("telegate.server")

BACKLOG: Final = 2048
LONGEST_HEADER: Final = 8190
MOST_HEADERS: Final = 128

_MOST_REFUSALS_AT_ONCE = 100
_OTHER_FILES = 200

_READ_AHEAD = 2
"""Requests of one connection that are read while another is at work: a client that hangs up is noticed."""

_SYSTEM_BUFFER = 131_072
"""Bytes of an answer that the system is asked to keep for a client; Linux takes twice as much."""

_TURNS = 8
"""Requests that were sent ahead and are begun in one turn of the loop."""

_SLICE = 16_384
"""Bytes that are read at a time: what is wrong with them is seen before the next."""

_HEADER_WEIGHT = 3
"""Bytes of memory that a byte of headers takes: as it came, cut into names and values, and as text."""

_LINE_WEIGHT = 300
"""Bytes of memory that a header takes whatever its length."""

_NEARLY_NOTHING = 1
"""Bytes of an answer that may wait for the client before its connection makes the next one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take of the server. Times are seconds.

    Attributes:
        connections: open connections; one more is answered `503`.
        header: from the accepted connection, or the first byte of a later request, to complete headers.
        body: from complete headers to a complete body, plus the time that `slowest` allows for its size.
        slowest: bytes per second that a long body must come with.
        answer: how long a client may take nothing of its answer; the whole of it may take this, plus the time
            that `slowest` allows for its size.
        idle: how long a connection is kept between requests.
        refusal: how long a refused connection is kept, so that the client can read why.
        unused: how long a connection is safe that nobody uses yet, when there are no others left.
        header_bytes: of one request's headers in all.
        memory: bytes that all connections may keep of requests that are not complete.
        proxies: how many routers in front add to `X-Forwarded-For`.
    """

    connections: int = 12_000
    header: float = 10.0
    body: float = 10.0
    slowest: int = 50_000
    answer: float = 10.0
    idle: float = 95.0
    refusal: float = 1.0
    unused: float = 1.0
    header_bytes: int = 32_768
    memory: int = 64 * 1024 * 1024
    proxies: int = 0


def _plain(status: str, text: str, *headers: str) -> bytes:
    """A whole plain-text answer, for when there is no request that a handler could answer."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(text)}")
    return "\r\n".join((*lines, "Connection: close", *headers, "", text)).encode()


ARRIVAL_GRACE: Final = 1.0
"""Seconds that a server which stops waits for requests of clients that have connected already."""

ANSWER_GRACE: Final = 0.5
"""Seconds for which a client may take nothing of its answer from a server that stops."""

LAST_ANSWERS: Final = 1.5
"""Seconds for which a server that stops waits for clients that take their answers."""

_STOPPING_SWEEP = 0.1
"""Seconds between two looks at the clocks, while the server stops."""

_SEARCH_SHARE = 10
"""How many times as long as a search in vain took, no other is made."""

_STEPS_TO_ACCEPT: Final = 3
"""Turns of the loop until a client who waits has a connection: three of asyncio's own, one of uvloop."""

_TOO_SLOW_TEXT = "The request took too long to arrive.\n"
_TOO_SLOW = _plain("408 Request Timeout", _TOO_SLOW_TEXT)
_TOO_MANY = _plain("503 Service Unavailable", "Too many connections. Try again.\n", "Retry-After: 2")
_TOO_MUCH = _plain("503 Service Unavailable", "Too much is on its way. Try again.\n", "Retry-After: 2")
_HEADERS_TOO_LARGE = _plain("431 Request Header Fields Too Large", "The headers are too large in all.\n")


class Connection(RequestHandler):
    """One connection, with a clock that runs while headers or a body are on their way, and one for answers.

    A connection has one answer at a time: the next is made when the client has taken the one before. Until
    then, what it sends waits unread.

    Attributes:
        holder: the address whose connection it is, when it comes to shares.
        since: when it was last used for anything, in the loop's time (seconds).
        held: bytes of memory that its incomplete request takes.
        is_leaving: whether it was told to close.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_body_bytes",
        "_clock",
        "_clock_count",
        "_forwarded",
        "_gateway",
        "_has_spoken",
        "_header_bytes",
        "_unread",
        "held",
        "holder",
        "is_leaving",
        "since",
    )

    def __init__(self, manager: GatewayServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._gateway = manager
        self._read_one_by_one()
        self._answer: _Taking | None = None
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_bytes = self._header_bytes = self.held = 0
        self._clock: float | None = None
        self._clock_count = 0
        self._forwarded: str | None = None
        self._has_spoken = self.is_leaving = False
        self._unread = b""
        self.holder = ""
        self.since = 0.0

    def _read_one_by_one(self) -> None:
        # aiohttp reads 32 requests ahead, and has no option for it.
        self._max_msg_queue_size, self._msg_queue_resume_size = _READ_AHEAD, _READ_AHEAD - 1
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=_READ_AHEAD,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock, or refuse a connection that is one too many."""
        stream = cast("asyncio.Transport", transport)
        self.holder = holder_of(stream.get_extra_info("peername"))
        if self._gateway.is_full and not self._gateway.make_room(self.holder):
            self._refuse(stream)
            return
        stream.set_write_buffer_limits(high=_NEARLY_NOTHING)
        bound_system_buffer(stream, _SYSTEM_BUFFER)
        super().connection_made(transport)
        self.since = self._loop.time()
        self._start_clock()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the clocks with the connection, and let nobody wait for the rest of a body."""
        self._stop_clock()
        self._hold(0)
        self._unread = b""
        self._gateway.forget_answer(self)
        if self._current_request is None and not self._body.is_eof():
            # The answer is out, and aiohttp reads on to let the client see it: up to ten seconds for nothing.
            self._body.feed_eof()
        self._body = EMPTY_PAYLOAD
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let aiohttp read a slice at a time, and nothing while enough requests wait already."""
        if self._unread:
            self._hold(self.held - len(self._unread))
            data, self._unread = self._unread + data, b""
            self._read(b"")  # what aiohttp has put aside comes first
        elif len(data) <= _SLICE and not self._is_read_ahead:
            self._read(data)
            return
        start = 0
        while start < len(data) and not self._is_read_ahead:
            if self._close or self._force_close:
                return
            self._read(data[start : start + _SLICE])
            start += _SLICE
        if start < len(data):
            self._unread = data[start:]
            self._hold(self.held + len(self._unread))

    @property
    def _is_read_ahead(self) -> bool:
        return len(self._messages) >= _READ_AHEAD

    def _read(self, data: bytes) -> None:
        """Let aiohttp read, then see what is still missing: a body, headers, or nothing."""
        before = self._request_count
        super().data_received(data)
        arrived = self._request_count != before
        if arrived and self._messages:
            self._body, self._body_bytes = self._messages[-1][1], 0
            self._learn_holder()
        self._has_spoken = True
        if not self._body.is_eof():
            self._body_bytes += len(data)
            self._hold(0 if self.use is Use.LINGERING else self._body_bytes)
            if arrived or self._clock is None:
                self._start_clock()
        elif arrived or self._body is not EMPTY_PAYLOAD:
            self._body = EMPTY_PAYLOAD
            self._header_bytes = 0
            self._hold(0)
            self._stop_clock()
        elif data:
            if self._clock is None:
                self._start_clock()
            self._header_bytes += len(data)
            self._hold(self.held + _HEADER_WEIGHT * len(data) + _LINE_WEIGHT * data.count(b"\n"))
            if self._header_bytes > self._gateway.limits.header_bytes:
                self._break_off(_HEADERS_TOO_LARGE)

    def _hold(self, held: int) -> None:
        if held == self.held:
            return
        grown, self.held = held - self.held, held
        self._gateway.hold(grown)

    def _learn_holder(self) -> None:
        """See behind the routers whose word counts: each of them speaks for many."""
        proxies = self._gateway.limits.proxies
        message = self._messages[-1][0]
        if not proxies or not hasattr(message, "headers"):
            return
        told = ",".join(message.headers.getall("X-Forwarded-For", ()))
        if told != self._forwarded:
            self._forwarded = told
            seen = told.split(",")
            if len(seen) >= proxies:
                self.holder = holder_of((seen[-proxies].strip(),)) or self.holder

    def pause_writing(self) -> None:
        """Start the clock for the answer: the system takes no more of it for now."""
        super().pause_writing()
        self._answer = _Taking(self._loop.time(), self._left_to_take())
        self._gateway.watch_answer(self)

    def resume_writing(self) -> None:
        """Stop the clock for the answer, which is out."""
        super().resume_writing()
        self._answer = None
        self._gateway.forget_answer(self)

    def _left_to_take(self) -> int:
        if self.transport is None:
            return 0
        return self.transport.get_write_buffer_size() + unacknowledged(self.transport)

    def expire_answer(self, now: float) -> bool:
        """Drop a client that takes nothing of its answer, or takes it too slowly.

        Returns:
            Whether the clock has done its work; False while there is time left.
        """
        answer, limits = self._answer, self._gateway.limits
        if answer is None or self.transport is None:
            return True
        if self._current_request is not None:
            answer.began = answer.took = now  # an answer that goes on, whose handler has a clock of its own
            return False
        left = self._left_to_take()
        if left < answer.left:
            answer.left, answer.took = left, now
        if self._gateway.is_stopping:
            is_in_time = now - answer.took < ANSWER_GRACE and now < self._gateway.last_answers
        else:
            longest = limits.answer + answer.size / limits.slowest
            is_in_time = now - answer.took < limits.answer and now - answer.began < longest
        if is_in_time:
            return False
        self._gateway.not_taken += 1
        _log.debug("A client took too little of its answer.", extra={"action": "answer_timeout"})
        self.transport.abort()
        return True

    @property
    def use(self) -> Use:
        """What it is good for at present, the least first."""
        if self._request_in_progress:
            is_told = self._current_request is None and self._answer is not None
            return Use.NOT_READING if is_told else Use.WORK
        if self._messages:
            return Use.WORK
        if self._waiter is None:
            return Use.LINGERING
        return Use.SILENT if self._clock is not None or not self._request_count else Use.IDLE

    def leave(self) -> None:
        """Close, to make room for others; a client that has begun to ask is told so."""
        self.is_leaving = True
        self._gateway.leaving += 1
        if self._answer is not None and self.transport is not None:
            self.transport.abort()
        else:
            self._break_off(_TOO_MANY if self._clock is not None else b"")

    def drop_request(self) -> None:
        """Give up a request that is not complete, and the memory that it takes."""
        if not self._body.is_eof() and self.transport is not None:
            self.transport.abort()
        else:
            self._break_off(_TOO_MUCH)
        self._unread = b""
        self._hold(0)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Say so when the connection closes after this answer, as it does when the server stops."""
        if self._close and isinstance(resp, web.StreamResponse) and not resp.prepared:
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        self.since = self._loop.time()
        if self._messages:
            await self._gateway.turn()
        return finished

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
        self._break_off(_TOO_SLOW)

    def _break_off(self, answer: bytes) -> None:
        """Close after the request that is at work, or now, with a word for a client that waits for one."""
        if self._request_in_progress:
            self.close()
            return
        is_between_requests = self._waiter is not None and not self._waiter.done()
        if answer and is_between_requests and self._has_spoken and self.transport is not None:
            self.transport.write(answer)
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


@dataclass(slots=True)
class _Taking:
    """How a client takes its answer.

    Attributes:
        began: when it had to wait for the client (seconds, the loop's time).
        size: bytes that the client had not taken then.
        left: bytes that it has not taken now.
        took: when it last took some.
    """

    began: float
    size: int
    left: int = field(init=False)
    took: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.took = self.size, self.began


class GatewayServer(web.Server):
    """Makes a `Connection` for each client, counts them, and looks at their clocks.

    Attributes:
        limits: what one client may take.
        open: connections that are open now.
        refused: connections that were one too many, since the start.
        refusing: of these, the ones that are still being told so.
        timed_out: requests that took too long to arrive, since the start.
        not_taken: answers that nobody took in time, since the start.
        leaving: open connections that were told to close, to make room.
        held: bytes of memory that incomplete requests take.
        last_answers: when a server that stops waits for no client any more (seconds, the loop's time).
        is_stopping: whether each connection closes after the request that is on its way.
    """

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits
        self.open = self.refused = self.refusing = self.timed_out = self.not_taken = 0
        self.leaving = self.held = 0
        self._clocks: set[Connection] = set()
        self._answers: set[Connection] = set()
        self._turns: deque[asyncio.Future[None]] = deque()
        self._next_search = 0.0
        self._sweep_every = min(1.0, limits.header / 10, limits.body / 10, limits.answer / 10)
        self._is_sweeping = False
        self._next_telling = 0.0
        self.is_stopping = False
        self.last_answers = 0.0
        self._heard: asyncio.Event | None = None

    def __call__(self) -> RequestHandler:
        """A protocol for a connection that was just accepted."""
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether one more connection is one too many."""
        return self.open - self.leaving >= self.limits.connections

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        self.open += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count a connection that is gone, although its request may still be at work."""
        if handler in self._connections:
            self.open -= 1
            self.leaving -= cast("Connection", handler).is_leaving
        else:
            self.refusing -= 1
        super().connection_lost(handler, exc)

    def pre_shutdown(self) -> None:
        """Close what is idle; whoever has connected and is about to ask, or in the middle of it, is heard."""
        self.is_stopping = True
        self.last_answers = self._loop.time() + LAST_ANSWERS
        self._sweep_every = _STOPPING_SWEEP
        if self._answers:
            self._loop.call_later(_STOPPING_SWEEP, self._sweep)
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

    def make_room(self, newcomer: str) -> bool:
        """Close connections that are of the least use, of whoever has the most.

        Args:
            newcomer: the holder of the connection that waits to be let in.

        Returns:
            Whether there is room; False when all connections are at work, or were only just made.
        """
        began = self._loop.time()
        if began < self._next_search:
            return False
        connections = [cast("Connection", one) for one in self._connections]
        count = max(1, self.limits.connections // 100)
        found = victims(connections, newcomer, before=began - self.limits.unused, count=count)
        for connection in found:
            connection.leave()
        if found:
            self._tell_full()
        else:
            self._next_search = began + _SEARCH_SHARE * (time.monotonic() - began)
        return bool(found)

    def hold(self, grown: int) -> None:
        """Count memory of incomplete requests; when it is too much, those that take the most are given up.

        Args:
            grown: bytes more, or less when negative.
        """
        self.held += grown
        if grown < 0 or self.held <= self.limits.memory:
            return
        connections = [cast("Connection", one) for one in self._connections]
        for connection in sorted(connections, key=lambda one: one.held, reverse=True):
            if self.held <= self.limits.memory * 3 // 4:
                break
            connection.drop_request()

    async def turn(self) -> None:
        """Wait for the turn of a request that came before the answer to the one before it was out.

        Those who send many requests at once, on many connections, would let nobody else in for seconds.
        """
        turn = self._loop.create_future()
        self._turns.append(turn)
        if len(self._turns) == 1:
            self._loop.call_soon(self._give_turns)
        await turn

    def _give_turns(self) -> None:
        for _ in range(min(_TURNS, len(self._turns))):
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._turns:
            self._loop.call_soon(self._give_turns)

    def watch_answer(self, connection: Connection) -> None:
        """Look from time to time at how this connection's answer is taken."""
        self._answers.add(connection)
        self._begin_sweeping()

    def forget_answer(self, connection: Connection) -> None:
        """Look at this connection's answer no more."""
        self._answers.discard(connection)

    def watch(self, connection: Connection) -> None:
        """Look at this connection's clock from time to time."""
        self._clocks.add(connection)
        self._begin_sweeping()

    def forget(self, connection: Connection) -> None:
        """Look at this connection's clock no more."""
        self._clocks.discard(connection)
        if self._heard is not None and not self._clocks:
            self._heard.set()

    def tell_refusal(self) -> None:
        """Count a connection that is refused."""
        self.refused += 1
        self._tell_full()

    def _tell_full(self) -> None:
        """Log that there are too many connections, at most every ten seconds."""
        now = self._loop.time()
        if now >= self._next_telling:
            self._next_telling = now + 10
            _log.warning(
                "All %d connections are taken; unused ones are closed for new ones, and when there are none, "
                "new ones are answered 503. Raise MAX_CONNECTIONS, or find out who keeps them open.",
                self.limits.connections,
                extra={"action": "connections_refused", "refused": self.refused},
            )

    def _begin_sweeping(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(self._sweep_every, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [one for one in self._clocks if one.expire(now)]:
            self.forget(connection)
        for connection in [one for one in self._answers if one.expire_answer(now)]:
            self.forget_answer(connection)
        self._is_sweeping = bool(self._clocks or self._answers)
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
        limits = server_limits(settings)
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


def server_limits(settings: Settings) -> Limits:
    """What one client may take of the server that these settings describe."""
    connections = affordable_connections(settings.max_connections)
    return Limits(connections=connections, proxies=settings.trusted_proxies)


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
