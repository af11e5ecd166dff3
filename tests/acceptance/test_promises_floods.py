"""Clients that take and never give: answers that nobody reads, headers that never end, bodies of trifles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.gateway import (
    START_LIMIT,
    Gate,
    Server,
    allow_open_files,
    derived_webhook_secret,
    message,
    opened,
    question,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEBIBYTE = 1024 * 1024

ENOUGH_MEMORY = 150 * MEBIBYTE
"""What a flood may cost at most; without a limit, each of these costs several times as much."""

DESCRIPTION = 32 * b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEADERS = b"GET /v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(
    b"X-%d: %b\r\n" % (number, b"y" * 8000) for number in range(120)
)


def resident_bytes(server: Server) -> int:
    [worker] = server.workers
    told = Path(f"/proc/{worker}/statm").read_text().split()[1]
    return int(told) * resource.getpagesize()


@contextlib.asynccontextmanager
async def flood(server: Server, count: int, said: bytes) -> AsyncIterator[list[socket.socket]]:
    """So many connections that say this, and read nothing."""
    made: list[socket.socket] = []
    loop, address = asyncio.get_running_loop(), ("127.0.0.1", int(server.settings["PORT"]))

    async def one() -> None:
        client = socket.socket()
        made.append(client)
        client.settimeout(0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(10):
                await loop.sock_connect(client, address)
                await loop.sock_sendall(client, said)

    try:
        for _ in range(0, count, 50):
            await asyncio.gather(*(one() for _ in range(50)))
        yield made
    finally:
        for client in made:
            client.close()


async def are_let_in(gate: Gate) -> None:
    """Whoever comes by a connection of its own is let in, if not at once, then soon: probes, and Telegram."""
    await gate.server.until_answered("/healthz", 200)
    update = json.dumps({"update_id": 1, "poll": {}}).encode()
    async with asyncio.timeout(START_LIMIT):
        while not await _is_taken(gate, update):  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.1)


async def _is_taken(gate: Gate, update: bytes) -> bool:
    headers = {"Connection": "close", "X-Telegram-Bot-Api-Secret-Token": derived_webhook_secret()}
    async with aiohttp.ClientSession() as telegram:
        address = f"{gate.server.address}/telegram/webhook"
        with contextlib.suppress(aiohttp.ClientError):
            async with telegram.post(address, data=update, headers=headers) as response:
                return response.status == 200
    return False


async def test_clients_that_read_no_answer_cost_little_memory_and_keep_nobody_out(tmp_path: Path) -> None:
    most = 300
    async with opened(tmp_path, settings={"MAX_CONNECTIONS": str(most), "LOG_LEVEL": "info"}) as gate:
        before = resident_bytes(gate.server)
        async with flood(gate.server, most, DESCRIPTION):
            await are_let_in(gate)
            assert resident_bytes(gate.server) - before < ENOUGH_MEMORY
            # The process ends as if they were not there; `opened` looks at how it ended.
            await gate.server.stop()


@pytest.mark.slow
async def test_a_thousand_clients_that_read_no_answer_are_dropped(tmp_path: Path) -> None:
    allow_open_files(1000)
    async with opened(tmp_path, settings={"LOG_LEVEL": "debug"}) as gate:
        before = resident_bytes(gate.server)
        async with flood(gate.server, 1000, DESCRIPTION):
            await are_let_in(gate)
            async with asyncio.timeout(60):
                while gate.server.log.count("answer_timeout") < 1000:
                    assert resident_bytes(gate.server) - before < ENOUGH_MEMORY
                    await asyncio.sleep(0.2)
            await are_let_in(gate)


async def test_headers_that_never_end_cost_little_memory_in_all(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"LOG_LEVEL": "info"}) as gate:
        before = resident_bytes(gate.server)
        async with flood(gate.server, 300, HEADERS):
            await are_let_in(gate)
            assert resident_bytes(gate.server) - before < ENOUGH_MEMORY


async def test_a_service_whose_requests_are_held_leaves_places_for_others(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"MAX_CONNECTIONS": "40"}) as gate:
        greedy, other, ada = gate.service(), gate.service(), gate.person()
        for _ in range(36):
            greedy.asking(question(gate.person()))
        await gate.until_waiting(36)
        refused = await greedy.send(message(ada))
        assert "36 requests at work" in refused.problem("rate_limited")["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await other.send(message(ada))).task(200)["state"] == "sent"
        await are_let_in(gate)
        await gate.end_test()
        assert (await greedy.send(message(ada))).task(200)["state"] == "sent"


@pytest.mark.parametrize("path", ["/v1/messages", "/enqueue_command"])
async def test_ninety_five_thousand_unknown_fields_are_counted_and_not_listed(path: str, gate: Gate) -> None:
    service = gate.service()
    fields = b",".join(b'"%d":1' % number for number in range(95_000))
    raw = b'{"chat": 815, "text": "x",' + fields + b"}"
    if path == "/enqueue_command":
        raw = b'{"command": "message", "arguments": ' + raw + b"}"
    response = await service.call("POST", path, raw=raw)
    problem = response.problem("invalid")
    assert len(response.body) < 2000
    [told] = problem["errors"]
    assert "more values" in told["detail"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/questions", "/enqueue_command"])
async def test_the_first_fifty_wrong_fields_are_told_and_how_many_more_there_are(
    path: str, gate: Gate
) -> None:
    service = gate.service()
    body: dict[str, object] = {"chat": 815, "text": "x", **{f"field{number}": 1 for number in range(70)}}
    if path == "/enqueue_command":
        body = {"command": "message", "arguments": body}
    problem = (await service.call("POST", path, body)).problem("invalid")
    assert len(problem["errors"]) == 50
    assert "there are 20 more" in problem["detail"]


async def test_the_first_fifty_wrong_parameters_are_told_too(gate: Gate) -> None:
    query = "&".join(f"a{number}=1" for number in range(900))
    problem = (await gate.service().get(f"/v1/tasks?{query}")).problem("invalid")
    assert len(problem["errors"]) == 50
    assert "there are 850 more" in problem["detail"]


async def test_a_long_name_of_a_field_is_not_repeated_whole(gate: Gate) -> None:
    response = await gate.service().send({"chat": 815, "text": "x", "k" * 500_000: 1})
    assert response.problem("invalid")["errors"][0]["pointer"] == f"/{'k' * 100}…"
    assert len(response.body) < 2000


async def test_a_description_is_the_same_for_everybody_and_for_each_connection(gate: Gate) -> None:
    answers = [await gate.request("GET", "/openapi.json") for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert answers[0].document["openapi"] == "3.1.0"
    head = await gate.request("HEAD", "/openapi.json")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answers[0].body))
