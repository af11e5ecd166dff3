"""Buttons of questions that are over, or that nobody knows any more: a clear popup, and nothing changes."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from infra.sandbox import Message, Press, ScriptedPerson
from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, opened, question

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


async def test_a_tap_on_an_expired_question_is_told_so_and_counts_for_nothing(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task, asked, data = await asked_with_data(gate, service, ada, expires_in=5)
    expired = await service.until_final(task["id"], within=20)
    press = await pressed(ada, asked, data)
    assert press.alert == "The time to answer this question is over."
    assert (await service.task(task["id"])) == expired
    assert (expired["state"], asked.buttons) == ("expired", [])


async def test_a_tap_on_an_answered_question_names_who_was_first_and_counts_for_nothing(
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
    assert press.alert == f"{ada.person.name} has already answered: “Yes”."
    assert (await service.task(task["id"])) == answered
    assert asked.buttons == []


async def test_a_tap_removes_buttons_that_had_stayed_behind(gate: Gate, service: Service) -> None:
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


def forget(gate: Gate, task: Json) -> None:
    """What `RETENTION_DAYS` later happens to a task."""
    with contextlib.closing(sqlite3.connect(gate.server.database, timeout=10)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        assert database.execute("DELETE FROM telegate_tasks WHERE id = ?", (task["id"],)).rowcount == 1


async def test_a_tap_on_a_question_that_nobody_remembers_is_told_so_and_takes_its_buttons_away(
    gate: Gate, service: Service
) -> None:
    ada, grace = gate.person(), gate.person()
    task, asked, _ = await asked_with_data(gate, service, ada)
    other, kept, _ = await asked_with_data(gate, service, grace)
    forget(gate, task)
    press = await (await ada.taps(asked, "Yes")).answered()
    assert press.alert == "This button no longer works."
    await gate.until_edited(asked)
    assert (asked.buttons, asked.text) == ([], "Deploy build 1234?")
    assert ((await service.task(other["id"]))["state"], kept.history) == ("asked", [])


async def test_a_tap_on_a_question_of_a_database_that_was_replaced_takes_its_buttons_away(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as gate:
        ada = gate.person()
        await gate.service().asked(question(ada))
        asked = await gate.next_message(ada)
        await gate.server.stop()
        for file in gate.server.folder.glob("telegate.db*"):
            file.unlink()
        await gate.server.start()
        press = await (await ada.taps(asked, "No")).answered()
        assert press.alert == "This button no longer works."
        await gate.until_edited(asked)
        assert (asked.buttons, asked.text) == ([], "Deploy build 1234?")


async def test_buttons_that_cannot_be_taken_away_delay_no_popup_and_make_no_noise(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task, asked, _ = await asked_with_data(gate, service, ada)
    forget(gate, task)
    for words in ("message can't be edited", "message to edit not found", "message is not modified"):
        before = gate.server.log
        with gate.sandbox.fault(
            "error", method="editMessageReplyMarkup", chat=ada.id, status=400, description=words
        ) as fault:
            press = await (await ada.taps(asked, "Yes")).answered()
            assert press.alert == "This button no longer works."
            await gate.sandbox.wait_for(partial(getattr, fault, "hits"))
        said = gate.server.log.removeprefix(before)
        assert "Telegram refused" not in said
        assert "did not succeed" not in said


async def test_a_forged_tap_never_makes_the_gateway_edit_a_message(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    gone = await service.asked(question(group, respondents={"people": [mallory.id]}))
    stale = await gate.next_message(group)
    task = await service.asked(question(group, respondents={"people": [ada.id]}))
    asked = await gate.next_message(group)
    forget(gate, gone)
    # What once was a button of this chat, carried under another message; and what never was one.
    for data in (stale.button("Yes").data or "", "A" * 32):
        assert (await pressed(mallory, asked, data)).alert == "This button no longer works."
    # This tap is the last of all, and what it does is seen.
    await (await mallory.taps(stale, "Yes")).answered()
    await gate.until_edited(stale)
    assert (asked.labels, asked.history) == (["Yes", "No"], [])
    assert (await service.task(task["id"]))["state"] == "asked"


async def test_garbage_takes_nobody_s_buttons_away(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    task = await service.asked(question(group, respondents={"people": [ada.id]}))
    asked = await gate.next_message(group)
    for data in ("", "x", "A" * 32, asked.button("Yes").data or ""):
        assert (await pressed(mallory, asked, data)).alert
    assert asked.labels == ["Yes", "No"]
    await ada.taps(asked, "Yes")
    assert (await service.until(task["id"], "answered"))["answer"]["by"]["id"] == ada.id
