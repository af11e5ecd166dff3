"""What one client may take of the server: time, bytes and connections, tried with raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from infra.config.settings import Settings
from infra.server.runner import Connection, Limits, affordable_connections, make_runner
from infra.server.tls import self_signed_pair
from tests.integration.platform.servers import ENOUGH, LIMIT, InProcess, Serve

SHORT = Limits(connections=100, header=0.5, body=0.5, slowest=1000, idle=0.5, refusal=0.2)
PATIENT = replace(SHORT, header=LIMIT, body=LIMIT, idle=LIMIT)


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def polite_echo(request: web.Request) -> web.Response:
    """As a middleware does that makes problems of aiohttp's own exceptions."""
    try:
        return web.Response(body=await request.read())
    except web.HTTPRequestTimeout:
        return web.json_response({"code": "malformed"}, status=400)


def application() -> web.Application:
    app = web.Application()
    app.router.add_post("/echo", echo)
    app.router.add_post("/polite", polite_echo)
    return app


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the server tells nobody: its own state."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def settle(running: InProcess, open_connections: int) -> None:
    await until(lambda: running.server.open == open_connections and not running.server.refusing)


async def test_headers_that_never_end_are_answered_408_and_the_connection_closes(serve: Serve) -> None:
    async with serve(application(), replace(SHORT, idle=LIMIT)) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        answer = await client.rest()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "Connection: close" in answer
    assert running.server.timed_out == 1


async def test_headers_that_come_byte_by_byte_do_not_move_the_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = bytearray()
    receive = Connection.data_received

    def receive_and_note(self: Connection, data: bytes) -> None:
        arrived.extend(data)
        receive(self, data)

    monkeypatch.setattr(Connection, "data_received", receive_and_note)
    async with serve(application(), PATIENT) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nX: ")
        await until(lambda: arrived.endswith(b"X: "))
        connection = next(iter(running.server._clocks))
        began = connection._clock
        assert began is not None
        for length in range(len(arrived) + 1, len(arrived) + 11):
            client.send("y")
            await until(partial(lambda expected: len(arrived) == expected, length))
        assert connection._clock == began
        # All bytes are read before the end: what is left unread would turn it into a reset.
        assert connection.expire(began + PATIENT.header)
        assert (await client.rest()).startswith("HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed_without_a_word(serve: Serve) -> None:
    async with serve(application(), replace(SHORT, idle=LIMIT)) as running:
        client = await running.connect()
        assert await client.rest() == ""


async def test_a_later_request_on_the_same_connection_has_the_same_limit_for_its_headers(
    serve: Serve,
) -> None:
    async with serve(application(), replace(SHORT, idle=LIMIT)) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        assert (await client.answer()).endswith("hi")
        client.send("POST /echo HTTP/1.1\r\n")
        assert (await client.rest()).startswith("HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "framing", ["Content-Length: 10\r\n\r\nhal", "Transfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n"]
)
async def test_a_body_that_never_ends_is_answered_408(serve: Serve, framing: str) -> None:
    async with serve(application(), replace(SHORT, idle=LIMIT)) as running:
        client = await running.connect()
        client.send(f"POST /echo HTTP/1.1\r\nHost: x\r\n{framing}")
        assert (await client.rest()).startswith("HTTP/1.1 408 ")
        await settle(running, 0)


async def test_a_handler_may_turn_a_slow_body_into_its_own_answer(serve: Serve) -> None:
    async with serve(application(), replace(SHORT, idle=LIMIT)) as running:
        client = await running.connect()
        client.send("POST /polite HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhal")
        answer = await client.rest()
    assert answer.startswith("HTTP/1.1 400 ")
    assert "connection: close" in answer.lower()


async def test_a_large_body_may_take_longer_than_a_small_one(serve: Serve) -> None:
    async with serve(application(), replace(PATIENT, body=1.0, slowest=10)) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + "x" * 1000)
        await until(lambda: any(one._body_bytes >= 1000 for one in running.server._clocks))
        connection = next(iter(running.server._clocks))
        started = connection._clock
        assert started is not None
        assert not connection.expire(started + 100)
        client.send("y")
        assert (await client.answer()).endswith("xy")
        assert connection.expire(started + 1000)


async def test_a_body_waits_for_a_slow_handler_without_being_cut(serve: Serve) -> None:
    release = asyncio.Event()
    size = 4 * 1024 * 1024

    async def late(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text=str(len(await request.read())))

    app = web.Application(client_max_size=2 * size)
    app.router.add_post("/late", late)
    async with serve(app, replace(PATIENT, slowest=10**12)) as running:
        client = await running.connect()
        client.send(f"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")
        writing = asyncio.ensure_future(send_all(client.writer, size))
        await until(lambda: any(one._reading_paused for one in running.server._clocks))
        connection = next(iter(running.server._clocks))
        assert not connection.expire(asyncio.get_running_loop().time() + 1000)
        connection._start_clock()
        release.set()
        assert (await client.answer()).endswith(str(size))
        await writing


async def send_all(writer: asyncio.StreamWriter, size: int) -> None:
    writer.write(b"x" * size)
    await writer.drain()


async def test_a_quiet_handler_is_never_cut_however_long_it_holds_the_request(serve: Serve) -> None:
    release = asyncio.Event()

    async def held(request: web.Request) -> web.Response:
        del request
        await release.wait()
        return web.Response(text="woken")

    app = web.Application()
    app.router.add_get("/held", held)
    async with serve(app, SHORT) as running:
        client = await running.connect()
        client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(3 * SHORT.header)  # longer than every limit; nothing may happen meanwhile
        assert running.server.open == 1
        release.set()
        assert (await client.answer()).endswith("woken")


async def test_half_a_second_request_behind_a_held_one_closes_the_connection_after_its_answer(
    serve: Serve,
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.Response:
        del request
        begun.set()
        await release.wait()
        return web.Response(text="woken")

    app = web.Application()
    app.router.add_get("/held", held)
    async with serve(app, SHORT) as running:
        client = await running.connect()
        client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(begun.is_set)
        client.send("GET /held HT")
        await until(lambda: running.server.timed_out > 0)
        release.set()
        answer = await client.rest()
    assert answer.endswith("woken")
    assert "connection: close" in answer.lower()


async def test_nobody_waits_for_the_body_of_a_client_that_is_gone(serve: Serve) -> None:
    async def refuse(request: web.Request) -> web.Response:
        del request
        return web.Response(status=413, text="too large")

    app = web.Application()
    app.router.add_post("/refuse", refuse)
    async with serve(app, PATIENT) as running:
        client = await running.connect()
        client.send("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert (await client.answer()).endswith("too large")
        client.writer.close()
        async with asyncio.timeout(5):  # aiohttp alone would wait for ten seconds
            await until(lambda: not running.server._connections)


async def test_a_body_cut_off_before_its_handler_began_is_not_taken_for_a_whole_one(serve: Serve) -> None:
    taken: list[object] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/take", take)
    async with serve(app, PATIENT) as running:
        await running.connect()
        await settle(running, 1)
        (connection,) = running.server.connections
        connection.data_received(b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        connection.connection_lost(None)
        await until(lambda: not running.server._connections)
    assert taken == []


async def test_an_idle_connection_is_closed_after_the_idle_time(serve: Serve) -> None:
    async with serve(application(), replace(PATIENT, idle=0.2)) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        await client.answer()
        assert await client.rest() == ""


@pytest.mark.parametrize(
    "request_text",
    [
        "POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary{long}\r\n\r\n",
        "POST /echo?canary{long} HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\ncanary broken header\r\n\r\n",
        "canary\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_http_are_answered_400_and_repeated_nowhere(
    serve: Serve, caplog: pytest.LogCaptureFixture, request_text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(application(), PATIENT) as running:
        client = await running.connect()
        client.send(request_text.replace("{long}", "canary" * 2000))
        answer = await client.rest()
    assert answer.startswith("HTTP/1.0 400 ")
    assert "\r\nServer: telegate\r\n" in answer
    assert "canary" not in answer
    assert "not well-formed HTTP" in caplog.text
    assert "canary" not in caplog.text


async def test_more_headers_than_a_request_needs_are_refused(serve: Serve) -> None:
    async with serve(application(), PATIENT) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\n" + "A: b\r\n" * 200 + "\r\n")
        assert (await client.rest()).startswith("HTTP/1.0 400 ")


async def test_a_compressed_body_is_not_unpacked(serve: Serve) -> None:
    async with serve(application(), PATIENT) as running:
        client = await running.connect()
        client.send(
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nnot gz"
        )
        assert (await client.answer()).endswith("not gz")


async def test_one_connection_too_many_is_answered_503_and_told_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(application(), replace(PATIENT, connections=3, refusal=0.2)) as running:
        first, *_ = [await running.connect() for _ in range(3)]
        await settle(running, 3)
        for _ in range(2):
            answer = await (await running.connect()).rest()
            assert answer.startswith("HTTP/1.1 503 ")
            assert "Retry-After: 2\r\n" in answer
            assert "Connection: close\r\n" in answer
        assert running.server.refused == 2
        first.writer.close()
        await settle(running, 2)
        again = await running.connect()
        again.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        assert (await again.answer()).endswith("hi")
    told = [record for record in caplog.records if getattr(record, "action", "") == "connections_refused"]
    assert len(told) == 1


async def test_a_flood_of_refused_connections_is_cut_off_without_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.server.runner._MOST_REFUSALS_AT_ONCE", 1)
    async with serve(application(), replace(PATIENT, connections=1, refusal=LIMIT)) as running:
        await running.connect()
        await settle(running, 1)
        polite = await running.connect()
        assert (await polite.reader.read(12)) == b"HTTP/1.1 503"
        rude = await running.connect()
        assert await rude.rest() == ""
        polite.writer.close()
        await settle(running, 1)


# Answers that nobody takes

LARGE = 8 * 1024 * 1024
"""Bytes of an answer that no system's buffers take."""

ASK = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Answering:
    """Answers, and tells how many it was asked for."""

    size: int = LARGE
    begun: int = 0
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str] = field(default_factory=list)

    async def large(self, request: web.Request) -> web.Response:
        del request
        self.begun += 1
        return web.Response(body=bytes(self.size))

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(bytes(self.size))
        return response

    async def held(self, request: web.Request) -> web.Response:
        del request
        self.begun += 1
        await self.holding.wait()
        return web.Response(text="woken")

    async def noted(self, request: web.Request) -> web.Response:
        self.heard.append(request.query_string)
        return web.Response()

    @property
    def app(self) -> web.Application:
        app = web.Application()
        for path, handler in (
            ("/large", self.large),
            ("/streamed", self.streamed),
            ("/held", self.held),
            ("/noted", self.noted),
        ):
            app.router.add_get(path, handler)
        return app


async def stuck(running: InProcess) -> Connection:
    """The connection whose answer nobody takes."""
    await until(lambda: bool(running.server._answers))
    (connection,) = running.server._answers
    return connection


async def test_a_client_that_takes_nothing_of_its_answer_is_dropped(serve: Serve) -> None:
    answering = Answering()
    async with serve(answering.app, replace(PATIENT, answer=0.3)) as running:
        client = await running.connect()
        client.send(ASK)
        await until(lambda: running.server.not_taken == 1)
        await settle(running, 0)
    assert answering.begun == 1


async def test_a_client_that_takes_its_answer_slowly_is_not_dropped_before_its_size_allows_it(
    serve: Serve,
) -> None:
    async with serve(Answering().app, replace(PATIENT, answer=LIMIT, slowest=LARGE)) as running:
        client = await running.connect()
        client.send(ASK)
        connection = await stuck(running)
        answer = connection._answer
        assert answer is not None
        began, left = answer.began, answer.left
        while connection._left_to_take() >= left:
            await client.reader.read(LARGE)
        assert not connection.expire_answer(began + LIMIT), "It has taken some."
        assert answer.took == began + LIMIT
        assert connection.expire_answer(began + 2 * LIMIT), "Not all that its size allows."


async def test_an_answer_that_goes_on_has_the_clock_of_its_handler_alone(serve: Serve) -> None:
    async with serve(Answering().app, replace(PATIENT, answer=LIMIT)) as running:
        client = await running.connect()
        client.send(ASK.replace("large", "streamed"))
        connection = await stuck(running)
        assert not connection.expire_answer(asyncio.get_running_loop().time() + 1000)


async def test_the_next_answer_is_made_when_the_one_before_it_is_taken(serve: Serve) -> None:
    answering = Answering()
    async with serve(answering.app, PATIENT) as running:
        client = await running.connect()
        client.send(2 * ASK)
        await stuck(running)
        assert answering.begun == 1
        async with asyncio.timeout(LIMIT):
            for _ in range(2):
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                await client.reader.readexactly(LARGE)
        assert answering.begun == 2


async def test_requests_that_are_sent_ahead_wait_unread_and_are_answered_in_their_order(
    serve: Serve,
) -> None:
    answering = Answering()
    names = [f"{number:050}" for number in range(2000)]
    async with serve(answering.app, PATIENT) as running:
        client = await running.connect()
        ahead = "".join(f"GET /noted?{name} HTTP/1.1\r\nHost: x\r\n\r\n" for name in names)
        client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n" + ahead)
        await until(lambda: answering.begun == 1 and running.server.held > 0)
        (connection,) = running.server._connections
        assert isinstance(connection, Connection)
        assert len(connection._messages) <= 3
        assert running.server.held >= len(connection._unread)
        answering.holding.set()
        assert (await client.answer()).endswith("woken")
        for _ in names:
            assert (await client.answer()).startswith("HTTP/1.1 200 ")
        assert running.server.held == 0
    assert answering.heard == names


async def test_who_sends_many_requests_at_once_lets_others_in_between(serve: Serve) -> None:
    answering = Answering()
    async with serve(answering.app, PATIENT) as running:
        greedy, other = [await running.connect() for _ in range(2)]
        await settle(running, 2)
        greedy.send(200 * "GET /noted?greedy HTTP/1.1\r\nHost: x\r\n\r\n")
        other.send("GET /noted?other HTTP/1.1\r\nHost: x\r\n\r\n")
        await other.answer()
    assert answering.heard.index("other") < 100


async def read_and_drop(certificate: Path, key: Path, answering: Answering) -> None:
    """Over TLS, one client takes two large answers, and one takes nothing of three."""
    limits = replace(PATIENT, answer=1.0, slowest=1)
    runner = make_runner(answering.app, Settings.from_environment(ENOUGH, None), limits=limits)
    await runner.setup()
    server = runner.gateway_server
    assert server is not None
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
    address, trusting = runner.addresses[0], ssl.create_default_context(cafile=str(certificate))
    deaf_reader, deaf = await asyncio.open_connection(*address, ssl=trusting, server_hostname="localhost")
    deaf.write(3 * ASK.encode())  # the first is with the system, as far as TLS is concerned
    await until(lambda: bool(server._answers))
    reader, writer = await asyncio.open_connection(*address, ssl=trusting, server_hostname="localhost")
    writer.write(2 * ASK.encode())
    async with asyncio.timeout(LIMIT):
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(answering.size)
    await until(lambda: server.not_taken == 1 and server.open == 1)
    for each in (writer, deaf):
        each.transport.abort()
    del deaf_reader
    await runner.cleanup()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_answers_over_tls_have_the_same_clock(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path, text in zip(paths, self_signed_pair("localhost", 3), strict=True):
        path.write_bytes(text)
    answering = Answering()
    with asyncio.Runner(loop_factory=new_loop) as running:
        running.run(read_and_drop(*paths, answering))
    assert answering.begun == 4


# Memory for what is not complete


async def test_headers_that_are_too_large_in_all_are_answered_431(serve: Serve) -> None:
    async with serve(application(), PATIENT) as running:
        client = await running.connect()
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\n" + f"X: {'y' * 8000}\r\n" * 8)
        answer = await client.rest()
        assert running.server.held == 0
    assert answer.startswith("HTTP/1.1 431 ")
    assert "connection: close" in answer.lower()


@pytest.mark.parametrize(
    "half",
    ["X: {}\r\n", "Content-Length: 20000\r\n\r\n{}"],
    ids=["headers", "a body"],
)
async def test_when_incomplete_requests_take_too_much_memory_the_largest_are_given_up(
    serve: Serve, half: str
) -> None:
    async with serve(application(), replace(PATIENT, memory=20_000)) as running:
        small, large = [await running.connect() for _ in range(2)]
        small.send("POST /echo HTTP/1.1\r\nHost: x\r\n" + half.format("y" * 100))
        await until(lambda: running.server.held > 0)
        for _ in range(3):
            large.send("POST /echo HTTP/1.1\r\nHost: x\r\n" + half.format("y" * 7000))
        with contextlib.suppress(ConnectionError):
            await large.rest()
        await settle(running, 1)
        assert 0 < running.server.held < 20_000
    assert running.server.held == 0


# Room for others

WHOSE = "GET /noted HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {}\r\n\r\n"


async def test_unused_connections_make_room_for_new_ones_and_those_at_work_do_not(serve: Serve) -> None:
    answering = Answering()
    async with serve(answering.app, replace(PATIENT, connections=3, unused=0.0)) as running:
        working, idle, silent = [await running.connect() for _ in range(3)]
        working.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.send(WHOSE)
        await idle.answer()
        await until(lambda: answering.begun == 1)
        for closed_for_it in (silent, idle):
            newcomer = await running.connect()
            newcomer.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await closed_for_it.rest() == ""
        await until(lambda: answering.begun == 3)
        assert (await (await running.connect()).rest()).startswith("HTTP/1.1 503 ")
        answering.holding.set()
        assert (await working.answer()).endswith("woken")


async def test_a_client_that_does_not_read_makes_room_before_all_others(serve: Serve) -> None:
    answering = Answering()
    async with serve(answering.app, replace(PATIENT, connections=3, unused=0.0)) as running:
        reading, idle, deaf = [await running.connect() for _ in range(3)]
        for client in (reading, idle):
            client.send(WHOSE)
            await client.answer()
        deaf.send(ASK)
        await stuck(running)
        newcomer = await running.connect()
        newcomer.send(WHOSE)
        assert (await newcomer.answer()).startswith("HTTP/1.1 200 ")
        await until(lambda: not running.server._answers)
        idle.send(WHOSE)
        assert (await idle.answer()).startswith("HTTP/1.1 200 ")


async def test_who_has_fewer_connections_is_let_in_at_once_and_who_has_most_is_not(serve: Serve) -> None:
    answering = Answering()
    limits = replace(PATIENT, connections=3, unused=LIMIT, proxies=1)
    async with serve(answering.app, limits) as running:
        many = [await running.connect() for _ in range(3)]
        for client in many:
            client.send(WHOSE.format("198.51.100.7"))
            await client.answer()
        # Until it has asked, a connection is its router's, which has none here.
        newcomer = await running.connect()
        newcomer.send(WHOSE.format("203.0.113.9"))
        assert (await newcomer.answer()).startswith("HTTP/1.1 200 ")
        assert await many[0].rest() == ""
        for client in many[1:]:
            client.send(WHOSE.format("127.0.0.1"))
            await client.answer()
        assert (await (await running.connect()).rest()).startswith("HTTP/1.1 503 ")


async def test_a_failed_start_closes_what_it_had_opened(serve: Serve) -> None:
    closed: list[str] = []

    async def resource_that_opens(app: web.Application) -> object:
        yield
        closed.append("closed")

    async def resource_that_fails(app: web.Application) -> object:
        raise LookupError("no such thing")
        yield

    app = web.Application()
    app.cleanup_ctx.extend([resource_that_opens, resource_that_fails])  # type: ignore[list-item]
    with pytest.raises(LookupError):
        async with serve(app, PATIENT):
            pass
    assert closed == ["closed"]


def test_the_limit_on_open_files_bounds_the_connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert affordable_connections(500) == 500
    assert raised == []
    assert affordable_connections(3000) == 3000
    assert affordable_connections(12_000) == 3896
    assert raised == [(3200, 4096), (4096, 4096)]
    assert "so at most 3896 connections" in caplog.text
