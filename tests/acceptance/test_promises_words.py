"""What people write, and what services write as plain text, arrives as text: nobody formats for another."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRITTEN = {"options": [], "input": {"type": "text"}}
NASTY = "<b>bold</b> **bold** [here](tg://user?id=815) <a href='tg://user?id=815'>x</a> `code` ||x|| &lt;"
FOUND_BY_TELEGRAM = {"url", "email", "mention", "hashtag", "cashtag", "bot_command", "phone_number"}
"""What Telegram itself marks in any text; the gateway neither asks for it nor can forbid it."""


def formatted_by_us(gate: Gate, chat: int) -> list[list[str]]:
    """The formatting that each call of the gateway to this chat asked for."""
    asked = []
    for call in (each for each in gate.sandbox.calls if each.chat == chat):
        assert "parse_mode" not in call.parameters, call
        entities = call.parameters.get("entities", [])
        asked.append(
            [entity["type"] for entity in (json.loads(entities) if isinstance(entities, str) else entities)]
        )
    return asked


async def test_an_answer_full_of_markup_is_shown_as_it_was_written(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada, text="<b>Which</b> version?", format="html", **WRITTEN))
    asked = await service.question_in(ada)
    await ada.says(None, NASTY, reply_to=asked)
    assert (await asking).task(200)["answer"]["text"] == NASTY
    await gate.until_edited(asked)
    assert f"answered “{NASTY}” on " in asked.text
    assert [each.type for each in asked.entities if each.type not in FOUND_BY_TELEGRAM] == ["bold"]
    assert formatted_by_us(gate, ada.id) == [["bold"], ["bold"]]


async def test_a_name_full_of_markup_is_a_name_in_a_reply_too(gate: Gate) -> None:
    bobby = gate.person()
    bobby.person.first_name, bobby.person.last_name = "<b>Bobby</b>", "**[x](tg://user?id=815)**"
    await bobby.starts()
    welcome = await gate.next_message(bobby)
    assert welcome.text.startswith(f"Hello {bobby.person.name}!")
    assert {each.type for each in welcome.entities} <= FOUND_BY_TELEGRAM
    assert formatted_by_us(gate, bobby.id) == [[]]


async def test_a_plain_text_of_a_service_is_not_formatted(gate: Gate, service: Service) -> None:
    ada = gate.person()
    assert (await service.send(message(ada, NASTY))).task(200)["state"] == "sent"
    arrived = await gate.next_message(ada)
    assert arrived.text == NASTY
    assert {each.type for each in arrived.entities} <= FOUND_BY_TELEGRAM
    assert formatted_by_us(gate, ada.id) == [[]]
