"""Time: what is due is done when it is due, when somebody asks, after a sleep, and by the next process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, message, opened, question, telegate
from tests.ports import reserved_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

Opener = Callable[..., AbstractAsyncContextManager[Gate]]

HOUR = 3_600_000
TEN_MINUTES = 600_000


@pytest_asyncio.fixture(loop_scope="module")
async def open_gate(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Opens a server that a test may stop and kill."""

    @contextlib.asynccontextmanager
    async def open_one(**settings: str) -> AsyncIterator[Gate]:
        async with opened(tmp_path_factory.mktemp("own"), settings=settings) as gate:
            yield gate
            await gate.end_test()

    return open_one


LATER_LEASE = "UPDATE telegate_jobs SET lease_until = lease_until + ?1 WHERE kind = 'send' AND subject = ?2"


def change(database: Path, sql: str, *values: object) -> None:
    """Change one row behind the server's back, as if time had passed or a clock had been wrong."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


def hurry(gate: Gate, task: Json) -> None:
    """Let the task have expired an hour ago."""
    sql = "UPDATE telegate_tasks SET created_at = created_at - ?1, expires_at = expires_at - ?1 WHERE id = ?2"
    change(gate.server.database, sql, 2 * HOUR, task["id"])
    due = "UPDATE telegate_jobs SET run_at = run_at - ?1 WHERE subject = ?2 AND kind = 'expire'"
    change(gate.server.database, due, 2 * HOUR, task["id"])


# POST /v1/sweep


async def test_a_sweep_answers_when_what_was_due_is_done(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    task = await service.asked(question(ada, on_expiry={"choice": "no"}))
    asked = await gate.next_message(ada)
    hurry(gate, task)
    # The server's own timer may come first; whoever does it, it is done when the answer is there.
    response = await service.call("POST", "/v1/sweep")
    assert response.status == 200, response.told()
    assert response.document in ({"done": 1}, {"done": 0})
    expired = await service.task(task["id"])
    assert (expired["state"], expired["answer"]["choice"]) == ("expired", "no")
    await gate.until_edited(asked)
    assert asked.buttons == []


async def test_sweeps_at_once_do_nothing_twice(gate: Gate) -> None:
    service, people = gate.service(), [gate.person() for _ in range(5)]
    tasks = [await service.asked(question(person)) for person in people]
    shown = [await gate.next_message(person) for person in people]
    for task in tasks:
        hurry(gate, task)
    responses = await asyncio.gather(*(service.call("POST", "/v1/sweep") for _ in range(10)))
    assert {response.status for response in responses} == {200}
    assert sum(response.document["done"] for response in responses) <= 5
    for task, each in zip(tasks, shown, strict=True):
        assert (await service.task(task["id"]))["state"] == "expired"
        await gate.until_edited(each)
        assert len(each.history) == 1, "The outcome was written twice."


async def test_a_sweep_with_nothing_due_says_so_and_looks_at_no_body(gate: Gate) -> None:
    service = gate.service()
    # The first may find what an earlier test has left behind.
    await service.call("POST", "/v1/sweep")
    assert (await service.call("POST", "/v1/sweep", raw=b"not JSON")).document == {"done": 0}


async def test_a_sweep_needs_a_role_that_names_it(gate: Gate) -> None:
    (await gate.request("POST", "/v1/sweep")).problem("unauthenticated")
    (await gate.service("approver").call("POST", "/v1/sweep")).problem("forbidden")
    me = (await gate.service().get("/v1/me")).document
    assert "POST /v1/sweep" in me["endpoints"]


async def test_a_sweep_without_its_database_is_put_off(gate: Gate) -> None:
    service = gate.service()
    lock = sqlite3.connect(gate.server.database, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        problem = await service.call("POST", "/v1/sweep")
        problem.problem("storage_unavailable")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert (await service.call("POST", "/v1/sweep")).status == 200


async def test_a_sweep_does_not_hold_up_a_stop(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        gate.sandbox.fault("hang", method="sendMessage", chat=ada.id)
        await service.send(message(ada), prefer="respond-async")
        await gate.sandbox.wait_for(lambda: gate.sends(ada))
        sweeping = gate.begin(service.call("POST", "/v1/sweep"))
        await gate.request("GET", "/healthz")
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await gate.server.terminate() == 0
        # Neither Telegram's twenty seconds nor the platform's ten.
        assert clock() - began < 9
        with contextlib.suppress(AssertionError):
            assert (await sweeping).status == 200
        gate.sandbox.faults.lift()


# telegate sweep


async def test_the_command_works_off_what_is_due_where_no_server_runs(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        async with gate.sandbox.down():
            queued = (await service.send(message(grace), prefer="respond-async")).task(202)
            await service.until(queued["id"], "queued")
            assert await gate.server.terminate() == 0
        hurry(gate, task)
        change(gate.server.database, "UPDATE telegate_jobs SET run_at = 0 WHERE subject = ?", queued["id"])
        done = await telegate(gate, "sweep")
        assert (done.returncode, done.stdout) == (0, "2 due things were worked on.\n"), done.stderr
        assert done.stderr == ""
        # Not begun, but done: the process is gone.
        assert gate.sends(grace) == 1
        assert asked.buttons == []
        again = await telegate(gate, "sweep", "--json")
        assert json.loads(again.stdout) == {"done": 0, "served": False}
        await gate.server.start()
        assert (await service.task(task["id"]))["state"] == "expired"
        assert (await service.task(queued["id"]))["state"] == "sent"


async def test_beside_a_server_the_command_says_that_there_is_nothing_to_do(gate: Gate) -> None:
    done, as_json = await asyncio.gather(telegate(gate, "sweep"), telegate(gate, "sweep", "--json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A server works on this database, and works off by itself what is due")
    assert "POST /v1/sweep" in done.stdout
    assert json.loads(as_json.stdout) == {"done": 0, "served": True}


async def test_the_command_lets_go_of_a_telegram_that_hangs(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        gate.sandbox.fault("hang", method="editMessageText", chat=ada.id)
        task = await service.asked(question(ada))
        assert await gate.server.terminate() == 0
        clock = asyncio.get_running_loop().time
        began = clock()
        await telegate(gate, "sweep", SHUTDOWN_GRACE="3")
        with_nothing_due = clock() - began
        hurry(gate, task)
        began = clock()
        done = await telegate(gate, "sweep", SHUTDOWN_GRACE="3")
        # It lets go of what hangs, so that a server that starts meanwhile gets the file.
        assert clock() - began < with_nothing_due + 12
        assert (done.returncode, done.stdout) == (0, "1 due thing was worked on.\n"), done.stderr
        gate.sandbox.faults.lift()
        await gate.server.start()
        assert (await service.task(task["id"]))["state"] == "expired"


async def test_a_database_that_does_not_answer_makes_the_command_exit_1(gate: Gate) -> None:
    nowhere = f"postgres://telegate@127.0.0.1:{reserved_port()}/telegate"
    done = await telegate(gate, "sweep", DATABASE_URL=nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: The database" in done.stderr
    assert "Traceback" not in done.stderr


async def test_settings_that_are_wrong_make_the_command_exit_2(gate: Gate) -> None:
    done = await telegate(gate, "sweep", BOT_TOKEN="nonsense")
    assert done.returncode == 2
    assert "BOT_TOKEN" in done.stderr


# Sleep, and clocks that were wrong


async def test_after_a_sleep_what_came_due_meanwhile_is_done_at_once(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada, expires_in=5))
        asked = await gate.next_message(ada)
        [worker] = gate.server.workers
        os.kill(worker, signal.SIGSTOP)
        try:
            # It is not a wait for something to happen: that nothing happens for so long is the test.
            await asyncio.sleep(6)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert (await service.until(task["id"], "expired", within=10))["answer"] is None
        await gate.until_edited(asked)
        assert "The event loop stands still" not in gate.server.log, "A process that slept is not stuck."


async def test_a_lease_from_a_clock_that_was_ten_minutes_ahead_holds_up_nothing(
    open_gate: Opener,
) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        gate.sandbox.fault("hang", method="sendMessage", chat=ada.id)
        gate.sandbox.fault("hang", method="sendMessage", chat=grace.id)
        sent = (await service.send(message(ada), prefer="respond-async")).task(202)
        asked = (await service.ask(question(grace), prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(ada) and gate.sends(grace))
        await gate.server.kill()
        gate.sandbox.faults.lift()
        for task in (sent, asked):
            change(
                gate.server.database,
                LATER_LEASE,
                TEN_MINUTES,
                task["id"],
            )
        await gate.server.start()
        unknown = await service.until_final(sent["id"], within=20)
        assert (unknown["state"], unknown["error"]["code"]) == ("unknown", "outcome_unknown")
        await service.until(asked["id"], "asked", within=20)


async def test_readiness_tells_that_the_clocks_agree(gate: Gate) -> None:
    assert (await gate.request("GET", "/readyz")).document["checks"]["clock"] == "ok"
