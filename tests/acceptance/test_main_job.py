"""The main job: a question is asked, a person taps, and the answer is the HTTP response."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.contract import TASK_ID, check_task, time_of
from tests.acceptance.gateway import Gate, Service, message, question
from tests.acceptance.updates import GROUP_ANONYMOUS_BOT, group_chat, person_of, press_update, private_chat

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_tap_of_a_person_is_the_response_of_the_waiting_request(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    options = [
        {"id": "deploy", "label": "Deploy", "style": "success"},
        {"id": "wait", "label": "Not today", "style": "danger"},
    ]
    body = question(ada, options=options, metadata={"build": "1234"}, expires_in=3600)
    asking = service.asking(body)
    asked = await gate.next_message(ada)
    assert asked.text == "Deploy build 1234?"
    assert asked.labels == ["Deploy", "Not today"]
    assert [button.style for button in asked.buttons] == ["success", "danger"]
    assert not asking.done()
    await ada.taps(asked, "Deploy")
    task = (await asking).task(200)
    check_task(task)
    answer = {
        "choice": "deploy",
        "label": "Deploy",
        "text": None,
        "value": None,
        "file": None,
        "reason": None,
        "by": {"id": ada.id, "username": ada.person.username, "name": ada.person.name},
        "at": task["answer"]["at"],
    }
    assert task["answer"] == answer
    assert task["answers"] == [answer]
    assert {**task, "id": "", "created_at": "", "updated_at": "", "expires_at": ""} == {
        "id": "",
        "kind": "question",
        "state": "answered",
        "service": service.name,
        "chat": {"id": ada.id, "alias": None, "topic": None},
        "message_ids": [asked.id],
        "created_at": "",
        "updated_at": "",
        "expires_at": "",
        "not_before": None,
        "answer": answer,
        "answers": [answer],
        "error": None,
        "metadata": {"build": "1234"},
    } | ({"of": None} if "of" in task else {})
    assert TASK_ID.fullmatch(task["id"])
    made, answered = time_of(task["created_at"]), time_of(task["answer"]["at"])
    assert made <= answered <= time_of(task["updated_at"])
    assert (time_of(task["expires_at"]) - made).total_seconds() == pytest.approx(3600, abs=1)


async def test_the_message_then_shows_who_decided_what_and_when_and_has_no_buttons(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    await ada.taps(asked, "Yes")
    task = (await asking).task(200)
    await gate.until_edited(asked)
    assert asked.buttons == []
    assert asked.text.startswith("Deploy build 1234?")
    at = time_of(task["answer"]["at"])
    for said in (ada.person.name, "Yes", str(at.year), f"{at:%H:%M}"):
        assert said in asked.text


async def test_a_tap_is_acknowledged_at_once_with_a_toast(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    press = await ada.taps(await gate.next_message(ada), "Yes")
    await press.answered()
    assert press.toast
    assert press.alert is None
    assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_a_second_person_is_told_who_was_first_and_the_answer_stays(
    gate: Gate, service: Service
) -> None:
    ada, grace = gate.person(), gate.person()
    group = gate.group(ada, grace)
    asking = service.asking(question(group, respondents={"people": [ada.id, grace.id]}))
    asked = await gate.next_message(group)
    no = asked.button("No").data or ""
    await (await ada.taps(asked, "Yes")).answered()
    late = await (await grace.forges(asked, no)).answered()
    assert late.alert is not None
    assert ada.person.name in late.alert
    task = (await asking).task(200)
    assert (task["answer"]["choice"], task["answer"]["by"]["id"]) == ("yes", ada.id)
    assert (await service.task(task["id"]))["answers"] == [task["answer"]]


async def test_of_many_taps_at_once_one_counts_and_all_others_are_told(gate: Gate, service: Service) -> None:
    people = [gate.person() for _ in range(30)]
    group = gate.group(*people)
    asking = service.asking(question(group, respondents={"people": [person.id for person in people]}))
    asked = await gate.next_message(group)
    data = asked.button("Yes").data or ""
    presses = [await person.forges(asked, data) for person in people]
    await asyncio.gather(*(press.answered() for press in presses))
    task = (await asking).task(200)
    assert len(task["answers"]) == 1
    first = [press for press in presses if press.alert is None]
    assert [press.person.id for press in first] == [task["answer"]["by"]["id"]]
    assert all(first[0].person.name in (press.alert or "") for press in presses if press not in first)


async def test_an_impatient_double_tap_is_one_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    presses = await ada.double_taps(await gate.next_message(ada), "No")
    for press in presses:
        await press.answered()
    task = (await asking).task(200)
    assert [answer["choice"] for answer in task["answers"]] == ["no"]


async def test_a_stranger_s_tap_gets_a_popup_and_changes_nothing(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    asking = service.asking(question(group, respondents={"people": [ada.id]}))
    asked = await gate.next_message(group)
    press = await (await mallory.taps(asked, "Yes")).answered()
    assert press.alert
    assert press.toast == ""
    assert asked.history == []
    assert asked.labels == ["Yes", "No"]
    assert not asking.done()
    await ada.taps(asked, "No")
    task = (await asking).task(200)
    assert (task["answer"]["choice"], len(task["answers"])) == ("no", 1)


@pytest.mark.parametrize("data", ["", "x", "yes", "A" * 32, "é" * 10, "🎉", "A" * 64, "../../etc/passwd"])
async def test_a_forged_button_gets_a_popup_and_changes_nothing(
    gate: Gate, service: Service, data: str
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    press = await (await ada.forges(asked, data)).answered()
    assert press.alert
    assert (await service.task(task["id"]))["state"] == "asked"
    assert asked.history == []


async def test_one_changed_character_of_a_button_makes_it_a_forgery(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    data = asked.button("Yes").data or ""
    assert len(data.encode()) <= 64
    for place in range(0, len(data), 3):
        other = "A" if data[place] != "A" else "B"
        press = await (await ada.forges(asked, data[:place] + other + data[place + 1 :])).answered()
        assert press.alert
    assert (await service.task(task["id"]))["state"] == "asked"


async def test_a_button_does_not_work_in_another_chat(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    data = (await gate.next_message(ada)).button("Yes").data or ""
    group = gate.group(ada)
    await service.send(message(group))
    press = await (await ada.forges(await gate.next_message(group), data)).answered()
    assert press.alert
    assert (await service.task(task["id"]))["state"] == "asked"


async def test_a_tap_on_a_question_that_is_over_gets_a_clear_popup_and_the_buttons_go(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    data = asked.button("Yes").data or ""
    (await service.call("DELETE", f"/v1/tasks/{task['id']}")).task(200)
    press = await (await ada.forges(asked, data)).answered()
    assert press.alert
    await gate.until_edited(asked)
    assert asked.buttons == []
    assert (await service.task(task["id"]))["state"] == "cancelled"


async def test_a_tap_whose_query_has_expired_at_telegram_still_counts(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    pressed = press_update(person_of(ada), private_chat(ada), asked.id, asked.button("Yes").data)
    assert (await gate.webhook(pressed)).status == 200
    assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_an_anonymous_admin_has_no_person_and_may_not_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    group = gate.group(ada)
    task = await service.asked(question(group, respondents={"anyone": True}))
    asked = await gate.next_message(group)
    anonymous = {"id": GROUP_ANONYMOUS_BOT, "is_bot": True, "first_name": "Group"}
    pressed = press_update(anonymous, group_chat(group), asked.id, asked.button("Yes").data)
    assert (await gate.webhook(pressed)).status == 200
    assert (await service.task(task["id"]))["state"] == "asked"
