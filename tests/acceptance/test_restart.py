"""Restarts of every kind: killed, stopped, swapped, started into an outage; no answer is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests.acceptance.gateway import Gate, NoResponse, Server, message, opened, question
from tests.ports import reserved_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

Opener = Callable[..., AbstractAsyncContextManager[Gate]]


@pytest_asyncio.fixture(loop_scope="module")
async def open_gate(tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Opens a server that a test may kill."""

    @contextlib.asynccontextmanager
    async def open_one(*, started: bool = True, **settings: str) -> AsyncIterator[Gate]:
        async with opened(tmp_path_factory.mktemp("own"), started=started, settings=settings) as gate:
            yield gate
            await gate.end_test()

    return open_one


async def test_a_question_survives_kill_minus_nine_and_is_not_asked_again(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        asking = service.asking(question(ada), key="k")
        asked = await gate.next_message(ada)
        written = await service.asked(question(grace, options=[], input={"type": "text"}))
        asked_in_words = await gate.next_message(grace)
        await gate.until_waiting(1)
        await gate.server.kill()
        with pytest.raises(NoResponse):
            await asking
        await ada.taps(asked, "Yes")
        await grace.says(None, "while nobody listened", reply_to=asked_in_words)
        await gate.server.start()
        answered = (await service.ask(question(ada), key="k")).task(200)
        assert answered["answer"]["choice"] == "yes"
        by_words = await service.task(written["id"], prefer="wait=20")
        assert by_words["answer"]["text"] == "while nobody listened"
        assert [gate.sends(ada), gate.sends(grace)] == [1, 1]
        await gate.until_edited(asked)
        assert asked.buttons == []


@pytest.mark.slow
async def test_an_answer_given_before_the_kill_is_there_after_it(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        gate.sandbox.fault("hang", method="editMessageText", chat=ada.id)
        press = await ada.taps(asked, "Yes")
        await press.answered()
        await gate.server.kill()
        gate.sandbox.faults.lift()
        await gate.server.start()
        assert (await service.task(task["id"]))["answer"]["choice"] == "yes"
        await gate.sandbox.wait_for(lambda: not asked.buttons, within=30)


async def test_kills_in_a_row_lose_nothing(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, people = gate.service(), [gate.person() for _ in range(3)]
        tasks = [await service.asked(question(person), key=str(person.id)) for person in people]
        for person, task in zip(people, tasks, strict=True):
            asked = await gate.next_message(person)
            await gate.server.kill()
            await person.taps(asked, "No")
            await gate.server.start()
            assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "no"
        assert [gate.sends(person) for person in people] == [1] * 3


async def test_an_expiry_that_came_while_the_server_was_dead_is_made_up_for(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada, expires_in=5, on_expiry={"choice": "no"}))
        asked = await gate.next_message(ada)
        await gate.server.kill()
        hour = 3_600_000
        times = "created_at = created_at - ?1, expires_at = expires_at - ?1"
        earlier = f"UPDATE telegate_tasks SET {times} WHERE id = ?2"  # noqa: S608 -- constants only
        with contextlib.closing(sqlite3.connect(gate.server.database)) as database, database:
            assert database.execute(earlier, (hour, task["id"])).rowcount == 1
            due = "UPDATE telegate_jobs SET run_at = run_at - ?1 WHERE subject = ?2 AND kind = 'expire'"
            assert database.execute(due, (hour, task["id"])).rowcount == 1
        await gate.server.start()
        expired = await service.task(task["id"], prefer="wait=20")
        assert (expired["state"], expired["answer"]["choice"]) == ("expired", "no")
        await gate.until_edited(asked)
        assert asked.buttons == []


async def test_sigterm_gives_every_waiting_request_its_location_and_the_next_process_goes_on(
    open_gate: Opener,
) -> None:
    async with open_gate(SHUTDOWN_GRACE="60") as gate:
        service, people = gate.service(), [gate.person() for _ in range(20)]
        waiting = [service.asking(question(person), key=str(person.id)) for person in people]
        asked = [await gate.next_message(person) for person in people]
        await gate.until_waiting(20)
        await service.until_listed("state=asked", lambda tasks: len(tasks) == 20)
        clock = asyncio.get_running_loop().time
        began = clock()
        # Not the platform's patience (60 s) and not the wait (25 s) ends them, but the shutdown itself.
        assert await gate.server.terminate() == 0
        assert clock() - began < 10
        responses = [await each for each in waiting]
        tasks = [response.task(202) for response in responses]
        assert {task["state"] for task in tasks} == {"asked"}
        assert [each.headers["Location"] for each in responses] == [f"/v1/tasks/{t['id']}" for t in tasks]
        await people[0].taps(asked[0], "Yes")
        await gate.server.start()
        assert (await service.ask(question(people[0]), key=str(people[0].id))).task(200)["answer"]
        again = gate.begin(service.get(responses[1].headers["Location"], prefer="wait=20"))
        await gate.until_waiting(1)
        await people[1].taps(asked[1], "No")
        assert (await again).task(200)["answer"]["choice"] == "no"
        assert [gate.sends(person) for person in people] == [1] * 20


async def test_a_send_in_flight_ends_before_the_process_does(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        answer = gate.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=60)
        sending = service.sending(message(ada), key="k")
        await gate.next_message(ada)
        ending = asyncio.create_task(gate.server.terminate())
        # The request is let go of when the server begins to stop; only then Telegram's answer comes.
        assert (await sending).task(202)["state"] == "sending"
        assert not ending.done()
        answer.lift()
        assert await ending == 0
        await gate.server.start()
        assert (await service.send(message(ada), key="k")).task(200)["state"] == "sent"
        assert gate.sends(ada) == 1


async def test_sigterm_to_an_idle_server_is_quick_and_clean(open_gate: Opener) -> None:
    async with open_gate(SHUTDOWN_GRACE="60") as gate:
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await gate.server.terminate() == 0
        assert clock() - began < 10, "The server waited for its grace time, not for its requests."


async def test_sigint_ends_it_as_sigterm_does(open_gate: Opener) -> None:
    async with open_gate() as gate:
        assert gate.server.process is not None
        gate.server.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(15):
            assert await gate.server.process.wait() == 0


async def test_a_refused_upload_and_a_stop_right_after_it_leave_nothing_behind(open_gate: Opener) -> None:
    async with open_gate() as gate:
        upload = b"x" * (4 << 20)
        with contextlib.suppress(NoResponse):
            (await gate.request("POST", "/v1/messages", data=upload)).problem("unauthenticated")
        with contextlib.suppress(NoResponse):
            (await gate.service().call("POST", "/v1/messages", raw=upload)).problem("too_large")
        assert await gate.server.terminate() == 0


async def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        gate.server.kill_workers()
        await ada.taps(asked, "Yes")
        await gate.server.until_answered("/readyz", 200)
        assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "yes"


async def test_a_start_while_telegram_is_down_works_and_recovers(open_gate: Opener) -> None:
    async with open_gate(started=False) as gate:
        await gate.set_webhook()
        service, ada = gate.service(), gate.person()
        async with gate.sandbox.down():
            await gate.server.start()
            assert (await gate.request("GET", "/healthz")).status == 200
            task = (await service.ask(question(ada), prefer="respond-async")).task(202)
            await service.until(task["id"], "queued")
            await ada.says(None, "/whoami")
        await service.until(task["id"], "asked")
        asked = await gate.sandbox.wait_for(
            lambda: next((each for each in gate.sandbox.chat(ada.id).messages if each.buttons), None)
        )
        await ada.taps(asked, "Yes")
        assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "yes"
        await gate.sandbox.wait_for(
            lambda: any(str(ada.id) in each.text for each in gate.sandbox.chat(ada.id).messages), within=20
        )


async def test_a_command_for_our_name_is_not_lost_while_we_do_not_know_our_name(open_gate: Opener) -> None:
    async with open_gate(started=False) as gate:
        await gate.set_webhook()
        ada = gate.person()
        group = gate.group(ada)
        fault = gate.sandbox.fault("error", method="getMe", status=500, times=None)
        await gate.server.start()
        await gate.sandbox.wait_for(lambda: fault.hits)
        await ada.says(group, "/whoami@telegate_sandbox_bot")
        await gate.sandbox.wait_for(lambda: bool(gate.sandbox.updates.attempts))
        fault.lift()
        # Telegram repeats an update that was not taken; or it was taken, and is answered later.
        await gate.sandbox.wait_for(
            lambda: any(str(ada.id) in each.text for each in gate.sandbox.chat(group.id).messages), within=20
        )


def second_server(gate: Gate, **settings: str) -> Server:
    """Another server on the same database."""
    folder = gate.server.folder / "second"
    folder.mkdir()
    given = {**gate.server.settings, "PORT": str(reserved_port()), **settings}
    return Server(folder, given)


async def test_a_second_server_on_the_same_database_refuses_to_start_in_words(open_gate: Opener) -> None:
    async with open_gate() as gate:
        second = second_server(gate, SHUTDOWN_GRACE="1")
        process = await second.spawn()
        async with asyncio.timeout(30):
            assert await process.wait() == 3
        assert "another" in second.log.lower() or "second" in second.log.lower()
        second.check_log()
        assert "Traceback" not in second.log
        assert (await gate.request("GET", "/readyz")).status == 200


async def test_the_server_of_a_swap_answers_while_it_waits_for_the_one_before_it(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        asked = await service.asked(question(ada), key="k")
        second = second_server(gate, SHUTDOWN_GRACE="60")
        await second.spawn()
        try:
            assert (await second.until_answered("/healthz", 200)).status == 200
            waiting = Gate(second, gate.sandbox, gate.session)
            await second.until_answered("/readyz", 503)
            refused = await waiting.service(name=service.name).ask(question(ada), key="k")
            refused.problem("storage_unavailable")
            assert (await gate.request("GET", "/readyz")).status == 200
            assert await gate.server.terminate() == 0
            await second.until_answered("/readyz", 200)
            task = (
                await waiting.service(name=service.name).ask(question(ada), key="k", prefer="wait=1")
            ).task(202)
            assert task["id"] == asked["id"]
            assert gate.sends(ada) == 1
        finally:
            await second.stop()
        second.check_log()


@pytest.mark.slow
async def test_a_message_that_was_being_sent_at_the_kill_becomes_unknown_and_is_not_sent_again(
    open_gate: Opener,
) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        gate.sandbox.fault("hang", method="sendMessage", chat=ada.id, effect=True)
        gate.sandbox.fault("hang", method="sendMessage", chat=grace.id)
        sent = (await service.send(message(ada), prefer="respond-async")).task(202)
        asked = (await service.ask(question(grace), prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(ada) and gate.sends(grace))
        await gate.server.kill()
        gate.sandbox.faults.lift()
        await gate.server.start()
        # The dead process's lease runs for 30 s; ten more are allowed.
        unknown = await service.until_final(sent["id"], within=45)
        assert (unknown["state"], unknown["error"]["code"]) == ("unknown", "outcome_unknown")
        assert gate.sends(ada) == 1
        await service.until(asked["id"], "asked", within=45)
        assert gate.sends(grace) == 2


async def test_a_stop_during_an_outage_of_telegram_loses_no_message_that_was_never_sent(
    open_gate: Opener,
) -> None:
    async with open_gate(LOG_LEVEL="warning") as gate:
        service, people = gate.service(), [gate.person() for _ in range(400)]
        async with gate.sandbox.down():
            await asyncio.gather(
                *(service.send(message(person), prefer="respond-async") for person in people)
            )
            # All of them come due again after one second, and at each start; the stops fall into the midst.
            (await service.send(message(people[0]), prefer="wait=1")).task(202)
            for _ in range(3):
                assert await gate.server.terminate() == 0
                await gate.server.start()

        async def are_left(state: str) -> list[str]:
            listed = (await service.get(f"/v1/tasks?state={state}&limit=200")).document["items"]
            return [task["id"] for task in listed]

        async with asyncio.timeout(60):
            while left := [*await are_left("sending"), *await are_left("queued")]:
                await service.task(left[0], prefer="wait=5")
        # Nothing was ever written to Telegram, so nothing can be unclear.
        assert await are_left("unknown") == []
        assert sum(gate.sends(person) for person in people) == 401
