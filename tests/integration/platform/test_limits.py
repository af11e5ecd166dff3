"""What one client may take of the server: time, bytes and connections, tried with raw sockets."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from aiohttp import web

from infra.server.runner import Connection, Limits, affordable_connections
from tests.integration.platform.servers import LIMIT, InProcess, Serve

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
