"""The whole server on PostgreSQL: the main job, and a database that is down, old, or too new."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest
import pytest_asyncio

from infra.sandbox import ScriptedPerson
from infra.store.migrations import NEWEST
from tests import postgres
from tests.acceptance.gateway import Gate, environment, message, opened, question
from tests.acceptance.updates import person_of, press_update, private_chat

pytestmark = pytest.mark.asyncio(loop_scope="module")


def migrated(name: str) -> str:
    """The URL of a database after `telegate migrate`."""
    url = postgres.server().tcp_url(name)
    assert f"The database {name} on 127.0.0.1" in telegate("migrate", DATABASE_URL=url)
    return url


def telegate(*arguments: str, **settings: str) -> str:
    """What a command prints that ends well, and that never shows the database's password."""
    command = (sys.executable, "-m", "infra", *arguments)
    done = subprocess.run(
        command, env=environment(settings), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert postgres.PASSWORD not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def running() -> Iterator[None]:
    """Whatever a test does to PostgreSQL, it runs again afterwards."""
    postgres.server()
    yield
    postgres.server()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """One server with two processes."""
    settings = {"DATABASE_URL": migrated(postgres.server().fresh_name()), "WEB_CONCURRENCY": "2"}
    async with opened(tmp_path_factory.mktemp("server"), settings=settings) as gate:
        yield gate
        assert postgres.PASSWORD not in gate.server.log


async def test_two_processes_run_and_whichever_is_asked_has_the_answer(gate: Gate) -> None:
    assert len(gate.server.workers) == 2
    capabilities = (await gate.service().get("/v1/capabilities")).document
    assert (capabilities["durability"], capabilities["processes"]) == ("durable", None)
    service, people = gate.service(), [gate.person() for _ in range(6)]
    asking = [service.asking(question(person), key=str(person.id)) for person in people]
    for person in people:
        await person.taps(await gate.next_message(person), "Yes")
    answered = [(await each).task(200) for each in asking]
    assert [task["answer"]["by"]["id"] for task in answered] == [person.id for person in people]
    assert [(await service.task(task["id"]))["state"] for task in answered] == ["answered"] * 6


async def test_fifty_parallel_tries_with_one_key_ask_once(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    asking = [service.asking(question(ada), key="one") for _ in range(50)]
    await ada.taps(await gate.next_message(ada), "No")
    tasks = [(await each).task(200) for each in asking]
    assert len({task["id"] for task in tasks}) == 1
    assert {task["answer"]["choice"] for task in tasks} == {"no"}
    assert gate.sends(ada) == 1


async def test_an_update_that_comes_twice_at_once_counts_once(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    update = press_update(person_of(ada), private_chat(ada), asked.id, asked.buttons[0].data)
    posted = await asyncio.gather(*(gate.webhook(update) for _ in range(20)))
    assert [response.status for response in posted] == [200] * 20
    assert (await service.task(task["id"], prefer="wait=20"))["answer"]["choice"] == "yes"


async def test_messages_arrive_in_the_order_they_were_accepted_in(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    for number in range(5):
        (await service.send(message(ada, f"Number {number}."), prefer="respond-async")).task(202)
    assert [(await gate.next_message(ada)).text for _ in range(5)] == [f"Number {n}." for n in range(5)]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 4096])
async def test_text_that_no_database_likes_is_never_an_error_of_ours(gate: Gate, text: str) -> None:
    body = question(gate.person(), metadata={"note": text[:100]}) | {"text": text}
    assert (await gate.service().ask(body, prefer="respond-async")).status in {202, 400, 422}
    for path in ("/v1/tasks/tsk_%00", "/v1/tasks?after=%00", "/v1/tasks?chat=%00"):
        assert (await gate.service().get(path)).status in {200, 400, 404, 422}


async def test_a_restart_of_the_database_loses_nobody(tmp_path: Path) -> None:
    url = migrated(postgres.server().fresh_name())
    async with opened(tmp_path, settings={"DATABASE_URL": url}) as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        waiting = service.asking(question(ada), key="k")
        asked = await gate.next_message(ada)
        await gate.until_waiting(1)
        postgres.server().stop()
        clock = asyncio.get_running_loop().time
        began = clock()
        refused = await service.ask(question(grace), key="g")
        refused.problem("storage_unavailable")
        assert refused.headers["Retry-After"] == "3"
        assert clock() - began < 2
        assert (await gate.request("GET", "/healthz")).status == 200
        not_ready = await gate.server.until_answered("/readyz", 503)
        assert "The database cannot be reached." in not_ready.document["checks"]["database"]
        press = await ada.taps(asked, "Yes")
        postgres.server().start()
        assert (await waiting).task(200)["answer"]["choice"] == "yes"
        await press.answered()
        again = service.asking(question(grace), key="g")
        await grace.taps(await gate.next_message(grace), "No")
        assert (await again).task(200)["answer"]["choice"] == "no"
        assert [gate.sends(ada), gate.sends(grace)] == [1, 1]
        await gate.end_test()


async def test_a_database_that_is_down_at_the_start_is_used_as_soon_as_it_is_there(tmp_path: Path) -> None:
    url = migrated(postgres.server().fresh_name())
    postgres.server().stop()
    async with opened(tmp_path, started=False, settings={"DATABASE_URL": url}) as gate:
        await gate.set_webhook()
        await gate.server.spawn()
        await gate.server.until_answered("/healthz", 200)
        await gate.server.until_answered("/readyz", 503)
        service, ada = gate.service(), gate.person()
        (await service.ask(question(ada))).problem("storage_unavailable")
        postgres.server().start()
        await gate.server.until_answered("/readyz", 200)
        asking = service.asking(question(ada))
        await ada.taps(await gate.next_message(ada), "Yes")
        assert (await asking).task(200)["answer"]["choice"] == "yes"
        await gate.end_test()
        assert postgres.PASSWORD not in gate.server.log


async def test_a_database_that_is_not_migrated_is_told_of_and_used_once_it_is(tmp_path: Path) -> None:
    name = postgres.server().fresh_name()
    url = postgres.server().tcp_url(name)
    (tmp_path / "url").write_text(url + "\n")
    files = {"DATABASE_URL": "", "DATABASE_URL_FILE": str(tmp_path / "url")}
    async with opened(tmp_path, started=False, settings=files) as gate:
        await gate.set_webhook()
        await gate.server.spawn()
        not_ready = await gate.server.until_answered("/readyz", 503)
        assert "not migrated. Run telegate migrate" in not_ready.document["checks"]["database"]
        service, ada = gate.service(), gate.person()
        told = (await service.send(message(ada))).problem("storage_unavailable")
        assert "Run telegate migrate" in told["detail"]
        dry = telegate("migrate", "--dry-run", DATABASE_URL=url)
        assert f"has schema 0; this version works with schema {NEWEST}." in dry
        migrated(name)
        assert "was up to date already" in telegate("migrate", DATABASE_URL_FILE=files["DATABASE_URL_FILE"])
        await gate.server.until_answered("/readyz", 200)
        assert (await service.send(message(ada))).task(200)["state"] == "sent"
        await gate.end_test()


async def test_a_database_that_is_too_new_is_refused_in_words(tmp_path: Path) -> None:
    name = postgres.server().fresh_name()
    url = migrated(name)
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO schema_version VALUES ($1, 0, $1)", NEWEST + 1)
    await connection.close()
    async with opened(tmp_path, started=False, settings={"DATABASE_URL": url}) as gate:
        process = await gate.server.spawn()
        async with asyncio.timeout(30):
            assert await process.wait() == 3
        assert "Telegate cannot start." in gate.server.log
        assert f"has schema {NEWEST + 1}, but this version of Telegate knows" in gate.server.log


@pytest_asyncio.fixture(loop_scope="module")
async def routed(gate: Gate) -> AsyncIterator[Gate]:
    """The same, called as a router does: each request by a connection of its own.

    One that rests may be closed just as a request is written to it, and only the client can repeat that.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield replace(gate, session=session)


async def test_a_rolling_restart_under_load_answers_everything_and_loses_nothing(
    gate: Gate, routed: Gate
) -> None:
    service = routed.service()
    over = asyncio.Event()
    told: list[tuple[int, str]] = []
    people: list[ScriptedPerson] = []

    def somebody() -> ScriptedPerson:
        people.append(gate.person())
        return people[-1]

    async def more_is_told() -> None:
        goal = len(told) + 10
        await gate.sandbox.wait_for(lambda: len(told) >= goal)

    async def keep_sending() -> None:
        while not over.is_set():
            person = somebody()
            response = await service.send(message(person))
            told.append((response.status, response.document["id"]))

    async def keep_asking() -> None:
        while not over.is_set():
            person = somebody()
            asking = gate.begin(service.ask(question(person)))
            await person.taps(await gate.next_message(person), "Yes")
            response = await asking
            told.append((response.status, response.document["id"]))

    loads = [asyncio.create_task(load()) for load in (keep_sending, keep_sending, keep_asking, keep_asking)]
    try:
        for _ in range(3):
            await gate.server.reload()
            await more_is_told()
    finally:
        over.set()
    await asyncio.gather(*loads)
    assert {status for status, _ in told} <= {200, 202}
    for task_id in [task_id for _, task_id in told]:
        task = await service.until_final(task_id, within=20)
        assert task["state"] in {"sent", "answered"}, task
    # The server is shared with other tests, so only these people are looked at.
    assert [gate.sends(person) for person in people] == [1] * len(people)
