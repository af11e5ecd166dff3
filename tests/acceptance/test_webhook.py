"""Telegram's updates: only Telegram's, each once, in any order, and none of them blocks a chat."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest
from multidict import CIMultiDict

from tests.acceptance.contract import Json, Response
from tests.acceptance.gateway import BOT_TOKEN, Gate, Service, derived_webhook_secret, question
from tests.acceptance.updates import group_chat, person_of, press_update, private_chat, text_update, update

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER = "X-Telegram-Bot-Api-Secret-Token"
PATH = "/telegram/webhook"
SECRET = derived_webhook_secret()


def quarantined(gate: Gate) -> list[tuple[int | None, str, bytes]]:
    """What the server has put aside, as its database tells it."""
    with sqlite3.connect(f"file:{gate.server.database}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT update_id, reason, raw FROM telegate_quarantine").fetchall()
    database.close()
    return rows


FORGERIES: list[list[tuple[str, str]]] = [
    [],
    [(HEADER, "")],
    [(HEADER, "wrong")],
    [(HEADER, SECRET[:-1])],
    [(HEADER, SECRET + "0")],
    [(HEADER, SECRET.upper())],
    [(HEADER, BOT_TOKEN)],
    [(HEADER, "é" * 32)],
    [(HEADER, SECRET), (HEADER, SECRET)],
    [(HEADER, "wrong"), (HEADER, SECRET)],
    [(HEADER, f"{SECRET},{SECRET}")],
    [("Authorization", f"Bearer {SECRET}")],
]


@pytest.mark.parametrize("headers", FORGERIES)
async def test_an_update_without_the_secret_has_no_effect(
    gate: Gate, service: Service, headers: list[tuple[str, str]]
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    forged = press_update(person_of(ada), private_chat(ada), asked.id, asked.button("Yes").data)
    before = len(quarantined(gate))
    for body in (forged, b"nonsense"):
        response = await gate.request(
            "POST", PATH, data=body, headers=CIMultiDict([*headers, ("Content-Type", "application/json")])
        )
        response.problem("unauthenticated")
    assert (await service.task(task["id"]))["state"] == "asked"
    assert len(quarantined(gate)) == before
    assert asked.history == []


async def test_an_address_of_the_webhook_may_have_parameters(gate: Gate) -> None:
    ada = gate.person()
    said = text_update(person_of(ada), private_chat(ada), "/help")
    response = await gate.request("POST", f"{PATH}?x=1", data=said, headers={HEADER: SECRET})
    assert response.status == 200, response.told()
    assert "/whoami" in (await gate.next_message(ada)).text


async def test_a_service_s_token_opens_no_webhook(gate: Gate, service: Service) -> None:
    (await service.call("POST", PATH, {"update_id": 1})).problem("unauthenticated")


async def test_the_same_press_a_hundred_times_is_one_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    pressed = press_update(person_of(ada), private_chat(ada), asked.id, asked.button("Yes").data)
    responses = await asyncio.gather(*(gate.webhook(pressed) for _ in range(100)))
    assert {response.status for response in responses} == {200}
    task = (await asking).task(200)
    assert len(task["answers"]) == 1
    await gate.until_edited(asked)
    assert len(gate.sandbox.calls.of("editMessageText", ada.id)) == 1


async def test_the_same_message_a_hundred_times_is_one_reply(gate: Gate) -> None:
    ada = gate.person()
    said = text_update(person_of(ada), private_chat(ada), "/whoami")
    responses = await asyncio.gather(*(gate.webhook(said) for _ in range(100)))
    assert {response.status for response in responses} == {200}
    assert str(ada.id) in (await gate.next_message(ada)).text
    await ada.says(None, "/help")
    assert "/whoami" in (await gate.next_message(ada)).text
    assert gate.sends(ada) == 2


async def test_telegram_s_own_repetition_has_one_effect(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    gate.sandbox.fault("duplicate_update")
    await ada.taps(asked, "Yes")
    assert len((await asking).task(200)["answers"]) == 1


async def test_updates_out_of_order_are_each_valid_alone(gate: Gate, service: Service) -> None:
    ada = gate.person()
    gate.sandbox.fault("reorder_updates")
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    await ada.says(None, "/whoami")
    await ada.taps(asked, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    assert str(ada.id) in (await gate.next_message(ada)).text


async def test_a_smaller_update_id_than_the_last_is_no_repetition(gate: Gate) -> None:
    ada = gate.person()
    for number in (2_000_000_001, 1_000_000_001, 3):
        body = json.loads(text_update(person_of(ada), private_chat(ada), "/whoami"))
        await gate.webhook(json.dumps({**body, "update_id": number}).encode())
        assert str(ada.id) in (await gate.next_message(ada)).text


UNREADABLE = {
    "no JSON": b"nonsense",
    "nothing": b"",
    "not UTF-8": b'{"update_id": 5, "message": "\xff"}',
    "a list": b"[1, 2]",
    "a string": b'"update"',
    "no id": b'{"message": {"text": "hello"}}',
    "an id that is a text": b'{"update_id": "7"}',
    "a message that is null": b'{"update_id": 900000001, "message": null}',
    "a message that is a number": b'{"update_id": 900000002, "message": 7}',
    "a message without anything": b'{"update_id": 900000003, "message": {}}',
    "a press without anything": b'{"update_id": 900000004, "callback_query": {"id": "1"}}',
    "a press whose sender is null": b'{"update_id": 900000005, "callback_query": {"id": "1", "from": null}}',
    "NaN": b'{"update_id": 900000006, "message": NaN}',
    "deep": b'{"update_id": 900000007, "message": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "100,000 digits": b'{"update_id": ' + b"9" * 100_000 + b"}",
    "a lone surrogate": b'{"update_id": 900000008, "message": {"text": "\\ud800"}}',
}


MUST_BE_KEPT = {"no JSON", "not UTF-8", "a list", "no id", "a press without anything"}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_an_update_that_cannot_be_read_is_taken_and_put_aside_once(gate: Gate, what: str) -> None:
    for _ in range(3):
        assert (await gate.webhook(UNREADABLE[what])).status == 200
    kept = [reason for _, reason, raw in quarantined(gate) if raw and UNREADABLE[what].startswith(bytes(raw))]
    assert len(kept) == 1 or what not in MUST_BE_KEPT
    assert all(kept)


STRANGE: list[Json] = [
    {"from_the_future": {"text": "hello"}},
    {"poll": {"id": "1"}},
    {"edited_message": {"message_id": 1, "date": 1, "chat": {"id": 1, "type": "private"}, "text": "x"}},
    {"channel_post": {"message_id": 1, "date": 1, "chat": {"id": -5, "type": "channel"}, "text": "/help"}},
    {"my_chat_member": {}},
    {},
]


@pytest.mark.parametrize("content", STRANGE)
async def test_an_update_that_means_nothing_to_us_is_taken(gate: Gate, content: Json) -> None:
    assert (await gate.webhook(update(**content))).status == 200


async def test_a_poisoned_update_does_not_block_its_chat(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    for body in UNREADABLE.values():
        assert (await gate.webhook(body)).status == 200
    await ada.taps(asked, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_an_update_over_one_mebibyte_is_too_large(gate: Gate) -> None:
    body = update(message={"text": "x" * (1 << 20)})
    (await gate.webhook(body)).problem("too_large")


async def test_an_update_just_below_one_mebibyte_is_taken(gate: Gate) -> None:
    body = update(message={"text": "x" * ((1 << 20) - 500)})
    assert (await gate.webhook(body)).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_the_webhook_takes_posts_only(gate: Gate, method: str) -> None:
    response = await gate.request(method, PATH, headers={HEADER: SECRET})
    response.problem("method_not_allowed")
    assert "POST" in response.headers["Allow"]


async def test_a_path_that_only_looks_like_the_webhook_is_none(gate: Gate) -> None:
    for path in (f"{PATH}/", f"{PATH}/{BOT_TOKEN}", "/telegram", "/webhook"):
        (await gate.request("POST", path, data=b"{}", headers={HEADER: SECRET})).problem("not_found")


async def test_the_log_tells_whose_update_it_was_and_what_became_of_it(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    asked = text_update(person_of(ada), private_chat(ada), "/whoami")
    chatter = text_update(person_of(ada), group_chat(group), "hello all")
    sticker = update(poll={"id": "1"})
    broken = update(message={"chat": "?"})
    expected = [
        (asked, ada.id, "taken"),
        (asked, ada.id, "duplicate"),
        (chatter, ada.id, "ignored"),
        (sticker, None, "ignored"),
        (broken, None, "quarantined"),
    ]
    for body, person, effect in expected:
        response = await gate.webhook(body)
        line = await gate.line_about(response.headers["X-Request-Id"])
        told = {name: line[name] for name in ("update", "person", "effect")}
        assert told == {"update": json.loads(body)["update_id"], "person": person, "effect": effect}


async def test_the_answer_to_an_update_holds_no_method_call(gate: Gate) -> None:
    ada = gate.person()
    response: Response = await gate.webhook(text_update(person_of(ada), private_chat(ada), "/whoami"))
    assert b"method" not in response.body
    assert str(ada.id) in (await gate.next_message(ada)).text


async def test_while_the_database_is_locked_nothing_is_acknowledged_and_nothing_is_lost(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    lock = sqlite3.connect(gate.server.database, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        await ada.taps(asked, "Yes")
        asking = service.asking(question(ada), key="k")
        said = gate.begin(gate.webhook(text_update(person_of(ada), private_chat(ada), "/whoami")))
        assert (await gate.request("GET", "/healthz")).status == 200
        refused = [await asking, await said]
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    assert {response.document["code"] for response in refused} == {"storage_unavailable"}
    line = await gate.line_about(refused[1].headers["X-Request-Id"])
    assert (line["status"], line["person"], line["effect"]) == (503, ada.id, "refused")
    assert all(int(response.headers["Retry-After"]) >= 1 for response in refused)
    assert (await service.until(task["id"], "answered"))["answer"]["choice"] == "yes"
    again = (await service.ask(question(ada), key="k", prefer="respond-async")).task(202)
    await service.until(again["id"], "asked")
    assert gate.sends(ada) == 2


async def test_a_group_s_chatter_is_none_of_our_business(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    for text in ("hello all", "/deploy@another_bot", "/unknown_to_us"):
        await gate.webhook(text_update(person_of(ada), group_chat(group), text))
    await ada.says(group, "/whoami")
    assert str(ada.id) in (await gate.next_message(group)).text
    assert gate.sends(group) == 1
