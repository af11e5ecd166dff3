"""How messages and buttons look in the Bot API's JSON, where that is not plain."""

from __future__ import annotations

from typing import Any

import pytest

from core.ports import Button, Entity, FormattedText, Part
from infra.telegram.payloads import message_parameters


def markup(chat: int | str, text: str = "Why?", **fields: Any) -> Any:
    part = Part(FormattedText(text), reply_field="Your reason", **fields)
    return message_parameters(chat, None, part)["reply_markup"]


def test_a_reply_field_opens_with_its_placeholder() -> None:
    assert markup(815) == {"force_reply": True, "input_field_placeholder": "Your reason"}


@pytest.mark.parametrize(
    ("chat", "text", "fields", "selective"),
    [
        (-100, "Why?", {}, False),
        (-100, "Why, @grace?", {}, True),
        (-100, "Why, me@example.org?", {}, False),
        (-100, "Why?", {"reply_to": 3}, True),
        (815, "Why, @grace?", {}, False),
        ("@channel", "Why, @grace?", {}, True),
    ],
)
def test_in_a_group_the_reply_field_opens_for_those_who_are_addressed(
    chat: int | str, text: str, fields: dict[str, Any], selective: bool
) -> None:
    assert markup(chat, text, **fields).get("selective", False) is selective


def test_a_reply_field_without_placeholder_sends_none() -> None:
    part = Part(FormattedText("Why?"), reply_field="")
    assert message_parameters(815, None, part)["reply_markup"] == {"force_reply": True}


def test_buttons_and_a_reply_field_go_together() -> None:
    assert markup(815, keyboard=((Button("Skip", data="d"),),)) == {
        "inline_keyboard": [[{"text": "Skip", "callback_data": "d"}]],
        "force_reply": True,
    }


def test_people_and_emoji_are_named_by_their_ids() -> None:
    entities = (
        Entity("text_mention", 0, 3, url="tg://user?id=815"),
        Entity("custom_emoji", 4, 2, url="tg://emoji?id=5368324170671202286"),
        Entity("text_link", 7, 1, url="https://e.org"),
    )
    parameters = message_parameters(-100, None, Part(FormattedText("Ada 👍 x", entities), reply_field=""))
    assert parameters["entities"] == [
        {"type": "text_mention", "offset": 0, "length": 3, "user": {"id": 815}},
        {"type": "custom_emoji", "offset": 4, "length": 2, "custom_emoji_id": "5368324170671202286"},
        {"type": "text_link", "offset": 7, "length": 1, "url": "https://e.org"},
    ]
    assert parameters["reply_markup"]["selective"] is True
