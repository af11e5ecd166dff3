"""What Telegram refuses never reaches it: it is shown another way, or refused at the door with its place."""

from __future__ import annotations

import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_ADDRESSES = [
    "http://jenkins:8080/job/1",
    "http://localhost",
    "https://localhost:3000/x",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:port/",
    "https://[::g]/",
    "ftp://example.com/a",
]


async def sent_task(service: Service, body: Json) -> Json:
    task = (await service.send(body)).task(200)
    assert task["state"] == "sent", task["error"]
    return task


@pytest.mark.parametrize("address", NO_ADDRESSES)
async def test_markdown_shows_an_address_that_telegram_does_not_open(
    gate: Gate, service: Service, address: str
) -> None:
    ada = gate.person()
    text = f"[job]({address}), ![shot]({address}), [log][1], <{address}>\n\n[1]: {address}"
    await sent_task(service, message(ada, text, format="markdown"))
    arrived = await gate.next_message(ada)
    assert arrived.text == f"job ({address}), shot ({address}), log ({address}), {address}"
    assert "text_link" not in [each.type for each in arrived.entities]


@pytest.mark.parametrize("address", NO_ADDRESSES)
async def test_html_with_an_address_that_telegram_does_not_open_is_refused_with_its_place(
    gate: Gate, service: Service, address: str
) -> None:
    ada = gate.person()
    body = message(ada, f'Look:\nthe <a href="{address}">job</a>', format="html")
    for response in (await service.send(body), await service.ask(question(ada, **_text_of(body)))):
        (error,) = response.problem("invalid")["errors"]
        assert error["pointer"] == "/text"
        assert error["detail"].startswith("Line 2, column 5: a link needs an address")
    assert gate.sends(ada) == 0


def _text_of(body: Json) -> Json:
    return {"text": body["text"], "format": body["format"]}


async def test_more_formatting_than_one_message_holds_becomes_several(gate: Gate, service: Service) -> None:
    ada = gate.person()
    addresses = [f"https://example.com/{number:02}/".ljust(446, "x") for number in range(25)]
    text = " ".join(f"[link]({address})" for address in addresses)
    await sent_task(service, message(ada, text, format="markdown"))
    sent = gate.sandbox.chat(ada.id).messages
    assert len(sent) == 2
    assert [each.url for one in sent for each in one.entities if each.type == "text_link"] == addresses


async def test_twenty_long_links_stay_one_message(gate: Gate, service: Service) -> None:
    ada = gate.person()
    link = f'<a href="{"https://example.com/".ljust(446, "x")}">link</a>'
    await sent_task(service, message(ada, " ".join([link] * 20), format="html"))
    assert len(gate.sandbox.chat(ada.id).messages) == 1


BLANKS = ["\u200b", "\u2060\u200d", "\u00ad", "\u3164", "\u2800", "\ufeff", "\ufffc", "\ufe0f", "\U000e0041"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
async def test_what_nobody_can_see_is_refused(gate: Gate, service: Service, blank: str) -> None:
    ada = gate.person()
    link = {"text": blank, "url": "https://example.com/"}
    option = {"id": "yes", "label": blank}
    for style, text in (("plain", blank), ("html", f"<b>{blank}</b>"), ("markdown", f"**{blank}**")):
        assert (await service.send(message(ada, text, format=style))).pointers() == {"/text"}
    assert (await service.send(message(ada, buttons=[[link]]))).pointers() == {"/buttons/0/0/text"}
    assert (await service.ask(question(ada, options=[option]))).pointers() == {"/options/0/label"}
    assert gate.sends(ada) == 0


async def test_a_part_that_nobody_could_see_is_left_out(gate: Gate, service: Service) -> None:
    ada = gate.person()
    await sent_task(service, message(ada, "a" * 4096 + "\u200b" * 9000 + "b"))
    shown = [each.text.strip("\u200b") for each in gate.sandbox.chat(ada.id).messages]
    assert shown == ["a" * 4096, "b"]


async def test_the_general_topic_takes_messages_and_questions(gate: Gate, service: Service) -> None:
    ada = gate.person()
    group = gate.group(ada, topics={7: "Deploys"})
    task = await sent_task(service, message(group, "Hello", topic=1))
    assert task["chat"]["topic"] == 1
    assert (await gate.next_message(group)).topic is None
    asking = service.asking(question(group, respondents={"people": [ada.id]}, topic=1))
    await ada.taps(await gate.next_message(group), "Yes")
    assert (await asking).task(200)["chat"]["topic"] == 1


async def test_a_time_that_every_reader_sees_in_the_own_zone_arrives(gate: Gate, service: Service) -> None:
    ada = gate.person()
    text = 'Deploy <tg-time unix="1647531900" format="wDT">at 22:45</tg-time>'
    await sent_task(service, message(ada, text, format="html"))
    await sent_task(
        service,
        message(ada, "Deploy ![at 22:45](tg://time?unix=1647531900&format=wDT)", format="markdown"),
    )
    for arrived in gate.sandbox.chat(ada.id).messages:
        (entity,) = arrived.entities
        assert (arrived.text, entity.type) == ("Deploy at 22:45", "date_time")
        assert (entity.unix_time, entity.date_time_format) == (1647531900, "wDT")


async def test_a_table_becomes_something_that_fits_a_phone(gate: Gate, service: Service) -> None:
    ada = gate.person()
    narrow = "| Job | State |\n|---|:-:|\n| build | ok |\n| deploy | failed |"
    await sent_task(service, message(ada, narrow, format="markdown"))
    arrived = await gate.next_message(ada)
    assert arrived.text.split("\n") == ["Job     State", "build   ok", "deploy  failed"]
    assert [each.type for each in arrived.entities] == ["pre"]


@pytest.mark.parametrize(
    "sentence", ["**「重要」**です", "これは**「重要」**です", "**注意:**次へ", "**중요!**입니다"]
)
async def test_bold_beside_signs_of_east_asia_is_bold(gate: Gate, service: Service, sentence: str) -> None:
    ada = gate.person()
    await sent_task(service, message(ada, sentence, format="markdown"))
    arrived = await gate.next_message(ada)
    assert arrived.text == sentence.replace("*", "")
    assert [each.type for each in arrived.entities] == ["bold"]
