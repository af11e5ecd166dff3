"""Streams of events over real sockets: whoever takes nothing costs little, and a bug breaks off cleanly."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace

import pytest
from aiohttp import web

from core.model.message import Message
from core.model.question import Option, Question
from core.model.task import Task
from core.policy.policy import Policy, ServiceGrant, ServiceRole
from core.services.tasks import Submission
from handlers import events
from handlers.application import build_application
from handlers.events import WRITING, EventStream, ReaderTooSlow
from handlers.keys import REQUEST_ID, Services, StreamPace
from infra.config.settings import Settings
from infra.server.runner import GatewayServer, Limits, make_runner
from tests.fakes.store import MemoryStore
from tests.fakes.world import ADA, CI
from tests.integration.platform.servers import ENOUGH, LIMIT, Serve
from tests.test_architecture import services

ENDPOINT = "GET /v1/tasks/{id}/events"
MUCH = b": " + b"x" * 100_000 + b"\n\n"
POLICY = Policy.build(
    service_roles=[ServiceRole("writer", frozenset({ENDPOINT}), frozenset({"*"}))],
    services=[ServiceGrant("ci", frozenset({"writer"}))],
)


class Pouring:
    """An application that sends to its reader without end, and what becomes of that.

    Attributes:
        most: the most bytes that were put aside for the reader.
        ended: set when the handler has ended.
        error: what ended it.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.most = 0
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self.app = web.Application()
        self.app[WRITING] = set()
        self.app.on_shutdown.append(events.abandon_slow_readers)
        self.app.router.add_get("/", self.pour)

    async def pour(self, request: web.Request) -> web.StreamResponse:
        request[REQUEST_ID] = "req_1"
        stream = EventStream(request, self.patience)
        await stream.open()
        try:
            while True:
                transport = request.transport
                self.most = max(self.most, 0 if transport is None else transport.get_write_buffer_size())
                await stream.write(MUCH)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    async def until_stuck(self) -> None:
        """Wait until a reader takes nothing more."""
        async with asyncio.timeout(LIMIT):
            while not self.app[WRITING]:  # noqa: ASYNC110 - a set has no Event
                await asyncio.sleep(0.01)


async def deaf_reader(port: int) -> socket.socket:
    """A client that asks and then takes nothing."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, ("127.0.0.1", port))
    await loop.sock_sendall(deaf, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return deaf


async def test_a_reader_that_takes_nothing_is_dropped_and_little_is_put_aside_for_it(serve: Serve) -> None:
    pouring = Pouring(patience=0.3)
    async with serve(pouring.app, Limits()) as running:
        deaf = await deaf_reader(running.port)
        async with asyncio.timeout(LIMIT):
            await pouring.ended.wait()
            while running.server.open:  # noqa: ASYNC110 - the server counts, and tells nobody
                await asyncio.sleep(0.01)
        deaf.close()
    assert isinstance(pouring.error, ReaderTooSlow)
    assert pouring.most < 5 * len(MUCH)
    assert pouring.app[WRITING] == set()


async def test_a_reader_that_takes_a_little_now_and_then_stays(serve: Serve) -> None:
    pouring = Pouring(patience=LIMIT)
    async with serve(pouring.app, Limits()) as running:
        deaf = await deaf_reader(running.port)
        for _ in range(5):
            await pouring.until_stuck()
            await asyncio.get_running_loop().sock_recv(deaf, 1_000_000)
        assert not pouring.ended.is_set()
        deaf.close()


async def test_a_reader_that_takes_nothing_does_not_keep_the_process_from_ending() -> None:
    pouring = Pouring(patience=3600)
    # aiohttp would wait for a third of the grace time, and as long again.
    settings = Settings.from_environment({**ENOUGH, "SHUTDOWN_GRACE": "600"}, None)
    runner = make_runner(pouring.app, settings, limits=Limits())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    assert isinstance(runner.server, GatewayServer)
    deaf = await deaf_reader(runner.addresses[0][1])
    await pouring.until_stuck()
    async with asyncio.timeout(LIMIT):
        await runner.cleanup()
    deaf.close()
    assert pouring.ended.is_set()


async def test_the_system_breaks_a_connection_whose_other_side_says_nothing_any_more(serve: Serve) -> None:
    seen: list[int] = []

    async def look(request: web.Request) -> web.StreamResponse:
        request[REQUEST_ID] = "req_1"
        stream = EventStream(request, 30.0)
        await stream.open()
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        return stream.response

    app = web.Application()
    app[WRITING] = set()
    app.router.add_get("/", look)
    async with serve(app, Limits()) as running:
        client = await running.connect()
        client.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert "Connection: close" in await client.rest()
    assert seen == [30_000]


# The whole application, over fakes


def gateway() -> Services:
    return replace(services(), authenticate=lambda _token: CI, policy=lambda: POLICY)


async def asked(made: Services) -> Task:
    """A question that stands in the chat."""
    question = Question(Message("Deploy?"), options=(Option("yes", "Yes"), Option("no", "No")))
    task = await made.questions.ask(question, Submission(CI), chat=ADA.id)
    await made.tasks.runner.background.stop(5.0)
    return task


def request_for(task: Task) -> str:
    return (
        f"GET /v1/tasks/{task.id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Authorization: Bearer ci\r\nX-Request-Id: req_given_by_me\r\n\r\n"
    )


async def followed(serve: Serve, made: Services) -> str:
    """All that a client hears of a question that it follows until the stream ends."""
    task = await asked(made)
    async with serve(build_application(made), Limits()) as running:
        client = await running.connect()
        client.send(request_for(task))
        said = await client.rest()
    assert len(made.tasks.room) == 0
    return said


async def test_a_database_that_is_down_is_told_before_a_stream_begins(serve: Serve) -> None:
    made = gateway()
    task = await asked(made)
    store = made.tasks.store
    assert isinstance(store, MemoryStore)
    async with serve(build_application(made), Limits()) as running:
        store.down = True
        client = await running.connect()
        client.send(request_for(task))
        answer = await client.answer()
        store.down = False
    assert answer.startswith("HTTP/1.1 503")
    assert "storage_unavailable" in answer
    assert len(made.tasks.room) == 0


async def test_a_bug_within_a_stream_breaks_it_off_and_is_logged(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forget_how(_request: web.Request) -> None:
        raise LookupError("a mistake")

    monkeypatch.setattr(events, "_require_still_allowed", forget_how)
    made = replace(gateway(), streams=StreamPace(comment_every=60))
    said = await followed(serve, made)
    assert said.startswith("HTTP/1.1 200")
    assert said.count("HTTP/1.1") == 1
    assert not said.endswith("0\r\n\r\n"), "A stream that broke off must not look as if it had ended."
    assert "A request failed because of a bug." in caplog.text


async def test_a_client_that_leaves_just_when_it_is_told_something_is_no_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def leave(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    monkeypatch.setattr(events, "_require_still_allowed", leave)
    await followed(serve, replace(gateway(), streams=StreamPace(comment_every=60)))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert [record for record in caplog.records if vars(record).get("action") == "stream_left"]


async def test_a_reader_that_is_dropped_is_told_of_in_the_log(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def take_nothing(_stream: EventStream, _data: bytes) -> None:
        raise ReaderTooSlow

    monkeypatch.setattr(EventStream, "write", take_nothing)
    await followed(serve, replace(gateway(), streams=StreamPace(patience=7)))
    [line] = [record for record in caplog.records if vars(record).get("action") == "slow_reader"]
    assert line.getMessage() == "A reader took nothing of its stream of events for 7 s, and was dropped."
