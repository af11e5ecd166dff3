"""Messages: what arrives in the chat is what was sent; edits and deletions; nothing is ever cut."""

from __future__ import annotations

from typing import Any

import pytest

from infra.sandbox.world import Keyboard, Message
from tests.acceptance.contract import Json, time_of
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


def types_of(sent: Message) -> list[str]:
    return [entity.type for entity in sent.entities]


async def sent_task(service: Service, body: Json) -> Json:
    task = (await service.send(body)).task(200)
    assert task["state"] == "sent"
    return task


async def test_a_message_arrives_and_the_task_says_so(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada, "Build 1234 is green.", metadata={"build": "1234"}))
    arrived = await gate.next_message(ada)
    assert arrived.text == "Build 1234 is green."
    assert arrived.markup is None
    assert not arrived.silent
    assert not arrived.protected
    assert arrived.link_preview is None or arrived.link_preview.get("is_disabled")
    assert (task["kind"], task["message_ids"]) == ("message", [arrived.id])
    assert (task["answer"], task["answers"], task["error"]) == (None, [], None)
    assert task["metadata"] == {"build": "1234"}
    assert task["chat"] == {"id": ada.id, "alias": None, "topic": None}
    lifetime = time_of(task["expires_at"]) - time_of(task["created_at"])
    assert lifetime.total_seconds() == pytest.approx(3600, abs=1)
    assert await service.task(task["id"]) == task


async def test_an_alias_names_a_chat_and_the_task_tells_both(gate: Gate, service: Service) -> None:
    task = await sent_task(service, message("ops"))
    assert task["chat"] == {"id": -1001234567890, "alias": "ops", "topic": None}
    by_id = await sent_task(service, message(-1001234567890))
    assert by_id["chat"] == task["chat"]


async def test_plain_text_stays_plain_whatever_it_looks_like(gate: Gate, service: Service) -> None:
    ada = gate.person()
    text = "<b>bold</b> *and* _so_ on & [a](http://b.c) `x` \\ 🎉 é"
    await sent_task(service, message(ada, text))
    arrived = await gate.next_message(ada)
    assert arrived.text == text
    assert set(types_of(arrived)) <= {"url"}


MARKUP = [
    (
        "html",
        "<b>Build</b> <i>1234</i> &amp; <code>make</code>",
        "Build 1234 & make",
        ["bold", "italic", "code"],
    ),
    ("html", '<a href="https://example.com/">here</a>', "here", ["text_link"]),
    ("html", "<pre>a\nb</pre>", "a\nb", ["pre"]),
    ("markdown", "**Build** *1234* `make`", "Build 1234 make", ["bold", "italic", "code"]),
    ("markdown", "[here](https://example.com/)", "here", ["text_link"]),
    ("markdown", "```\na\nb\n```", "a\nb", ["pre"]),
    ("markdown", "2 * 3 = 6 and snake_case_name", "2 * 3 = 6 and snake_case_name", []),
]


@pytest.mark.parametrize("example", MARKUP, ids=lambda example: example[1])
async def test_markup_becomes_what_telegram_shows(
    gate: Gate, service: Service, example: tuple[str, str, str, list[str]]
) -> None:
    style, text, shown, entities = example
    ada = gate.person()
    await sent_task(service, message(ada, text, format=style))
    arrived = await gate.next_message(ada)
    assert arrived.text.strip() == shown
    assert sorted(types_of(arrived)) == sorted(entities)


@pytest.mark.parametrize(
    "text",
    ["<b>open", "<blink>x</blink>", "</b>", "<b><i>x</b></i>", "<a href=>x", "a < b", '<b class="x">y'],
)
async def test_markup_that_telegram_would_refuse_is_refused_with_its_place(
    gate: Gate, service: Service, text: str
) -> None:
    ada = gate.person()
    response = await service.send(message(ada, text, format="html"))
    assert response.pointers() == {"/text"}
    assert gate.sends(ada) == 0


async def test_silent_protect_and_preview_are_passed_on(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = message(ada, "https://example.com/", silent=True, protect=True, preview=True)
    await sent_task(service, body)
    arrived = await gate.next_message(ada)
    assert arrived.silent
    assert arrived.protected
    assert arrived.link_preview is None or not arrived.link_preview.get("is_disabled")


async def test_a_link_gets_no_preview_unless_it_is_asked_for(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await sent_task(service, message(ada, "https://example.com/"))
    arrived = await gate.next_message(ada)
    assert arrived.link_preview is not None
    assert arrived.link_preview["is_disabled"] is True


async def test_a_message_goes_to_its_topic(gate: Gate, service: Service) -> None:
    group = gate.group(gate.person(), topics={7: "Deploys"})
    task = await sent_task(service, message(group, topic=7))
    assert (await gate.next_message(group)).topic == 7
    assert task["chat"]["topic"] == 7


async def test_a_topic_that_is_not_there_is_told_in_telegram_s_words(gate: Gate, service: Service) -> None:
    group = gate.group(gate.person(), topics={7: "Deploys"})
    problem = (await service.send(message(group, topic=8))).problem("telegram_rejected")
    telegram = problem["task"]["error"]["telegram"]
    assert (telegram["error_code"], problem["task"]["state"]) == (400, "failed")
    assert "message thread not found" in telegram["description"].lower()


async def test_a_message_replies_to_another(gate: Gate, service: Service) -> None:
    ada = gate.person()
    said = await ada.says(None, "How is the build?")
    await sent_task(service, message(ada, reply_to=said.id))
    await gate.sandbox.wait_for(
        lambda: any(
            each.reply_to is said and each.text == "All is well."
            for each in gate.sandbox.chat(ada.id).messages
        )
    )


async def test_a_reply_to_a_message_that_is_not_there_is_refused_by_telegram(
    gate: Gate, service: Service
) -> None:
    problem = (await service.send(message(gate.person(), reply_to=999_999))).problem("telegram_rejected")
    assert problem["task"]["error"]["telegram"]["error_code"] == 400


async def test_link_buttons_stand_in_their_rows(gate: Gate, service: Service) -> None:
    ada = gate.person()
    rows = [
        [{"text": "Log", "url": "https://example.com/log"}, {"text": "Diff", "url": "https://example.com/d"}],
        [{"text": "All", "url": "https://example.com/"}],
    ]
    await sent_task(service, message(ada, buttons=rows))
    arrived = await gate.next_message(ada)
    assert isinstance(arrived.markup, Keyboard)
    assert [[button.text for button in row] for row in arrived.rows] == [["Log", "Diff"], ["All"]]
    assert [button.raw["url"] for button in arrived.buttons] == [each["url"] for row in rows for each in row]


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://example.com",
        "http://example.com:8080/a?b=c#d",
        "https://[::1]/",
        "https://bücher.example/",
        "tg://user?id=815",
        "TG://resolve?domain=x",
        "ton://transfer",
    ],
)
async def test_a_button_opens_whatever_telegram_opens(gate: Gate, service: Service, url: str) -> None:
    ada = gate.person()
    await sent_task(service, message(ada, buttons=[[{"text": "Open", "url": url}]]))
    assert (await gate.next_message(ada)).labels == ["Open"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "https://",
        "https://x",
        "http://localhost",
        "http://localhost:8080/a.b",
        "http://jenkins:8080/job/1",
        "https://localhost./",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://[::g]/",
        "https://exa^mple.com/",
        "mailto:ada@example.com",
        "https://user.name@x/",
        "https://[",
        "https://😀",
        "https://example.com:port/",
        "https://example.com/a b",
        "https://example.com/\n",
        "tg://",
    ],
)
async def test_a_button_s_address_that_telegram_would_refuse_is_refused_in_words(
    gate: Gate, service: Service, url: str
) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada))
    rows = [[{"text": "Open", "url": url}]]
    for response in (
        await service.send(message(ada, buttons=rows)),
        await service.call("PATCH", f"/v1/messages/{task['id']}", {"text": "?", "buttons": rows}),
    ):
        (error,) = response.problem("invalid")["errors"]
        assert error["pointer"] == "/buttons/0/0/url"
        assert error["detail"].startswith("Telegram opens no such address: write https://")
    assert gate.sends(ada) == 1


LINK = {"text": "Log", "url": "https://example.com/"}


@pytest.mark.parametrize(
    "buttons",
    [
        [[{**LINK, "url": f"https://example.com/{'x' * 90}"}] * 8] * 13,
        [[{**LINK, "url": f"https://example.com/{chr(34) * 2000}"}]] * 3,
        [[LINK] * 8] * 13,
        [[{**LINK, "text": "😀" * 64}] * 8] * 10,
    ],
    ids=["long addresses", "signs that are escaped", "too many", "long texts"],
)
async def test_buttons_that_are_too_much_for_one_message_are_refused(
    gate: Gate, service: Service, buttons: Json
) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada))
    response = await service.send(message(ada, buttons=buttons))
    assert response.pointers() == {"/buttons"}
    edit = await service.call("PATCH", f"/v1/messages/{task['id']}", {"text": "?", "buttons": buttons})
    assert edit.pointers() == {"/buttons"}
    assert gate.sends(ada) == 1


async def test_as_many_buttons_as_telegram_takes_arrive(gate: Gate, service: Service) -> None:
    ada = gate.person()
    link = {"text": "L" * 10, "url": f"https://example.com/{'x' * 38}"}
    await sent_task(service, message(ada, buttons=[[link] * 8] * 12 + [[link] * 4]))
    assert len((await gate.next_message(ada)).buttons) == 100


@pytest.mark.parametrize("blank", [" ", "\n", "\u00a0\u2003", "\u202a", "\u200b\u2060", "\u3164", "\ufe0f"])
async def test_a_label_that_shows_nothing_is_refused(gate: Gate, service: Service, blank: str) -> None:
    ada = gate.person()
    link = message(ada, buttons=[[{**LINK, "text": blank}]])
    asked = question(
        ada, options=[{"id": "yes", "label": blank}], input={"type": "text", "placeholder": blank}
    )
    assert (await service.send(link)).pointers() == {"/buttons/0/0/text"}
    problem = (await service.ask(asked)).problem("invalid")
    sentence = "There is nothing to read in this; write something."
    assert {each["pointer"]: each["detail"] for each in problem["errors"]} == {
        "/options/0/label": sentence,
        "/input/placeholder": sentence,
    }
    assert gate.sends(ada) == 0


@pytest.mark.parametrize("length", [4096, 4097, 20_000, 32_768])
async def test_a_long_text_is_split_and_nothing_is_lost(gate: Gate, service: Service, length: int) -> None:
    ada = gate.person()
    words = " ".join(f"word{number}" for number in range(length))[:length]
    text = words if words[-1] != " " else words[:-1] + "."
    task = await sent_task(service, message(ada, text))
    parts = [each for each in gate.sandbox.chat(ada.id).messages if each.id in task["message_ids"]]
    assert [part.id for part in parts] == task["message_ids"]
    assert len(parts) >= -(-length // 4096)
    assert (len(parts) == 1) == (length == 4096)
    assert all(1 <= len(part.text) <= 4096 for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "".join(text.split())


async def test_a_long_text_without_any_space_is_split_without_loss(gate: Gate, service: Service) -> None:
    ada = gate.person()
    text = "🎉é" * 5000
    task = await sent_task(service, message(ada, text))
    parts = [each for each in gate.sandbox.chat(ada.id).messages if each.id in task["message_ids"]]
    assert "".join(part.text for part in parts) == text


async def test_markup_survives_a_split(gate: Gate, service: Service) -> None:
    ada = gate.person()
    text = "<b>" + "strong words " * 700 + "</b>"
    task = await sent_task(service, message(ada, text, format="html"))
    parts = [each for each in gate.sandbox.chat(ada.id).messages if each.id in task["message_ids"]]
    assert len(parts) > 1
    assert all(types_of(part) == ["bold"] for part in parts)
    assert "".join("".join(part.text.split()) for part in parts) == "strongwords" * 700


async def test_buttons_of_a_long_message_stand_under_its_last_part(gate: Gate, service: Service) -> None:
    ada = gate.person()
    rows = [[{"text": "Log", "url": "https://example.com/log"}]]
    task = await sent_task(service, message(ada, "word " * 2000, buttons=rows))
    parts = [each for each in gate.sandbox.chat(ada.id).messages if each.id in task["message_ids"]]
    assert [part.labels for part in parts] == [[]] * (len(parts) - 1) + [["Log"]]


async def test_patch_edits_text_markup_and_buttons(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada, "Building …"))
    arrived = await gate.next_message(ada)
    rows = [[{"text": "Log", "url": "https://example.com/log"}]]
    body = {"text": "**Built**", "format": "markdown", "buttons": rows}
    edit = (await service.call("PATCH", f"/v1/messages/{task['id']}", body)).task(200)
    assert (edit["kind"], edit["state"], edit["of"]) == ("edit", "sent", task["id"])
    assert edit["id"] != task["id"]
    assert edit["chat"] == task["chat"]
    assert (arrived.text, types_of(arrived), arrived.labels) == ("Built", ["bold"], ["Log"])
    assert len(gate.sandbox.chat(ada.id).messages) == 1
    assert await service.task(edit["id"]) == edit


async def test_an_edit_that_changes_nothing_is_success(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada, "Same"))
    edit = await service.call("PATCH", f"/v1/messages/{task['id']}", {"text": "Same"})
    assert edit.task(200)["state"] == "sent"
    call = gate.sandbox.calls.of("editMessageText", ada.id)[-1]
    assert "message is not modified" in call.outcome


async def test_delete_takes_a_message_away_with_all_its_parts(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada, "word " * 2000))
    assert len(gate.sandbox.chat(ada.id).messages) == len(task["message_ids"]) > 1
    deletion = (await service.call("DELETE", f"/v1/messages/{task['id']}")).task(200)
    assert (deletion["kind"], deletion["state"], deletion["of"]) == ("deletion", "sent", task["id"])
    assert gate.sandbox.chat(ada.id).messages == []


async def test_an_edit_of_a_message_that_is_gone_fails_in_telegram_s_words(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada))
    (await service.call("DELETE", f"/v1/messages/{task['id']}")).task(200)
    problem = (await service.call("PATCH", f"/v1/messages/{task['id']}", {"text": "?"})).problem(
        "telegram_rejected"
    )
    assert "not found" in problem["task"]["error"]["telegram"]["description"]


CORRECTIONS: list[tuple[str, Any]] = [("PATCH", {"text": "Mine now"}), ("DELETE", None)]


@pytest.mark.parametrize(("method", "body"), CORRECTIONS)
async def test_another_service_s_message_is_not_found(
    gate: Gate, service: Service, method: str, body: Json
) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada, "Mine"))
    (await gate.service().call(method, f"/v1/messages/{task['id']}", body)).problem("not_found")
    assert (await gate.next_message(ada)).text == "Mine"


@pytest.mark.parametrize(("method", "body"), CORRECTIONS)
@pytest.mark.parametrize("message_id", ["tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H", "x", "4711", "%00", "..%2f", "é"])
async def test_a_message_that_does_not_exist_is_not_found(
    gate: Gate, service: Service, method: str, body: Json, message_id: str
) -> None:
    (await service.call(method, f"/v1/messages/{message_id}", body)).problem("not_found")


@pytest.mark.parametrize(("method", "body"), CORRECTIONS)
async def test_a_question_is_no_message(gate: Gate, service: Service, method: str, body: Json) -> None:
    asked = await service.asked(question(gate.person()))
    (await service.call(method, f"/v1/messages/{asked['id']}", body)).problem("not_found")


@pytest.mark.parametrize(("method", "body"), CORRECTIONS)
async def test_a_message_that_failed_cannot_be_corrected(
    gate: Gate, service: Service, method: str, body: Json
) -> None:
    failed = (await service.send(message(1337))).problem("recipient_unreachable")["task"]
    (await service.call(method, f"/v1/messages/{failed['id']}", body)).problem("already_final")


async def test_what_stands_of_a_message_that_failed_half_way_can_be_deleted(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    # The answer to the first part comes when the fault is lifted; the second part is refused.
    with gate.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=60):
        sending = service.sending(message(ada, "word " * 2000))
        await gate.next_message(ada)
        gate.sandbox.fault(
            "error", method="sendMessage", chat=ada.id, status=400, description="CHAT_RESTRICTED"
        )
    task = (await sending).problem("telegram_rejected")["task"]
    path = f"/v1/messages/{task['id']}"
    assert (task["state"], len(task["message_ids"])) == ("failed", 1)
    assert f"The first of its 3 parts stands in the chat; DELETE {path}" in task["error"]["detail"]
    (await service.call("PATCH", path, {"text": "?"})).problem("already_final")
    deletion = (await service.call("DELETE", path)).task(200)
    assert (deletion["kind"], deletion["state"], deletion["of"]) == ("deletion", "sent", task["id"])
    assert gate.sandbox.chat(ada.id).messages == []


@pytest.mark.parametrize(
    ("style", "text"), [("plain", "\u00a0"), ("html", "<b>&#160;</b>"), ("markdown", "# &nbsp;")]
)
async def test_a_text_that_shows_nothing_is_refused(
    gate: Gate, service: Service, style: str, text: str
) -> None:
    ada = gate.person()
    task = await sent_task(service, message(ada))
    blank = {"text": text, "format": style}
    assert (await service.send(message(ada, **blank))).pointers() == {"/text"}
    assert (await service.ask(question(ada, **blank))).pointers() == {"/text"}
    assert (await service.call("PATCH", f"/v1/messages/{task['id']}", blank)).pointers() == {"/text"}
    assert gate.sends(ada) == 1


async def test_no_part_of_a_long_text_is_blank(gate: Gate, service: Service) -> None:
    ada = gate.person()
    text = "a" * 4096 + "\n" + "\u00a0" * 4096
    await sent_task(service, message(ada, text))
    await sent_task(service, message(ada, f"{text}b"))
    shown = [each.text.strip() for each in gate.sandbox.chat(ada.id).messages]
    assert shown == ["a" * 4096, "a" * 4096, "b"]


async def test_a_patch_says_all_that_is_wrong_with_its_body(gate: Gate, service: Service) -> None:
    task = await sent_task(service, message(gate.person()))
    body = {"text": "", "format": "rtf", "buttons": [[{"text": "x"}]], "silent": True}
    response = await service.call("PATCH", f"/v1/messages/{task['id']}", body)
    assert response.pointers() == {"/text", "/format", "/buttons/0/0/url", "/silent"}


async def test_the_first_reason_to_refuse_a_patch_is_the_one_that_is_told(
    gate: Gate, service: Service
) -> None:
    wrong, right = {"text": "<b>open", "format": "html"}, {"text": "Other"}
    narrow = service.with_roles("approver")
    path = f"/v1/messages/{(await sent_task(service, message(gate.person())))['id']}"
    (await service.call("PATCH", path, {"text": "Edited"}, key="k")).task(200)
    failed = (await service.send(message(1337))).problem("recipient_unreachable")["task"]
    for caller, of, key in (
        (narrow, path, "k"),
        (service, path, "k"),
        (service, f"/v1/messages/{failed['id']}", "f"),
    ):
        assert (await caller.call("PATCH", of, wrong, key=key)).pointers() == {"/text"}
    (await narrow.call("PATCH", path, right, key="k")).problem("chat_forbidden")
    (await service.call("PATCH", path, right, key="k")).problem("idempotency_mismatch")


async def test_a_group_that_became_a_supergroup_is_followed_and_remembered(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    group = gate.sandbox.add_group(-777_001, "Old", [ada], kind="group")
    supergroup = group.upgrade()
    await sent_task(service, message(group.id, "First"))
    await sent_task(service, message(group.id, "Second"))
    texts = [each.text for each in supergroup.messages if each.text]
    assert texts == ["First", "Second"]
    assert gate.sends(group.id) == 1
