"""The history of tasks: its rows alone tell what happened, who decided, and when."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
import pytest_asyncio

from core.tasks import SUCCESSORS, TaskState
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
CREATE TRIGGER history_is_not_changed BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'changed'); END;
CREATE TRIGGER history_is_not_deleted BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'deleted'); END;
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


def state_after(steps: Sequence[Step]) -> str:
    """What the rows of one task lead to; fails when they have a gap, go back in time, or go astray."""
    assert [step.seq for step in steps] == list(range(1, len(steps) + 1))
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    first, *others = steps
    assert first.what in BEGINNINGS
    state = first.what
    for step in others:
        if step.what in STATES:
            assert TaskState(step.what) in SUCCESSORS[TaskState(state)], steps
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
        sql = "SELECT seq, at, what, person, update_id, jti FROM history WHERE task = ? ORDER BY seq"
        return [Step(*row) for row in self.ask(sql, task_id)]  # type: ignore[arg-type]  # its columns

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
        records = Records(own.server.database)
        check_all(records)


def check_all(records: Records) -> None:
    """Whatever was done in this file: the rows of history lead to what the row of the task says."""
    tasks = records.ask("SELECT id, state, steps FROM tasks")
    assert tasks
    for task_id, state, count in tasks:
        steps = records.steps(str(task_id))
        assert (state_after(steps), len(steps)) == (state, count)


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


async def test_t25_it_tells_who_asked_who_was_refused_and_who_decided_by_which_update(
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


async def test_t25_it_tells_who_answered_in_words(gate: Gate, service: Service, records: Records) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, options=[], input={"type": "text"}))
    asked = await service.question_in(ada)
    await ada.says(None, "Next Thursday", reply_to=asked)
    task = (await asking).task(200)
    steps = await records.closed(task["id"])
    [answered] = [step for step in steps if step.what == "answered"]
    assert answered.person == ada.id
    await until_posted(gate, "message", {answered.update})


async def test_t25_it_tells_by_which_token_a_question_was_taken_back(
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


async def test_t25_it_tells_that_nobody_decided(gate: Gate, service: Service, records: Records) -> None:
    body = question(gate.person(), expires_in=5, on_expiry={"choice": "no"})
    task = (await service.ask(body)).task(200)
    assert (task["state"], task["answer"]["by"]) == ("expired", None)
    steps = await records.closed(task["id"])
    [expired] = [step for step in steps if step.what == "expired"]
    assert (expired.person, expired.update, expired.jti) == (None, None, None)


async def test_t25_it_tells_each_try_of_a_question_whose_outcome_was_unclear(
    gate: Gate, service: Service, records: Records
) -> None:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True)
    task = await service.asked(question(ada))
    copies = [await gate.next_message(ada), await gate.next_message(ada)]
    await ada.taps(copies[0], "Yes")
    steps = await records.closed(task["id"])
    words = [word for word in words_of(steps) if word != "copy_found"]
    assert words == ["sending", "unclear", "taken_over", "asked", "answered", "closed"]


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
async def test_t25_it_tells_what_became_of_what_nobody_has_to_answer(
    gate: Gate, service: Service, records: Records, scenario: Scenario, words: list[str]
) -> None:
    task = await scenario(gate, service)
    steps = records.steps(task["id"])
    assert words_of(steps) == words
    assert steps[0].jti == jti_of(service)


async def test_t25_it_tells_which_update_the_gateway_itself_replied_to(gate: Gate, records: Records) -> None:
    ada = gate.person()
    await ada.says(None, "/whoami")
    await gate.next_message(ada)
    sql = "SELECT history.update_id FROM history JOIN tasks ON tasks.id = task WHERE chat = ? AND seq = 1"
    [(update,)] = records.ask(sql, str(ada.id))
    assert isinstance(update, int)
    await until_posted(gate, "message", {update})
