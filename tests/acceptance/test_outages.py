"""Times in which no update could be taken: open questions ask again, and a webhook that is wrong is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.acceptance.gateway import BOT_TOKEN, Gate, Server, opened, question, telegate

pytestmark = pytest.mark.asyncio

AGAIN = "Sorry, I was away for a while. If you have already tapped a button, please tap it again."
THIEF = "https://elsewhere.example/hook"
REPROMPTS = "SELECT * FROM telegate_jobs WHERE kind = 'reprompt'"
STOLEN = "The webhook points somewhere else. Run: telegate webhook set"

Opener = Callable[..., AbstractAsyncContextManager[Gate]]


@pytest.fixture
def open_gate(tmp_path: Path) -> Opener:
    """Opens a server that a test may stop."""

    @contextlib.asynccontextmanager
    async def open_one(*, started: bool = True, **settings: str) -> AsyncIterator[Gate]:
        async with opened(tmp_path, started=started, settings=settings) as gate:
            yield gate
            await gate.end_test()

    return open_one


def rows(server: Server, sql: str, *params: object) -> list[tuple[object, ...]]:
    """Read the server's database, or change it behind its back."""
    with contextlib.closing(sqlite3.connect(server.database, timeout=10)) as database, database:
        return database.execute(sql, params).fetchall()


def let_time_pass(server: Server, seconds: float) -> None:
    """While nobody lives: as if the last sign of life were so much older."""
    earlier = "UPDATE telegate_heartbeat SET served_at = served_at - ?1, leader_until = leader_until - ?1"
    rows(server, earlier, round(seconds * 1000))


def history(server: Server, task_id: str) -> list[object]:
    """What happened to a task, in the words of its history."""
    return [
        what
        for (what,) in rows(server, "SELECT what FROM telegate_history WHERE task = ? ORDER BY seq", task_id)
    ]


async def eventually(look: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    """Look until it is so; for what another process does in its own time."""
    async with asyncio.timeout(within):
        while not await look():  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.05)


async def until_rearmed(server: Server, task_id: str) -> None:
    async def is_rearmed() -> bool:
        return "rearmed" in history(server, task_id)

    await eventually(is_rearmed)


async def until_present(server: Server) -> None:
    """Wait until the process has given its first sign of life."""

    async def is_present() -> bool:
        return bool(rows(server, "SELECT 1 FROM telegate_heartbeat WHERE leader IS NOT NULL"))

    await eventually(is_present)


async def until_logged(gate: Gate, words: str) -> None:
    async def is_logged() -> bool:
        return words in gate.server.log

    await eventually(is_logged)


async def told(gate: Gate, words: str) -> None:
    async def is_told() -> bool:
        return bool((await gate.request("GET", "/readyz")).document["checks"]["webhook"] == words)

    await eventually(is_told)


async def set_webhook(gate: Gate, url: str) -> None:
    """What another program with the same token does."""
    api = f"{gate.sandbox.api_url}/bot{BOT_TOKEN}/setWebhook"
    async with gate.session.post(api, data={"url": url}) as response:
        assert (await response.json())["result"] is True


async def test_after_a_long_stop_open_questions_ask_for_another_press_and_the_caller_gets_it(
    open_gate: Opener,
) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        asking = service.asking(question(ada), key="k")
        asked = await gate.next_message(ada)
        decided = await service.asked(question(grace))
        await grace.taps(await gate.next_message(grace), "No")
        await service.until(decided["id"], "answered")
        await gate.until_waiting(1)
        await gate.server.terminate()
        task = (await asking).task(202)
        let_time_pass(gate.server, 121)
        await gate.server.start()
        again = service.asking(question(ada), key="k")
        await gate.until_waiting(1)
        await until_rearmed(gate.server, task["id"])
        assert asked.text == f"Deploy build 1234?\n\n{AGAIN}"
        assert asked.labels == ["Yes", "No"]
        assert not again.done()
        # The row is the memory: the next start finds nothing to do.
        await gate.server.terminate()
        assert (await again).task(202)["state"] == "asked"
        await gate.server.start()
        await until_present(gate.server)
        last = service.asking(question(ada), key="k")
        await gate.until_waiting(1)
        await ada.taps(asked, "Yes")
        assert (await last).task(200)["answer"]["choice"] == "yes"
        await gate.until_edited(asked, 2)
        assert (asked.buttons, AGAIN in asked.text) == ([], False)
        assert len(gate.sandbox.calls.of("editMessageText", ada.id)) == 2
        assert len(gate.sandbox.calls.of("editMessageText", grace.id)) == 1
        assert [what for what in history(gate.server, task["id"]) if what == "rearmed"] == ["rearmed"]
        assert "rearmed" not in history(gate.server, decided["id"])
        assert gate.server.log.count("Nobody could take updates from ") == 1


async def test_after_a_short_stop_nothing_is_asked_again(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.terminate()
        let_time_pass(gate.server, 60)
        await gate.server.start()
        await until_present(gate.server)
        assert rows(gate.server, REPROMPTS) == []
        assert "rearmed" not in history(gate.server, task["id"])
        await ada.taps(asked, "Yes")
        assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "yes"
        assert len(asked.history) <= 1


async def test_a_kill_in_the_middle_of_asking_again_leaves_no_question_out(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        tasks = [await service.asked(question(person)) for person in (ada, grace)]
        asked = [await gate.next_message(person) for person in (ada, grace)]
        await gate.server.kill()
        let_time_pass(gate.server, 500)
        fault = gate.sandbox.fault("hang", method="editMessageText")
        await gate.server.start()
        await gate.sandbox.wait_for(lambda: fault.hits)
        await gate.server.kill()
        gate.sandbox.faults.lift()
        # The dead process's hold on the question and on its duty is over, too.
        rows(gate.server, "UPDATE telegate_heartbeat SET leader_until = 0")
        rows(
            gate.server,
            "UPDATE telegate_jobs SET lease_until = 0 WHERE lease_holder IS NOT NULL",
        )
        await gate.server.start()
        for task, message in zip(tasks, asked, strict=True):
            await until_rearmed(gate.server, task["id"])
            assert AGAIN in message.text
            assert len(message.history) == 1


async def test_a_stolen_webhook_is_told_and_left_alone(open_gate: Opener) -> None:
    async with open_gate(started=False) as gate:
        await set_webhook(gate, THIEF)
        await gate.server.start()
        await told(gate, STOLEN)
        await until_logged(
            gate, f"Something is wrong with the webhook. {STOLEN} It points to elsewhere.example."
        )
        assert gate.sandbox.updates.webhook is not None
        assert gate.sandbox.updates.webhook.url == THIEF
        assert (await gate.request("GET", "/readyz")).status == 200
        await gate.set_webhook()
        await told(gate, "ok")
        assert gate.server.log.count("Something is wrong with the webhook.") == 1
        assert gate.server.log.count("The webhook is well again.") == 1


async def test_a_stolen_webhook_is_set_again_when_asked_to_and_answers_arrive(
    open_gate: Opener,
) -> None:
    async with open_gate(started=False, WEBHOOK_HEAL="1") as gate:
        await set_webhook(gate, THIEF)
        await gate.server.start()
        await told(gate, "ok")
        assert "The webhook was set again" in gate.server.log
        service, ada = gate.service(), gate.person()
        asking = service.asking(question(ada))
        await ada.taps(await gate.next_message(ada), "Yes")
        assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_what_telegram_says_about_failed_deliveries_is_told(open_gate: Opener) -> None:
    async with open_gate(started=False) as gate:
        await gate.set_webhook()
        await gate.person().says(None, "/start")
        await gate.sandbox.wait_for(lambda: gate.sandbox.updates.attempts)
        with gate.sandbox.fault("hold_updates", times=None):
            await gate.server.start()
            advice = "Check that the address is reached from outside."
            words = f"Telegram could lately not deliver: Connection refused. {advice}"
            await told(gate, words)
            await until_logged(gate, f"Something is wrong with the webhook. {words}")
        await told(gate, "ok")


def leave_to_be_rearmed(server: Server, task_id: str) -> None:
    """As if a process had found an outage, and another one that is now frozen were to edit the questions."""
    now = round(time.time() * 1000)
    rows(server, "UPDATE telegate_heartbeat SET leader = 'frozen', leader_until = ?", now + 1_800_000)
    payload = json.dumps({"began": "2026-11-22T10:00:00+00:00", "ended": "2026-11-22T10:05:00+00:00"})
    waiting = """
    INSERT INTO telegate_jobs (bot, kind, queue, subject, key, lane, width, overtakes, priority, service,
      run_at, lease_epoch, attempts, in_doubt, payload)
    SELECT bot, 'reprompt', 'telegram', id, 'reprompt:' || id, chat, 1, 1, 2, service, ?1, 0, 0, 0, ?2
    FROM telegate_tasks WHERE id = ?3
    """
    rows(server, waiting, now - 1_000, payload, task_id)


async def test_open_questions_ask_for_another_press_although_the_leader_is_frozen(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.terminate()
        leave_to_be_rearmed(gate.server, task["id"])
        await gate.server.start()
        await until_rearmed(gate.server, task["id"])
        assert asked.text == f"Deploy build 1234?\n\n{AGAIN}"
        assert (await service.call("POST", "/v1/sweep")).document == {"done": 0}


async def test_a_sweep_makes_open_questions_ask_for_another_press(open_gate: Opener) -> None:
    async with open_gate() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.terminate()
        leave_to_be_rearmed(gate.server, task["id"])
        done = await telegate(gate, "sweep", "--json")
        assert json.loads(done.stdout) == {"done": 1, "served": False}
        assert asked.text == f"Deploy build 1234?\n\n{AGAIN}"
        assert history(gate.server, task["id"])[-1] == "rearmed"
        assert rows(gate.server, REPROMPTS) == []
