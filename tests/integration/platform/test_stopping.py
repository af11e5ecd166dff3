"""A server that stops at a busy moment: on both loops, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import uvloop
from aiohttp import web

from infra.config.settings import Settings
from infra.server.runner import GatewayRunner, make_runner
from tests.integration.platform.servers import ENOUGH, LIMIT

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

NewLoop = Callable[[], asyncio.AbstractEventLoop]

both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


async def answer(_request: web.Request) -> web.Response:
    return web.Response()


async def started() -> GatewayRunner:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = make_runner(app, Settings.from_environment(ENOUGH, None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@dataclass
class Clients:
    """Clients whose connections only the kernel knows: they are made without the loop."""

    said: bytes
    sockets: list[socket.socket] = field(default_factory=list)

    def connect(self, runner: GatewayRunner) -> None:
        client = socket.create_connection(runner.addresses[0], timeout=LIMIT)
        self.sockets.append(client)
        client.sendall(self.said)

    def answers(self) -> list[bytes]:
        """What each of them received; `reset` for a connection that was thrown away."""
        return [_received(client) for client in self.sockets]


def _received(client: socket.socket) -> bytes:
    with client:
        try:
            return client.recv(65_536)
        except ConnectionResetError:
            return b"reset"


async def stop_with(clients: Clients, count: int) -> None:
    runner = await started()
    for _ in range(count):
        clients.connect(runner)
    await runner.cleanup()


@both_loops
def test_whoever_has_connected_and_is_not_accepted_yet_is_answered(new_loop: NewLoop) -> None:
    clients = Clients(REQUEST)
    with asyncio.Runner(loop_factory=new_loop) as running:
        running.run(stop_with(clients, 5))
    answers = clients.answers()
    assert [each[:15] for each in answers] == [b"HTTP/1.1 200 OK"] * 5
    assert all(b"connection: close" in each.lower() for each in answers)


@both_loops
def test_who_is_not_accepted_yet_and_says_nothing_does_not_hold_the_server_up(new_loop: NewLoop) -> None:
    clients = Clients(b"")
    with asyncio.Runner(loop_factory=new_loop) as running:
        running.run(stop_with(clients, 1))
    assert clients.answers() == [b""], "It was let in, waited for, and let go."


async def large(_request: web.Request) -> web.Response:
    return web.Response(body=bytes(8 * 1024 * 1024))


async def stop_among_the_deaf(clients: Clients, count: int) -> float:
    """Stop when so many take no answer; how long that took, in parts of what aiohttp would wait."""
    app = web.Application()
    app.router.add_get("/", large)
    runner = make_runner(app, Settings.from_environment(ENOUGH, None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = runner.gateway_server
    assert server is not None
    for _ in range(count):
        clients.connect(runner)
    async with asyncio.timeout(LIMIT):
        while len(server._answers) < count:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
    began = asyncio.get_running_loop().time()
    await runner.cleanup()
    assert server.not_taken == count
    return (asyncio.get_running_loop().time() - began) / runner._shutdown_timeout


@both_loops
def test_clients_that_do_not_take_their_answers_do_not_hold_the_server_up(new_loop: NewLoop) -> None:
    clients = Clients(REQUEST)
    with asyncio.Runner(loop_factory=new_loop) as running:
        took = running.run(stop_among_the_deaf(clients, 5))
    for client in clients.sockets:
        client.close()
    assert took < 0.5
