"""Crowds: half-open connections, requests that wait, and one service that wants everything for itself."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import gateway
from tests.acceptance.contract import Json, Response
from tests.acceptance.crowded import IN_ALL, OF_ONE_SERVICE, TELL
from tests.acceptance.gateway import Gate, Server, Service, allow_open_files, message, opened, question
from tests.acceptance.policies import POLICY

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 100
"""Connections that a test makes at the same time."""

SLOWER = 10
"""The factor by which the median of other requests may change, on a machine that others use too."""

HALF = b"GET /v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


# Clients by the thousand


@dataclass(slots=True)
class Caller(asyncio.Protocol):
    """One connection, which sends what it is told and keeps what comes."""

    said: bytes
    received: bytearray = field(default_factory=bytearray)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.said)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.over.set()

    @property
    def status(self) -> int | None:
        """The status that it was answered with, if it was."""
        return int(self.received[9:12]) if self.received else None


async def callers(server: Server, requests: list[bytes]) -> list[Caller]:
    """A connection for each of these requests."""
    loop, port = asyncio.get_running_loop(), int(server.settings["PORT"])
    made: list[Caller] = []
    for start in range(0, len(requests), AT_ONCE):
        batch = [Caller(said) for said in requests[start : start + AT_ONCE]]
        await asyncio.gather(
            *(loop.create_connection(lambda one=one: one, "127.0.0.1", port) for one in batch)  # type: ignore[misc]  # bound at once
        )
        made += batch
    return made


def hang_up(crowd: list[Caller]) -> None:
    for caller in crowd:
        if caller.transport is not None:
            caller.transport.abort()


# What others notice


@dataclass(frozen=True, slots=True)
class Times:
    """How long requests took, in seconds."""

    median: float
    p99: float


async def measured(ask: Callable[[], Awaitable[object]], count: int = 60) -> Times:
    """The same request, one after the other."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - begun)
    return Times(statistics.median(times), statistics.quantiles(times, n=100)[98])


def asking_who(service: Service) -> Callable[[], Awaitable[object]]:
    async def ask() -> Response:
        response = await service.get("/v1/me")
        assert response.status == 200, response.told()
        return response

    return ask


# Half-open connections


async def test_a_thousand_half_open_connections_keep_nobody_out_and_no_more_are_taken_than_allowed(
    tmp_path: Path,
) -> None:
    most = 1100
    allow_open_files(most)
    async with opened(tmp_path, settings={"MAX_CONNECTIONS": str(most)}) as gate:
        service, ada = gate.service(), gate.person()
        before = await measured(asking_who(service))
        crowd = await callers(gate.server, [HALF] * 1000)
        meanwhile = await measured(asking_who(service))
        asking = service.asking(question(ada))
        await ada.taps(await gate.next_message(ada), "Yes")
        assert (await asking).task(200)["answer"]["choice"] == "yes"
        crowd += await callers(gate.server, [HALF] * 300)
        # Whoever has a connection keeps it; of the others, all get an answer or an end, and none gets in.
        await asking_who(service)()
        refused: list[Caller] = []
        async with asyncio.timeout(2):
            # This very request may have made room for itself; those who gave way hear of it a moment later.
            while len(crowd) - len(refused) >= most:
                await asyncio.sleep(0.01)
                refused = [caller for caller in crowd if caller.status == 503 or caller.over.is_set()]
        assert 503 in {caller.status for caller in refused}
        assert f"All {most} connections are taken" in gate.server.log
        hang_up(crowd)
        await gate.server.until_answered("/readyz", 200)
        after = await measured(asking_who(service))
        assert meanwhile.median <= SLOWER * max(before.median, after.median), (before, meanwhile, after)


@pytest.mark.slow
async def test_five_thousand_half_open_connections_are_ended_and_keep_nobody_out_until_then(
    tmp_path: Path,
) -> None:
    size = 5000
    allow_open_files(size)
    async with opened(tmp_path) as gate:
        service, ada = gate.service(), gate.person()
        before = await measured(asking_who(service))
        crowd = await callers(gate.server, [HALF] * size)
        assert not any(caller.over.is_set() for caller in crowd[-1000:])
        meanwhile = await measured(asking_who(service))
        assert (await service.send(message(ada))).task(200)["state"] == "sent"
        async with asyncio.timeout(60):
            for caller in crowd:
                await caller.over.wait()
        assert Counter(caller.status for caller in crowd) == {408: size}
        after = await measured(asking_who(service))
        assert meanwhile.median <= SLOWER * max(before.median, after.median), (before, meanwhile, after)


# One service beside another


async def test_a_service_that_has_used_up_its_rate_is_told_when_to_come_back_and_others_pass(
    tmp_path: Path,
) -> None:
    limited = "services:\n  limited: {roles: [everything], rate: 20/hour}\n"
    async with opened(tmp_path, policy=POLICY.replace("services:\n", limited)) as gate:
        service, other = gate.service(name="limited"), gate.service()
        responses = await asyncio.gather(*(service.get("/v1/me") for _ in range(50)))
        assert Counter(each.status for each in responses) == {200: 20, 429: 30}
        refused = next(each for each in responses if each.status == 429)
        refused.problem("rate_limited")
        assert 0 < int(refused.headers["Retry-After"]) <= 180
        ada = gate.person()
        (await service.send(message(ada))).problem("rate_limited")
        assert (await other.send(message(ada))).task(200)["state"] == "sent"
        assert gate.sends(ada) == 1


async def test_a_service_whose_tasks_fill_its_share_is_refused_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.crowded:cramped")
    async with opened(tmp_path, settings={"SEND_RATE": "1"}) as gate:
        greedy, other = gate.service(), gate.service()
        accepted, refused = await until_refused(gate, greedy, "rate_limited")
        assert str(OF_ONE_SERVICE) in refused.document["detail"]
        assert await queued(greedy) >= 1
        # Nothing was done, and what was accepted before is found again by its key.
        assert (await greedy.send(accepted[0], key="0", prefer="respond-async")).status in {200, 202}
        assert (await other.send(message(gate.person()), prefer="respond-async")).status == 202
        # Beyond what all may have together, nobody is taken, and that is told as another thing.
        _, overloaded = await until_refused(gate, [gate.service() for _ in range(4)], "overloaded")
        assert str(IN_ALL) in overloaded.document["detail"]
        assert int(overloaded.headers["Retry-After"]) >= 1
        await gate.end_test()


async def until_refused(
    gate: Gate, services: Service | list[Service], code: str
) -> tuple[list[Json], Response]:
    """Hand messages in, each to another chat, until one is refused: what was taken, and the refusal."""
    taking = services if isinstance(services, list) else [services]
    taken: list[Json] = []
    for number in range(200):
        body = message(gate.person(), f"Number {number}")
        response = await taking[number % len(taking)].send(body, key=str(number), prefer="respond-async")
        if response.status not in {200, 202} and response.document["code"] == code:
            response.problem(code)
            return taken, response
        taken.append(body)
    pytest.fail(f"Of 200 messages, none was refused as {code}.")


async def queued(service: Service) -> int:
    return len((await service.get("/v1/tasks?state=queued&limit=200")).document["items"])


async def hand_in(gate: Gate, service: Service, count: int) -> None:
    """Hand so many messages in, each to another chat, a few at a time, and wait for none."""
    for _ in range(count // 20):
        posts = (service.send(message(gate.person()), prefer="respond-async") for _ in range(20))
        assert {response.status for response in await asyncio.gather(*posts)} == {202}


async def test_many_tasks_and_waiting_requests_of_one_service_delay_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"SEND_RATE": "30", "LOG_LEVEL": "info"}) as gate:
        greedy, other = gate.service(), gate.service()
        before = await measured(asking_who(other))
        ada, grace = gate.person(), gate.person()
        for _ in range(200):
            greedy.asking(question(gate.person()))
        await gate.until_waiting(200)
        await hand_in(gate, greedy, 600)
        meanwhile = await measured(asking_who(other))
        assert (await other.send(message(ada))).task(200)["state"] == "sent"
        (await other.ask(question(grace), prefer="respond-async")).task(202)
        await gate.next_message(grace)
        assert await queued(greedy) > 100, "The others must not have waited until all of it was sent."
        await gate.end_test()
        after = await measured(asking_who(other))
        assert meanwhile.median <= SLOWER * max(before.median, after.median), (before, meanwhile, after)


# Ten thousand waiting requests

WAITERS = 10_000
BYTES_EACH = 25 * 1024


def worker_of(server: Server) -> int:
    [worker] = server.workers
    return worker


def resident_bytes(server: Server) -> int:
    for line in Path(f"/proc/{worker_of(server)}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("The system does not tell the memory of the server.")


async def until_idle(server: Server) -> None:
    """Wait until the server has computed nothing for a while."""
    async with asyncio.timeout(60):
        before, now = -1, ticks(server)
        while now - before > 1:
            await asyncio.sleep(0.3)
            before, now = now, ticks(server)


def ticks(server: Server) -> int:
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    fields = Path(f"/proc/{worker_of(server)}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def counted(server: Server) -> dict[str, Any]:
    """What the server has counted until now."""
    told = server.log.count('"counted"')
    os.kill(worker_of(server), TELL)
    async with asyncio.timeout(20):
        while server.log.count('"counted"') == told:  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.05)
    line = next(line for line in reversed(server.log.splitlines()) if '"counted"' in line)
    found: dict[str, Any] = json.loads(line)
    return found


def held_question(service: Service, chat: int) -> bytes:
    """A question as it goes over the wire, whose request waits for its answer."""
    body = json.dumps(question(chat)).encode()
    head = (
        "POST /v1/questions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {service.token}\r\nPrefer: wait=600\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def seat(gate: Gate, service: Service, chats: list[int], count: int) -> list[Caller]:
    """Let so many requests wait, each for a question of its own, a few hundred more at a time."""
    crowd: list[Caller] = []
    while len(crowd) < count:
        some = [
            held_question(service, chats[number % len(chats)])
            for number in range(min(500, count - len(crowd)))
        ]
        crowd += await callers(gate.server, some)
        async with asyncio.timeout(60):
            while await gate.waiters() < len(crowd):  # noqa: ASYNC110 - another process cannot set an Event here
                await asyncio.sleep(0.05)
    return crowd


@pytest.mark.slow
async def test_ten_thousand_waiting_requests_cost_little_memory_one_query_and_nobody_s_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow_open_files(WAITERS)
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.crowded:counting")
    settings = {"MAX_WAIT_SECONDS": "600", "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
    async with opened(tmp_path, settings=settings) as gate:
        service, other = gate.service(), gate.service()
        chats = [gate.person().id for _ in range(500)]
        # What is set up once is not counted for each.
        hang_up(await seat(gate, service, chats, 1000))
        await gate.until_waiting(0)
        before = await measured(asking_who(other), 200)
        await until_idle(gate.server)
        empty = resident_bytes(gate.server)
        crowd = await seat(gate, service, chats, WAITERS)
        await until_idle(gate.server)
        assert (resident_bytes(gate.server) - empty) / WAITERS <= BYTES_EACH
        await hold_to_one_query(gate.server)
        meanwhile = await measured(asking_who(other), 200)
        assert (await other.send(message(gate.person()))).task(200)["state"] == "sent"
        assert meanwhile.median <= SLOWER * before.median, (before, meanwhile)
        assert meanwhile.p99 <= 5 * SLOWER * before.p99, (before, meanwhile)
        await gate.server.stop()
        async with asyncio.timeout(60):
            for caller in crowd:
                await caller.over.wait()
        assert Counter(caller.status for caller in crowd) == {202: WAITERS}


async def hold_to_one_query(server: Server) -> None:
    """During some looks at what is waited for, there are about as many transactions as looks."""
    begun = now = await counted(server)
    async with asyncio.timeout(60):
        while now["looks"] < begun["looks"] + 5:
            await asyncio.sleep(0.5)
            now = await counted(server)
    looks = now["looks"] - begun["looks"]
    assert now["looked_at"] == WAITERS
    # Beside the looks: what is due (five queries each second at most), signs of life, the webhook.
    assert now["transactions"] - begun["transactions"] <= 20 * looks
