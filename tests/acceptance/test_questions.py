"""Questions: options, written answers, who may answer, and what happens when nobody does."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, question
from tests.acceptance.updates import GROUP_ANONYMOUS_BOT, group_chat, person_of, text_update

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITTEN: Json = {"options": [], "input": {"type": "text"}}


async def test_fifty_options_in_every_style_all_reach_the_person_and_the_last_can_be_chosen(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    styles = [None, "primary", "success", "danger"]
    options = [
        {"id": f"o-{number}_", "label": f"Option {number}", "style": styles[number % 4]}
        for number in range(50)
    ]
    asking = service.asking(question(ada, options=options))
    asked = await gate.next_message(ada)
    assert asked.labels == [option["label"] for option in options]
    assert [button.style for button in asked.buttons] == [option["style"] for option in options]
    await ada.taps(asked, "Option 49")
    assert (await asking).task(200)["answer"]["choice"] == "o-49_"


async def test_labels_may_be_as_long_as_allowed_and_the_same(gate: Gate, service: Service) -> None:
    ada = gate.person()
    label = "🎉" * 64
    asking = service.asking(
        question(ada, options=[{"id": "a" * 64, "label": label}, {"id": "B", "label": label}])
    )
    asked = await gate.next_message(ada)
    await ada.forges(asked, asked.buttons[1].data or "")
    answer = (await asking).task(200)["answer"]
    assert (answer["choice"], answer["label"]) == ("B", label)


async def test_a_long_question_has_its_buttons_under_the_last_part_and_shows_the_outcome_there(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, text="word " * 3000))
    task_id = ""
    await gate.sandbox.wait_for(
        lambda: any(each.buttons for each in gate.sandbox.chat(ada.id).messages), what="buttons"
    )
    parts = gate.sandbox.chat(ada.id).messages
    assert [bool(part.buttons) for part in parts] == [False] * (len(parts) - 1) + [True]
    await ada.taps(parts[-1], "Yes")
    task_id = (await asking).task(200)["id"]
    await gate.until_edited(parts[-1])
    assert ada.person.name in parts[-1].text
    assert len(parts[-1].text) <= 4096
    assert (await service.task(task_id))["message_ids"] == [part.id for part in parts]


async def test_a_formatted_question_keeps_its_format_when_it_is_over(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, text="<b>Deploy</b> <i>now</i>?", format="html"))
    asked = await gate.next_message(ada)
    await ada.taps(asked, "Yes")
    await asking
    await gate.until_edited(asked)
    assert [entity.type for entity in asked.entities][:2] == ["bold", "italic"]


async def test_a_name_full_of_markup_stays_a_name_in_the_outcome(gate: Gate, service: Service) -> None:
    bobby = gate.person()
    bobby.person.first_name, bobby.person.last_name = "<b>Bobby</b> [x](http://evil.example)", "*_`"
    asking = service.asking(question(bobby, text="<b>Deploy</b>?", format="html"))
    asked = await gate.next_message(bobby)
    await bobby.taps(asked, "Yes")
    answered = (await asking).task(200)
    await gate.until_edited(asked)
    assert answered["answer"]["by"]["name"] == bobby.person.name
    assert bobby.person.name in asked.text
    assert [entity.type for entity in asked.entities if entity.type != "url"] == ["bold"]


async def test_metadata_comes_back_as_given(gate: Gate, service: Service) -> None:
    metadata = {f"key {number}": "é🎉" * 20 for number in range(15)} | {"k" * 40: "v" * 500}
    task = await service.asked(question(gate.person(), metadata=metadata))
    assert task["metadata"] == metadata


# Written answers


async def test_a_person_writes_the_answer_as_a_reply(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, text="Which version?", **WRITTEN))
    asked = await service.question_in(ada)
    assert asked.text == "Which version?\n\nReply to this message with your answer."
    await ada.says(None, "v1.2.3 – the good one 🎉", reply_to=asked)
    task = (await asking).task(200)
    answer = task["answer"]
    assert (answer["text"], answer["choice"], answer["label"]) == ("v1.2.3 – the good one 🎉", None, None)
    assert answer["value"] == "v1.2.3 – the good one 🎉"
    assert answer["by"]["id"] == ada.id
    outcome = await gate.sandbox.wait_for(lambda: asked.history and asked.text)
    assert f"{answer['by']['name']} answered “v1.2.3 – the good one 🎉” on " in outcome


async def test_a_placeholder_stands_under_the_question(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = question(ada, options=[], input={"type": "text", "placeholder": "1.2.3"})
    await service.asked(body)
    asked = await gate.next_message(ada)
    assert asked.text.endswith("\n\nReply to this message: 1.2.3")


async def test_in_a_private_chat_the_only_open_question_needs_no_reply(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, **WRITTEN))
    await gate.next_message(ada)
    await gate.until_waiting(1)
    await ada.says(None, "plain words")
    assert (await asking).task(200)["answer"]["text"] == "plain words"


async def test_two_open_questions_in_one_chat_are_kept_apart_by_the_reply(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    first = service.asking(question(ada, text="First?", **WRITTEN))
    one = await service.question_in(ada)
    second = service.asking(question(ada, text="Second?", **WRITTEN))
    two = await service.question_in(ada)
    await ada.says(None, "to the second", reply_to=two)
    assert (await second).task(200)["answer"]["text"] == "to the second"
    assert not first.done()
    await ada.says(None, "to the first", reply_to=one)
    assert (await first).task(200)["answer"]["text"] == "to the first"


async def test_words_without_a_reply_while_two_questions_are_open_are_told_to_be_unclear(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    tasks = [await service.asked(question(ada, **WRITTEN)) for _ in range(2)]
    for _ in tasks:
        await gate.next_message(ada)
    await ada.says(None, "to whom?")
    told = await gate.next_message(ada)
    assert "reply" in told.text.lower()
    assert [(await service.task(task["id"]))["state"] for task in tasks] == ["asked", "asked"]


async def test_the_outcome_of_a_written_answer_is_shown_in_the_question(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, text="Which version?", **WRITTEN))
    asked = await service.question_in(ada)
    await ada.says(None, "v1.2.3", reply_to=asked)
    assert (await asking).task(200)["state"] == "answered"
    await gate.until_edited(asked)
    assert asked.text.startswith("Which version?")
    assert ada.person.name in asked.text
    assert "v1.2.3" in asked.text


async def test_buttons_and_words_may_both_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = question(ada, input={"type": "text"})
    by_button = service.asking(body)
    await ada.taps(await gate.next_message(ada), "No")
    assert (await by_button).task(200)["answer"]["choice"] == "no"
    by_words = service.asking(body)
    await ada.says(None, "neither", reply_to=await service.question_in(ada))
    answer = (await by_words).task(200)["answer"]
    assert (answer["choice"], answer["text"]) == (None, "neither")


async def test_words_to_a_question_of_buttons_are_told_to_use_the_buttons(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    await ada.says(None, "yes!", reply_to=await gate.next_message(ada))
    assert "button" in (await gate.next_message(ada)).text.lower()
    assert (await service.task(task["id"]))["state"] == "asked"


async def test_a_late_reply_is_told_that_it_is_too_late(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada, **WRITTEN))
    asked = await gate.next_message(ada)
    (await service.call("DELETE", f"/v1/tasks/{task['id']}")).task(200)
    await ada.says(None, "too late", reply_to=asked)
    assert (await gate.next_message(ada)).text
    assert (await service.task(task["id"]))["state"] == "cancelled"


async def test_an_edited_reply_does_not_change_an_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, **WRITTEN))
    said = await ada.says(None, "first", reply_to=await service.question_in(ada))
    task = (await asking).task(200)
    await ada.edits(said, "second")
    later = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    await later
    assert (await service.task(task["id"]))["answer"]["text"] == "first"


async def test_in_a_group_only_a_reply_of_a_respondent_answers(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    body = question(group, respondents={"people": [ada.id]}, **WRITTEN)
    asking = service.asking(body)
    asked = await service.question_in(group)
    await mallory.says(group, "mine", reply_to=asked)
    assert (await gate.next_message(group)).text
    assert not asking.done()
    await ada.says(group, "hers", reply_to=asked)
    assert (await asking).task(200)["answer"]["text"] == "hers"


async def test_an_anonymous_admin_or_a_channel_cannot_write_an_answer(gate: Gate, service: Service) -> None:
    group = gate.group(gate.person())
    task = await service.asked(question(group, respondents={"anyone": True}, **WRITTEN))
    asked = await gate.next_message(group)
    chat = group_chat(group)
    reply = {"message_id": asked.id, "date": 1, "chat": chat, "text": "?"}
    anonymous = {"id": GROUP_ANONYMOUS_BOT, "is_bot": True, "first_name": "Group"}
    channel_bot = {"id": 136817688, "is_bot": True, "first_name": "Channel"}
    channel = {"id": -1005, "type": "channel", "title": "News"}
    for sender, on_behalf in ((anonymous, chat), (channel_bot, channel)):
        update = text_update(sender, chat, "aye", sender_chat=on_behalf, reply_to_message=reply)
        assert (await gate.webhook(update)).status == 200
    assert (await service.task(task["id"]))["state"] == "asked"


# Who may answer


async def test_a_group_needs_respondents(gate: Gate, service: Service) -> None:
    group = gate.group(gate.person())
    assert (await service.ask(question(group))).pointers() == {"/respondents"}
    nobodies: list[Json] = [{}, {"people": []}, {"people": [], "roles": []}, {"anyone": False}]
    for nobody in nobodies:
        response = await service.ask(question(group, respondents=nobody))
        assert any(pointer.startswith("/respondents") for pointer in response.pointers())
    assert gate.sends(group) == 0


async def test_an_empty_list_is_refused_in_a_private_chat_too(gate: Gate, service: Service) -> None:
    ada = gate.person()
    response = await service.ask(question(ada, respondents={"people": []}))
    assert any(pointer.startswith("/respondents") for pointer in response.pointers())


async def test_anyone_means_anyone(gate: Gate, service: Service) -> None:
    ada, grace = gate.person(), gate.person()
    group = gate.group(ada, grace)
    asking = service.asking(question(group, respondents={"anyone": True}))
    await grace.taps(await gate.next_message(group), "Yes")
    assert (await asking).task(200)["answer"]["by"]["id"] == grace.id


async def test_a_role_names_respondents_and_the_roles_that_include_it(gate: Gate, service: Service) -> None:
    ada, grace, mallory = gate.sandbox.person(815), gate.sandbox.person(4711), gate.person()
    group = gate.group(ada, grace, mallory)
    operators = service.asking(question(group, respondents={"roles": ["operator"]}))
    asked = await gate.next_message(group)
    for outsider in (mallory, grace):
        assert (await (await outsider.taps(asked, "Yes")).answered()).alert
    await ada.taps(asked, "Yes")
    assert (await operators).task(200)["answer"]["by"] == {
        "id": 815,
        "username": "ada",
        "name": "Ada Lovelace",
    }
    viewers = service.asking(question(group, respondents={"roles": ["viewer"]}))
    await ada.taps(await gate.next_message(group), "No")
    assert (await viewers).task(200)["answer"]["by"]["id"] == 815


@pytest.mark.parametrize("role", ["captain", "nobody"])
async def test_a_role_that_does_not_exist_or_that_nobody_has_is_refused(
    gate: Gate, service: Service, role: str
) -> None:
    response = await service.ask(question(gate.group(gate.person()), respondents={"roles": [role]}))
    assert any(pointer.startswith("/respondents/roles") for pointer in response.pointers())


async def test_people_and_roles_may_both_answer(gate: Gate, service: Service) -> None:
    grace, alan = gate.sandbox.person(4711), gate.person()
    group = gate.group(grace, alan)
    asking = service.asking(question(group, respondents={"people": [alan.id], "roles": ["viewer"]}))
    await grace.taps(await gate.next_message(group), "Yes")
    assert (await asking).task(200)["answer"]["by"]["id"] == 4711


# The end without an answer


async def test_a_question_that_nobody_answers_expires_and_its_message_says_so(
    gate: Gate, service: Service
) -> None:
    ada, grace = gate.person(), gate.person()
    without = service.asking(question(ada, expires_in=5))
    with_choice = service.asking(question(grace, expires_in=5, on_expiry={"choice": "no"}))
    asked, decided = await gate.next_message(ada), await gate.next_message(grace)
    plain, chosen = [response.task(200) for response in await asyncio.gather(without, with_choice)]
    assert (plain["state"], plain["answer"], plain["answers"]) == ("expired", None, [])
    assert chosen["state"] == "expired"
    answer = chosen["answer"]
    assert (answer["choice"], answer["label"], answer["by"]) == ("no", "No", None)
    for message in (asked, decided):
        await gate.until_edited(message)
        assert message.buttons == []
        assert message.text != "Deploy build 1234?"
    assert "No" in decided.text.removeprefix("Deploy build 1234?")


@pytest.mark.parametrize("choice", ["maybe", "YES", "no "])
async def test_the_choice_on_expiry_has_to_be_an_option(gate: Gate, service: Service, choice: str) -> None:
    response = await service.ask(question(gate.person(), on_expiry={"choice": choice}))
    assert response.pointers() == {"/on_expiry/choice"}


async def test_on_expiry_may_be_null(gate: Gate, service: Service) -> None:
    assert (await service.asked(question(gate.person(), on_expiry=None)))["state"] == "asked"


async def test_cancelling_edits_the_message_and_wakes_who_waits(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada), key="k")
    asked = await gate.next_message(ada)
    task_id = (await service.ask(question(ada), key="k", prefer="respond-async")).task(202)["id"]
    await service.until(task_id, "asked")
    cancelled = (await service.call("DELETE", f"/v1/tasks/{task_id}")).task(200)
    assert (cancelled["state"], cancelled["answer"]) == ("cancelled", None)
    assert (await asking).task(200)["state"] == "cancelled"
    await gate.until_edited(asked)
    assert asked.buttons == []
    assert asked.text.startswith("Deploy build 1234?")


async def test_options_or_an_input_have_to_be_given(gate: Gate, service: Service) -> None:
    ada = gate.person()
    for body in ({"chat": ada.id, "text": "?"}, {"chat": ada.id, "text": "?", "options": []}):
        assert (await service.ask(body)).pointers() <= {"/options", "/input", ""}
    assert gate.sends(ada) == 0


async def test_every_wrong_field_of_a_question_is_told_at_once(gate: Gate, service: Service) -> None:
    body = {
        "text": "",
        "format": "bbcode",
        "topic": "7",
        "silent": "yes",
        "options": [
            {"id": "a b", "label": ""},
            {"id": "ok", "label": "x" * 65, "style": "blue"},
            {"label": "no id", "colour": "red"},
        ],
        "respondents": {"people": ["ada"]},
        "expires_in": 4,
        "metadata": {"k": 1},
        "quroum": 2,
    }
    assert (await service.ask(body)).pointers() == {
        "/chat",
        "/text",
        "/format",
        "/topic",
        "/silent",
        "/options/0/id",
        "/options/0/label",
        "/options/1/label",
        "/options/1/style",
        "/options/2/id",
        "/options/2/colour",
        "/respondents/people/0",
        "/expires_in",
        "/metadata/k",
        "/quroum",
    }


async def test_ids_of_options_are_unique(gate: Gate, service: Service) -> None:
    options = [{"id": "yes", "label": "Yes"}, {"id": "yes", "label": "Also yes"}]
    response = await service.ask(question(gate.person(), options=options))
    assert any(pointer.startswith("/options") for pointer in response.pointers())


async def test_one_option_more_than_fifty_is_refused(gate: Gate, service: Service) -> None:
    options = [{"id": f"o{number}", "label": "x"} for number in range(51)]
    assert (await service.ask(question(gate.person(), options=options))).pointers() == {"/options"}


async def test_the_bot_asks_a_person_of_the_group_even_when_the_name_comes_from_the_alias(
    gate: Gate, service: Service
) -> None:
    ada = gate.sandbox.person(815)
    asking = service.asking(question("ops", respondents={"people": [815]}, topic=7))
    asked = await gate.next_message(-1001234567890)
    assert asked.topic == 7
    await ada.taps(asked, "Yes")
    task = (await asking).task(200)
    assert task["chat"] == {"id": -1001234567890, "alias": "ops", "topic": 7}


async def test_words_of_somebody_who_is_asked_nothing_get_a_friendly_answer(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    update = text_update(person_of(ada), {"id": ada.id, "type": "private", "first_name": "A"}, "hello?")
    assert (await gate.webhook(update)).status == 200
    assert (await gate.next_message(ada)).text
