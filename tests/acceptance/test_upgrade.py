"""Updates from the version before: whatever it left in the database is taken over and ends as promised.

The version before is taken out of this repository's own history and runs as a real server.
"""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import io
import shutil
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from infra.store.migrations import NEWEST
from tests import postgres
from tests.acceptance.contract import Json, time_of
from tests.acceptance.gateway import (
    CURRENT,
    ROOT,
    Gate,
    NoResponse,
    Server,
    Version,
    message,
    opened,
    question,
    telegate,
)
from tests.acceptance.policies import SERVICES
from tests.acceptance.updates import person_of, private_chat, text_update
from tests.ports import reserved_port

pytestmark = pytest.mark.asyncio

BEFORE = "6fff85e186dfbff6ddd8e5b4ad168ac35791b97c"
"""The last commit whose database has no jobs (schema 5)."""

LONG = "word " * 1500
"""A text of two messages."""

AGAIN = "Sorry, I was away for a while. If you have already tapped a button, please tap it again."

OUTAGE = "UPDATE presence SET served_at = served_at - 500000, duty_until = duty_until - 500000"
"""While nobody lives: as if nobody had lived for eight minutes."""

POLICY = f"""
version: 1
service_roles:
  everything:
    endpoints: [POST /v1/messages, "PATCH /v1/messages/{{id}}", POST /v1/questions, GET /v1/tasks,
                "GET /v1/tasks/{{id}}", "DELETE /v1/tasks/{{id}}"]
    chats: ["*"]
services:
{"".join(f"  {name}: {{roles: [everything]}}{chr(10)}" for name in SERVICES)}
"""
"""Both versions can read it: the one before refuses a policy that names an endpoint it has not heard of."""

Opener = Callable[..., AbstractAsyncContextManager[Gate]]


@pytest.fixture(scope="session")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The code before the change, out of the history."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("The version before is in the history. Install git, and run the tests in a full clone.")
    paths = ("core", "handlers", "infra", "permissions.yaml")
    archive = subprocess.run((git, "archive", BEFORE, *paths), cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(
            f"The history does not reach back to the version before, commit {BEFORE}. Run the tests in a "
            f"full clone; `git fetch --unshallow` makes one. git said: {archive.stderr.decode().strip()}"
        )
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    # The servers write no bytecode, and would compile everything at every start.
    compileall.compile_dir(folder, quiet=1)
    return Version(folder, "python:infra.gunicorn")


@pytest.fixture
def open_before(version_before: Version, tmp_path: Path) -> Opener:
    """Opens a server of the version before."""

    @contextlib.asynccontextmanager
    async def open_one(*, started: bool = True, **settings: str) -> AsyncIterator[Gate]:
        given = {"PERSON_ROLES": "", **settings}
        async with opened(
            tmp_path, policy=POLICY, started=started, settings=given, version=version_before
        ) as gate:
            yield gate
            await gate.end_test()

    return open_one


def rows(server: Server, sql: str, *params: object) -> list[tuple[object, ...]]:
    """Read the server's database, or change it behind its back."""
    with contextlib.closing(sqlite3.connect(server.database, timeout=10)) as database, database:
        return database.execute(sql, params).fetchall()


async def update(gate: Gate) -> None:
    """Start the current version on what the version before has left, now that Telegram does well."""
    assert rows(gate.server, "SELECT MAX(version) FROM schema_version") == [(5,)]
    gate.sandbox.faults.lift()
    gate.server.version = CURRENT
    await gate.server.start()


async def test_open_questions_are_answered_by_taps_and_words_that_refer_to_the_messages_from_before(
    open_before: Opener,
) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        asking = service.asking(question(ada), key="k")
        asked = await service.question_in(ada)
        [before] = (await service.get("/v1/tasks")).document["items"]
        in_words = await service.asked(question(grace, options=[], input={"type": "text"}))
        asked_in_words = await gate.next_message(grace)
        await gate.server.kill()
        with pytest.raises(NoResponse):
            await asking
        await grace.says(None, "while nobody listened", reply_to=asked_in_words)
        await update(gate)
        assert await service.task(before["id"]) == before
        attached = service.asking(question(ada), key="k")
        await gate.until_waiting(1)
        await ada.taps(asked, "Yes")
        answered = (await attached).task(200)
        assert (answered["id"], answered["answer"]["choice"]) == (before["id"], "yes")
        await gate.until_edited(asked)
        assert asked.buttons == []
        answered_in_words = await service.task(in_words["id"], prefer="wait=20")
        assert answered_in_words["answer"]["text"] == "while nobody listened"
        assert [gate.sends(ada), gate.sends(grace)] == [1, 1]


async def test_open_questions_expire_during_the_update_and_after_it(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        deadline = {"expires_in": 3600, "on_expiry": {"choice": "no"}}
        tasks = [await service.asked(question(person, **deadline)) for person in (ada, grace)]
        asked = [await gate.next_message(person) for person in (ada, grace)]
        await gate.server.kill()
        earlier = "UPDATE tasks SET created_at = created_at - ?1, expires_at = expires_at - ?1 WHERE id = ?2"
        soon = time_left(tasks[1])
        for task, milliseconds in zip(tasks, (7_200_000, soon - 5_000), strict=True):
            rows(gate.server, earlier, milliseconds, task["id"])
        await update(gate)
        for task, shown in zip(tasks, asked, strict=True):
            expired = await service.until_final(task["id"], within=20)
            assert (expired["state"], expired["answer"]["choice"]) == ("expired", "no")
            await gate.until_edited(shown)
            assert shown.buttons == []


def time_left(task: Json) -> int:
    """Milliseconds until the task expires."""
    return round((time_of(task["expires_at"]).timestamp() - time.time()) * 1000)


async def test_a_decision_that_the_chat_does_not_show_yet_is_shown_there(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        tasks = [await service.asked(question(person)) for person in (ada, grace)]
        asked = [await gate.next_message(person) for person in (ada, grace)]
        hanging = gate.sandbox.fault("hang", method="editMessageText", times=None)
        await (await ada.taps(asked[0], "Yes")).answered()
        (await service.call("DELETE", f"/v1/tasks/{tasks[1]['id']}")).task(200)
        decided = [await service.task(task["id"]) for task in tasks]
        assert [task["state"] for task in decided] == ["answered", "cancelled"]
        await gate.sandbox.wait_for(lambda: hanging.hits == 2)
        await gate.server.kill()
        assert [shown.labels for shown in asked] == [["Yes", "No"]] * 2
        await update(gate)
        for shown in asked:
            await gate.until_edited(shown)
            assert shown.buttons == []
        assert [await service.task(task["id"]) for task in tasks] == decided


async def test_what_waited_for_telegram_is_sent_once_and_in_order(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        async with gate.sandbox.down():
            bodies = [message(ada, f"Number {number}.") for number in range(3)]
            created = [
                (await service.send(body, prefer="respond-async", key=body["text"])).task(202)
                for body in bodies
            ]
            last = (await service.ask(question(ada), prefer="respond-async", key="k")).task(202)
            await service.until_listed("state=queued", lambda tasks: any(task["error"] for task in tasks))
            await gate.server.kill()
        await update(gate)
        await service.until(last["id"], "asked")
        for body, task in zip(bodies, created, strict=True):
            sent = (await service.send(body, key=body["text"])).task(200)
            assert (sent["id"], sent["state"], sent["error"]) == (task["id"], "sent", None)
        texts = [each.text for each in gate.sandbox.chat(ada.id).messages]
        assert texts == ["Number 0.", "Number 1.", "Number 2.", "Deploy build 1234?"]
        assert gate.sends(ada) == 4


async def test_a_message_in_doubt_becomes_unknown_and_is_never_sent_twice(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        hang_after_the_first_part(gate, ada.id)
        gate.sandbox.fault("hang", method="sendMessage", chat=grace.id, effect=True)
        half = (await service.send(message(ada, LONG), prefer="respond-async", key="h")).task(202)
        whole = (await service.send(message(grace), prefer="respond-async", key="w")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(ada) == 2 and gate.sends(grace) == 1)
        await gate.server.kill()
        await update(gate)
        unknown = [await service.until_final(task["id"], within=20) for task in (half, whole)]
        assert [(task["state"], task["error"]["code"]) for task in unknown] == [
            ("unknown", "outcome_unknown")
        ] * 2
        [first_part] = gate.sandbox.chat(ada.id).messages
        assert [task["message_ids"] for task in unknown] == [[first_part.id], []]
        again = await service.send(message(grace), key="w")
        assert again.problem("outcome_unknown")["task"] == unknown[1]
        # What comes next in these chats is sent, and nothing else is.
        for person in (ada, grace):
            (await service.send(message(person, "Next"))).task(200)
        assert [gate.sends(ada), gate.sends(grace)] == [3, 2]


async def test_a_half_sent_message_that_may_arrive_twice_is_completed(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        hang_after_the_first_part(gate, ada.id)
        body = message(ada, LONG, on_unknown="resend")
        half = (await service.send(body, prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(ada) == 2)
        await gate.server.kill()
        await update(gate)
        sent = await service.until(half["id"], "sent")
        parts = gate.sandbox.chat(ada.id).messages
        assert [part.id for part in parts] == sent["message_ids"]
        assert " ".join(part.text for part in parts).split() == LONG.split()
        assert gate.sends(ada) == 3


def hang_after_the_first_part(gate: Gate, chat: int) -> None:
    """Telegram takes one message there; whether it has taken the one after it, nobody is told."""
    gate.sandbox.fault("slow", method="sendMessage", chat=chat, seconds=0)
    gate.sandbox.fault("hang", method="sendMessage", chat=chat)


async def test_questions_and_edits_in_doubt_are_done_again(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        sent = (await service.send(message(grace))).task(200)
        asking = gate.sandbox.fault("hang", method="sendMessage", chat=ada.id)
        editing = gate.sandbox.fault("hang", method="editMessageText", chat=grace.id)
        asked = (await service.ask(question(ada), prefer="respond-async")).task(202)
        path = f"/v1/messages/{sent['id']}"
        edit = (await service.call("PATCH", path, {"text": "Edited"}, prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: asking.hits and editing.hits)
        await gate.server.kill()
        await update(gate)
        await service.until(edit["id"], "sent")
        assert gate.sandbox.chat(grace.id).last.text == "Edited"
        await service.until(asked["id"], "asked")
        await ada.taps(await gate.next_message(ada), "Yes")
        assert (await service.until(asked["id"], "answered"))["answer"]["choice"] == "yes"
        assert [gate.sends(ada), gate.sends(grace)] == [2, 1]


async def test_a_question_in_doubt_that_waited_for_its_next_try_is_asked_again_with_the_same_buttons(
    open_before: Opener,
) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True, times=None)
        in_doubt = (await service.ask(question(ada), prefer="respond-async", key="k")).task(202)
        await service.until_listed("state=sending", lambda tasks: any(task["error"] for task in tasks))
        await gate.server.kill()
        copies = gate.sends(ada)
        await update(gate)
        await service.until(in_doubt["id"], "asked")
        shown = gate.sandbox.chat(ada.id).messages
        assert len(shown) == gate.sends(ada) == copies + 1
        await ada.taps(shown[0], "Yes")
        answered = (await service.ask(question(ada), key="k")).task(200)
        assert (answered["id"], answered["answer"]["choice"]) == (in_doubt["id"], "yes")
        for copy in (shown[0], shown[-1]):
            await gate.until_edited(copy)
            assert copy.buttons == []


async def test_a_chat_that_telegram_wants_left_alone_is_left_alone(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        limited = gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=10)
        first = (await service.send(message(ada, "First"), prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: limited.hits == 1)
        await service.until(first["id"], "queued")
        await gate.server.kill()
        await update(gate)
        second = (await service.send(message(ada, "Second"), prefer="respond-async")).task(202)
        assert (await service.send(message(grace))).task(200)["state"] == "sent"
        for task in (first, second):
            await service.until(task["id"], "sent")
        refused, *calls = gate.sandbox.calls.of("sendMessage", ada.id)
        assert calls[0].monotonic - refused.monotonic >= 10
        assert [each.text for each in gate.sandbox.chat(ada.id).messages] == ["First", "Second"]
        assert len(calls) == 2


async def test_questions_that_were_to_ask_for_another_tap_do(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.kill()
        rows(gate.server, OUTAGE)
        async with gate.sandbox.down():
            await gate.server.start()
            await until_tried_in_vain(partial(rows, gate.server))
            await gate.server.kill()
        await update(gate)
        await gate.until_edited(asked)
        assert (asked.text, asked.labels) == (f"Deploy build 1234?\n\n{AGAIN}", ["Yes", "No"])
        await ada.taps(asked, "No")
        assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "no"
        await gate.until_edited(asked, 2)
        assert (asked.buttons, AGAIN in asked.text) == ([], False)
        assert gate.sends(ada) == 1


async def until_tried_in_vain(query: Callable[[str], object]) -> None:
    """Wait until the version before could not let a question ask for another tap, and is to try again soon.

    Args:
        query: reads its database; what it returns is false when there are no rows.
    """
    async with asyncio.timeout(20):
        while True:
            soon = round((time.time() + 10) * 1000)
            if query(f"SELECT 1 FROM disarmed WHERE tries > 0 AND until < {soon}"):  # noqa: S608 -- a number
                break
            await asyncio.sleep(0.02)


async def test_what_is_over_is_remembered(open_before: Opener) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        sent = (await service.send(message(ada), key="m")).task(200)
        await gate.next_message(ada)
        asking = service.asking(question(ada), key="q")
        asked = await service.question_in(ada)
        await ada.taps(asked, "Yes")
        answered = (await asking).task(200)
        whoami = text_update(person_of(ada), private_chat(ada), "/whoami")
        assert (await gate.webhook(whoami)).status == 200
        await gate.sandbox.wait_for(lambda: gate.sends(ada) == 3)
        assert await gate.server.terminate() == 0
        await update(gate)
        assert [await service.task(task["id"]) for task in (sent, answered)] == [sent, answered]
        assert (await service.send(message(ada), key="m")).task(200) == sent
        assert (await service.ask(question(ada), key="q")).task(200) == answered
        (await service.send(message(ada, "Other words"), key="m")).problem("idempotency_mismatch")
        listed = (await service.get("/v1/tasks")).document["items"]
        assert {task["id"] for task in listed} == {sent["id"], answered["id"]}
        edit = await service.call("PATCH", f"/v1/messages/{sent['id']}", {"text": "Edited"})
        assert edit.task(200)["of"] == sent["id"]
        assert (await gate.webhook(whoami)).status == 200
        (await service.send(message(ada, "Last"))).task(200)
        texts = [each.text for each in gate.sandbox.chat(ada.id).messages]
        assert (texts[0], texts[-1], len(texts)) == ("Edited", "Last", 4)


async def test_the_version_before_refuses_to_start_after_the_update(
    open_before: Opener, version_before: Version
) -> None:
    async with open_before() as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.terminate()
        await update(gate)
        await gate.server.terminate()
        gate.server.version = version_before
        await refuses_to_start(gate.server)
        # Nothing was changed, so the current version goes on.
        gate.server.version = CURRENT
        await gate.server.start()
        await ada.taps(asked, "Yes")
        assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "yes"


async def refuses_to_start(server: Server) -> None:
    """Start a process of the version before, which must end at once and say why."""
    process = await server.spawn()
    async with asyncio.timeout(30):
        assert await process.wait() == 3
    assert f"has schema {NEWEST}, but this version of Telegate knows schemas up to 5 only." in server.log


async def migrate(gate: Gate) -> None:
    """Run `telegate migrate` of the version that the server has."""
    done = await telegate(gate, "migrate")
    assert done.returncode == 0, done.stderr


def beside(gate: Gate, name: str, version: Version) -> Server:
    """Another server on the same database."""
    folder = gate.server.folder / name
    folder.mkdir()
    return Server(folder, {**gate.server.settings, "PORT": str(reserved_port())}, version=version)


async def test_a_process_of_the_version_before_that_still_runs_acknowledges_nothing(
    open_before: Opener, version_before: Version
) -> None:
    async with open_before(started=False, DATABASE_URL=postgres.fresh_database()) as gate:
        await migrate(gate)
        await gate.set_webhook()
        await gate.server.start()
        service, ada, grace = gate.service(), gate.person(), gate.person()
        waiting = service.asking(question(ada), key="k", prefer="wait=10")
        asked = await service.question_in(ada)
        await gate.until_waiting(1)
        current = Gate(beside(gate, "current", CURRENT), gate.sandbox, gate.session)
        await migrate(current)
        press = await ada.taps(asked, "Yes")
        posted = gate.sandbox.updates.attempts
        await gate.sandbox.wait_for(lambda: len(posted) >= 2)
        refused = [
            await service.ask(question(ada), key="k"),
            await service.ask(question(grace), key="g"),
            await service.send(message(grace), key="m"),
            await service.get("/v1/tasks"),
        ]
        for response in refused:
            response.problem("storage_unavailable")
            assert int(response.headers["Retry-After"]) >= 1
        await gate.server.until_answered("/readyz", 503)
        await refuses_to_start(beside(gate, "before", version_before))
        await current.server.start()
        try:
            # Whoever waits there is told where to ask again.
            (await waiting).task(202)
            assert {attempt.status for attempt in posted} == {503}
            await current.set_webhook()
            service = current.service(name=service.name)
            answered = (await service.ask(question(ada), key="k")).task(200)
            assert [answer["choice"] for answer in answered["answers"]] == ["yes"]
            await press.answered()
            await gate.until_edited(asked)
            assert asked.buttons == []
            asking = service.asking(question(grace), key="g")
            await grace.taps(await current.next_message(grace), "No")
            assert (await asking).task(200)["answer"]["choice"] == "no"
            assert [gate.sends(ada), gate.sends(grace)] == [1, 1]
        finally:
            await current.server.stop()
        current.server.check_log()


async def test_what_the_version_before_left_in_postgresql_is_taken_over_too(open_before: Opener) -> None:
    name = postgres.server().fresh_name()
    query = partial(postgres.server().sql, database=name)
    async with open_before(started=False, DATABASE_URL=postgres.server().url(name)) as gate:
        await migrate(gate)
        await gate.set_webhook()
        await gate.server.start()
        service, ada, grace, alan = gate.service(), gate.person(), gate.person(), gate.person()
        open_one = await service.asked(question(ada), key="k")
        decided = await service.asked(question(grace))
        asked, closed = await gate.next_message(ada), await gate.next_message(grace)
        gate.sandbox.fault("hang", method="editMessageText", chat=grace.id)
        await (await grace.taps(closed, "No")).answered()
        await gate.server.kill()
        query(OUTAGE)
        async with gate.sandbox.down():
            await gate.server.start()
            queued = (await service.send(message(alan), prefer="respond-async")).task(202)
            await until_tried_in_vain(query)
            await gate.server.kill()
        gate.sandbox.faults.lift()
        gate.server.version = CURRENT
        await migrate(gate)
        await gate.server.start()
        await gate.until_edited(asked)
        assert (asked.text, asked.labels) == (f"Deploy build 1234?\n\n{AGAIN}", ["Yes", "No"])
        await ada.taps(asked, "Yes")
        answered = (await service.ask(question(ada), key="k")).task(200)
        assert (answered["id"], answered["answer"]["choice"]) == (open_one["id"], "yes")
        await gate.until_edited(closed)
        assert closed.buttons == []
        assert (await service.task(decided["id"]))["answer"]["choice"] == "no"
        await service.until(queued["id"], "sent")
        assert [gate.sends(person) for person in (ada, grace, alan)] == [1, 1, 1]


@pytest.mark.slow
async def test_what_a_process_of_the_version_before_holds_is_left_to_it_until_its_lease_ends(
    open_before: Opener,
) -> None:
    async with open_before(started=False, DATABASE_URL=postgres.fresh_database()) as gate:
        await migrate(gate)
        await gate.set_webhook()
        await gate.server.start()
        service, ada, grace = gate.service(), gate.person(), gate.person()
        hang_after_the_first_part(gate, ada.id)
        gate.sandbox.fault("hang", method="sendMessage", chat=grace.id)
        half = (await service.send(message(ada, LONG), prefer="respond-async")).task(202)
        asked = (await service.ask(question(grace), prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(ada) == 2 and gate.sends(grace) == 1)
        await gate.server.kill()
        gate.sandbox.faults.lift()
        gate.server.version = CURRENT
        await migrate(gate)
        await gate.server.start()
        # The lease runs for 30 s, and another process looks every few seconds.
        unknown = await service.until_final(half["id"], within=45)
        assert (unknown["state"], len(unknown["message_ids"])) == ("unknown", 1)
        await service.until(asked["id"], "asked", within=15)
        first, again = gate.sandbox.calls.of("sendMessage", grace.id)
        assert again.monotonic - first.monotonic > 20
        assert gate.sends(ada) == 2
