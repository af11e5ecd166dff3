"""The history of tasks: its rows alone tell what happened, who decided, and when."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
import pytest_asyncio

from core.model.transition import TRANSITIONS, TaskState
from infra.sandbox import Sandbox
from infra.sandbox.calls import Call
from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = {state.value for state in TaskState}
BEGINNINGS = {"queued", "sending"}
KEEP_THE_STATE = {
    "answer_refused",
    "closed",
    "copy_found",
    "delivered",
    "held",
    "part_sent",
    "taken_over",
    "unclear",
}
"""What may happen to a task and leaves its state as it is."""

APPEND_ONLY = """
CREATE TRIGGER history_is_not_changed BEFORE UPDATE ON telegate_history
BEGIN SELECT RAISE(ABORT, 'changed'); END;
CREATE TRIGGER history_is_not_deleted BEFORE DELETE ON telegate_history
BEGIN SELECT RAISE(ABORT, 'deleted'); END;
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of history."""

    seq: int
    at: int
    what: str
    person: int | None
    update: int | None
    jti: str | None
    shown: bytes | None
    choice: str | None


def state_after(steps: Sequence[Step]) -> str:
    """What the rows of one task lead to; fails when they have a gap, go back in time, or go astray."""
    assert [step.seq for step in steps] == list(range(1, len(steps) + 1))
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    first, *others = steps
    assert first.what in BEGINNINGS
    state = first.what
    for step in others:
        if step.what in STATES:
            assert TaskState(step.what) in TRANSITIONS[TaskState(state)], steps
            state = step.what
        else:
            assert step.what in KEEP_THE_STATE, steps
    return state


@dataclass(frozen=True, slots=True)
class Records:
    """The database of the server, behind its back."""

    file: Path

    def ask(self, sql: str, *params: str | int) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            return database.execute(sql, params).fetchall()

    def steps(self, task_id: str) -> list[Step]:
        columns = "seq, at, what, person, update_id, jti, shown, choice"
        rows = self.ask(f"SELECT {columns} FROM telegate_history WHERE task = ? ORDER BY seq", task_id)  # noqa: S608 -- constants only
        return [Step(*row) for row in rows]  # type: ignore[arg-type]  # its columns

    async def closed(self, task_id: str) -> list[Step]:
        """The task's rows once its message shows the outcome."""
        async with asyncio.timeout(20):
            while (steps := self.steps(task_id))[-1].what != "closed":  # noqa: ASYNC110 - another process cannot set an Event here
                await asyncio.sleep(0.05)
        return steps


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """A server whose database lets nobody change or delete a row of history."""
    async with opened(tmp_path_factory.mktemp("server")) as own:
        with closing(sqlite3.connect(own.server.database)) as database:
            database.executescript(APPEND_ONLY)
        yield own
        check_all(own.sandbox, Records(own.server.database))


def check_all(sandbox: Sandbox, records: Records) -> None:
    """Whatever was done in this file: the rows of history lead to what the row of the task says."""
    tasks = records.ask("SELECT id, state, steps, kind, chat, progress FROM telegate_tasks")
    assert tasks
    for task_id, state, count, kind, chat, progress in tasks:
        steps = records.steps(str(task_id))
        assert (state_after(steps), len(steps)) == (state, count)
        assert decided_by(steps) == decided_in(json.loads(str(progress)))
        seen = {fingerprint(call) for call in sandbox.calls if str(call.chat) == chat}
        shown = {step.shown for step in steps} - {None}
        assert shown <= seen
        assert shown or kind == "deletion" or state in {"failed", "unknown"}, steps


def decided_by(steps: Sequence[Step]) -> tuple[int | None, str | None]:
    """The person who decided a question, and the option, as its history tells them."""
    decided = [step for step in steps if step.what in {"answered", "expired"}]
    assert len(decided) <= 1
    assert not [step for step in steps if step.choice is not None and step not in decided]
    return (decided[0].person, decided[0].choice) if decided else (None, None)


def decided_in(progress: Json) -> tuple[int | None, str | None]:
    """The same, as the task's row tells it."""
    decision = progress.get("decision") or {}
    return (decision.get("by") or {}).get("id"), decision.get("choice")


def fingerprint(call: Call) -> bytes:
    """What docs/explanation/store.md says that the history keeps of what was shown."""
    entities = [
        [entity["type"], entity["offset"], entity["length"], entity.get("url"), entity.get("language")]
        for entity in call.parameters.get("entities", [])
    ]
    buttons = [
        [[button["text"], button.get("url"), button.get("style")] for button in row]
        for row in call.parameters.get("reply_markup", {}).get("inline_keyboard", [])
    ]
    seen = [call.parameters.get("text"), entities, buttons]
    return hashlib.sha256(json.dumps(seen, separators=(",", ":")).encode()).digest()


@pytest.fixture
def records(gate: Gate) -> Records:
    return Records(gate.server.database)


def jti_of(service: Service) -> str:
    return str(jwt.decode(service.token, options={"verify_signature": False})["jti"])


def words_of(steps: Sequence[Step]) -> list[str]:
    """What happened, but for what keeps a lease alive."""
    return [step.what for step in steps if step.what != "held"]


async def until_posted(gate: Gate, kind: str, updates: set[int | None]) -> None:
    """Wait until the sandbox has written down that it posted these updates, of that kind."""
    await gate.sandbox.wait_for(
        lambda: updates <= {each.update_id for each in gate.sandbox.updates.attempts if each.kind == kind},
        what=f"the updates {updates} of kind {kind}",
    )


async def test_it_tells_who_asked_who_was_refused_and_who_decided_by_which_update(
    gate: Gate, service: Service, records: Records
) -> None:
    ada, eve = gate.person(), gate.person()
    group = gate.group(ada, eve)
    asking = service.asking(question(group, respondents={"people": [ada.id]}))
    asked = await service.question_in(group)
    await (await eve.taps(asked, "Yes")).answered()
    await (await ada.taps(asked, "No")).answered()
    task = (await asking).task(200)
    steps = await records.closed(task["id"])
    assert words_of(steps) == ["sending", "asked", "answer_refused", "answered", "closed"]
    refused, answered = (next(step for step in steps if step.what == what) for what in words_of(steps)[2:4])
    assert (steps[0].jti, steps[0].person, steps[0].update) == (jti_of(service), None, None)
    assert (refused.person, answered.person) == (eve.id, ada.id)
    await until_posted(gate, "callback_query", {refused.update, answered.update})
    assert refused.update != answered.update
    assert (task["answer"]["by"]["id"], task["state"]) == (answered.person, answered.what)


async def test_it_tells_who_answered_in_words(gate: Gate, service: Service, records: Records) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, options=[], input={"type": "text"}))
    asked = await service.question_in(ada)
    await ada.says(None, "Next Thursday", reply_to=asked)
    task = (await asking).task(200)
    steps = await records.closed(task["id"])
    [answered] = [step for step in steps if step.what == "answered"]
    assert answered.person == ada.id
    await until_posted(gate, "message", {answered.update})


async def test_it_tells_by_which_token_a_question_was_taken_back(
    gate: Gate, service: Service, records: Records
) -> None:
    task = await service.asked(question(gate.person()))
    another = service.with_roles("everything")
    await another.call("DELETE", f"/v1/tasks/{task['id']}")
    steps = await records.closed(task["id"])
    assert words_of(steps) == ["sending", "asked", "cancelled", "closed"]
    jtis = {step.what: step.jti for step in steps}
    assert (jtis["sending"], jtis["cancelled"]) == (jti_of(service), jti_of(another))
    assert jti_of(service) != jti_of(another)


async def test_it_tells_that_nobody_decided(gate: Gate, service: Service, records: Records) -> None:
    body = question(gate.person(), expires_in=5, on_expiry={"choice": "no"})
    task = (await service.ask(body)).task(200)
    assert (task["state"], task["answer"]["by"]) == ("expired", None)
    steps = await records.closed(task["id"])
    [expired] = [step for step in steps if step.what == "expired"]
    assert (expired.person, expired.update, expired.jti) == (None, None, None)


async def test_it_tells_each_try_of_a_question_whose_outcome_was_unclear(
    gate: Gate, service: Service, records: Records
) -> None:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True)
    task = await service.asked(question(ada))
    copies = [await gate.next_message(ada), await gate.next_message(ada)]
    await ada.taps(copies[0], "Yes")
    steps = await records.closed(task["id"])
    words = [word for word in words_of(steps) if word != "copy_found"]
    assert words == ["sending", "unclear", "asked", "answered", "closed"]


Scenario = Callable[[Gate, Service], Awaitable[Json]]


async def unknown(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id)
    return (await service.send(message(ada))).problem("outcome_unknown")["task"]


async def refused(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    gate.sandbox.fault("error", method="sendMessage", chat=ada.id, status=400, description="no")
    return (await service.send(message(ada))).problem("telegram_rejected")["task"]


async def told_to_wait(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=1)
    return (await service.send(message(ada))).task(200)


async def edited(gate: Gate, service: Service) -> Json:
    sent = (await service.send(message(gate.person()))).task(200)
    return (await service.call("PATCH", f"/v1/messages/{sent['id']}", {"text": "Edited"})).task(200)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (unknown, ["sending", "unknown"]),
        (refused, ["sending", "failed"]),
        (told_to_wait, ["sending", "queued", "sending", "sent"]),
        (edited, ["sending", "sent"]),
    ],
)
async def test_it_tells_what_became_of_what_nobody_has_to_answer(
    gate: Gate, service: Service, records: Records, scenario: Scenario, words: list[str]
) -> None:
    task = await scenario(gate, service)
    steps = records.steps(task["id"])
    assert words_of(steps) == words
    assert steps[0].jti == jti_of(service)


async def test_it_tells_which_update_the_gateway_itself_replied_to(gate: Gate, records: Records) -> None:
    ada = gate.person()
    await ada.says(None, "/whoami")
    await gate.next_message(ada)
    sql = """
    SELECT step.update_id FROM telegate_history AS step JOIN telegate_tasks AS task ON task.id = step.task
    WHERE chat = ? AND seq = 1
    """
    [(update,)] = records.ask(sql, str(ada.id))
    assert isinstance(update, int)
    await until_posted(gate, "message", {update})


# What was shown, and what was chosen


async def by_tap(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    options = [{"id": "go", "label": "Go", "style": "danger"}, {"id": "no", "label": "No"}]
    text = "**Deploy** [this](https://ci.example/1) to `prod`?"
    task = await service.asked(question(ada, text=text, format="markdown", options=options))
    await ada.taps(await gate.next_message(ada), "Go")
    return await service.until(task["id"], "answered")


async def by_words(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    asking = service.asking(question(ada, options=[], input={"type": "text"}))
    await ada.says(None, "Next Thursday", reply_to=await service.question_in(ada))
    return (await asking).task(200)


async def by_nobody(gate: Gate, service: Service) -> Json:
    return (await service.ask(question(gate.person(), expires_in=5))).task(200)


async def by_default(gate: Gate, service: Service) -> Json:
    body = question(gate.person(), expires_in=5, on_expiry={"choice": "no"})
    return (await service.ask(body)).task(200)


async def taken_back(gate: Gate, service: Service) -> Json:
    task = await service.asked(question(gate.person()))
    return (await service.call("DELETE", f"/v1/tasks/{task['id']}")).task(200)


async def never_asked(gate: Gate, service: Service) -> Json:
    ada = gate.person()
    gate.sandbox.fault("error", method="sendMessage", chat=ada.id, status=400, description="no")
    return (await service.ask(question(ada))).problem("telegram_rejected")["task"]


async def corrected(gate: Gate, service: Service) -> Json:
    """Answered although no call that asked it was ever acknowledged."""
    ada = gate.person()
    with gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True, times=None):
        asking = service.asking(question(ada))
        await ada.taps(await gate.next_message(ada), "Yes")
        return (await asking).task(200)


@pytest.mark.parametrize(
    ("scenario", "ending"),
    [
        (by_tap, ("answered", "go", "asked")),
        (by_words, ("answered", None, "asked")),
        (by_nobody, ("expired", None, "asked")),
        (by_default, ("expired", "no", "asked")),
        (taken_back, ("cancelled", None, "asked")),
        (never_asked, ("failed", None, None)),
        (corrected, ("answered", "yes", "answered")),
    ],
)
async def test_the_history_tells_what_was_shown_and_what_was_chosen(
    gate: Gate,
    service: Service,
    records: Records,
    scenario: Scenario,
    ending: tuple[str, str | None, str | None],
) -> None:
    state, choice, asked = ending
    task = await scenario(gate, service)
    over = records.steps(task["id"]) if state == "failed" else await records.closed(task["id"])
    assert (task["state"], state_after(over), decided_by(over)[1]) == (state, state, choice)
    chat = task["chat"]["id"]
    calls = {method: gate.sandbox.calls.of(method, chat) for method in ("sendMessage", "editMessageText")}
    told = {step.what: step.shown for step in over if step.shown is not None}
    if asked is None:
        assert told == {}
    else:
        assert told[asked] == fingerprint(calls["sendMessage"][0])
        assert told["closed"] == fingerprint(calls["editMessageText"][-1])
        assert told[asked] != told["closed"]


async def test_the_history_tells_each_part_of_a_long_text_and_what_an_edit_made_of_it(
    gate: Gate, service: Service, records: Records
) -> None:
    ada = gate.person()
    words = " ".join(["all is well"] * 600)
    sent = (await service.send(message(ada, words))).task(200)
    parts = gate.sandbox.calls.of("sendMessage", ada.id)
    shown = [step.shown for step in records.steps(sent["id"]) if step.shown is not None]
    assert len(parts) > 1
    assert shown == [fingerprint(part) for part in parts]
    short = (await service.send(message(ada))).task(200)
    edited = (await service.call("PATCH", f"/v1/messages/{short['id']}", {"text": "Edited"})).task(200)
    [edit] = gate.sandbox.calls.of("editMessageText", ada.id)
    assert records.steps(edited["id"])[-1].shown == fingerprint(edit)
