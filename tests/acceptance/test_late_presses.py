"""Buttons of questions that are over, or that nobody knows any more: a clear popup, and nothing changes."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from infra.sandbox import Message, Press, ScriptedPerson
from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pressed(person: ScriptedPerson, message: Message, data: str) -> Press:
    """A press that was acknowledged; by data, since the button itself may be gone."""
    return await (await person.forges(message, data)).answered()


async def asked_with_data(
    gate: Gate, service: Service, person: ScriptedPerson, **fields: Json
) -> tuple[Json, Message, str]:
    """A question, its message, and what its button `Yes` sends."""
    task = await service.asked(question(person, **fields))
    asked = await gate.next_message(person)
    return task, asked, asked.button("Yes").data or ""


async def test_f24_a_tap_on_an_expired_question_is_told_so_and_counts_for_nothing(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task, asked, data = await asked_with_data(gate, service, ada, expires_in=5)
    expired = await service.until_final(task["id"], within=20)
    press = await pressed(ada, asked, data)
    assert press.alert == "The time to answer this question is over."
    assert (await service.task(task["id"])) == expired
    assert (expired["state"], asked.buttons) == ("expired", [])


async def test_f24_a_tap_on_an_answered_question_names_who_was_first_and_counts_for_nothing(
    gate: Gate, service: Service
) -> None:
    ada, grace = gate.person(), gate.person()
    group = gate.group(ada, grace)
    task = await service.asked(question(group, respondents={"anyone": True}))
    asked = await gate.next_message(group)
    no = asked.button("No").data or ""
    await ada.taps(asked, "Yes")
    answered = await service.until(task["id"], "answered")
    await gate.until_edited(asked)
    press = await pressed(grace, asked, no)
    assert press.alert == f"{ada.person.name} has already answered: “Yes”"
    assert (await service.task(task["id"])) == answered
    assert asked.buttons == []


async def test_f24_a_tap_removes_buttons_that_had_stayed_behind(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task, asked, _ = await asked_with_data(gate, service, ada)
    with gate.sandbox.fault(
        "error", method="editMessageText", chat=ada.id, status=400, description="message can't be edited"
    ) as fault:
        (await service.call("DELETE", f"/v1/tasks/{task['id']}")).task(200)
        await gate.sandbox.wait_for(lambda: fault.hits)
    assert asked.labels == ["Yes", "No"]
    press = await (await ada.taps(asked, "Yes")).answered()
    assert press.alert == "This question was withdrawn."
    await gate.until_edited(asked)
    assert asked.buttons == []


async def test_f24_a_tap_on_a_question_that_nobody_remembers_is_told_so(gate: Gate, service: Service) -> None:
    ada, grace = gate.person(), gate.person()
    task, asked, data = await asked_with_data(gate, service, ada)
    other, _, _ = await asked_with_data(gate, service, grace)
    with contextlib.closing(sqlite3.connect(gate.server.database, timeout=10)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        assert database.execute("DELETE FROM tasks WHERE id = ?", (task["id"],)).rowcount == 1
    press = await pressed(ada, asked, data)
    assert press.alert == "This button no longer works."
    assert (await service.task(other["id"]))["state"] == "asked"
    assert asked.history == []


async def test_t15_garbage_takes_nobody_s_buttons_away(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    task = await service.asked(question(group, respondents={"people": [ada.id]}))
    asked = await gate.next_message(group)
    for data in ("", "x", "A" * 32, asked.button("Yes").data or ""):
        assert (await pressed(mallory, asked, data)).alert
    assert asked.labels == ["Yes", "No"]
    await ada.taps(asked, "Yes")
    assert (await service.until(task["id"], "answered"))["answer"]["by"]["id"] == ada.id
