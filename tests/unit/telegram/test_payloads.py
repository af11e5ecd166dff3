"""How messages and buttons look in the Bot API's JSON, where that is not plain."""

from __future__ import annotations

from core.model.part import Button, Entity, FormattedText, Part
from core.model.question import Style
from infra.telegram.payloads import message_parameters


def test_buttons_carry_their_data_their_address_and_their_style() -> None:
    rows = ((Button("Skip", data="d", style=Style.DANGER),), (Button("Log", url="https://e.org"),))
    parameters = message_parameters(815, None, Part(FormattedText("Why?"), keyboard=rows))
    assert parameters["reply_markup"] == {
        "inline_keyboard": [
            [{"text": "Skip", "callback_data": "d", "style": "danger"}],
            [{"text": "Log", "url": "https://e.org"}],
        ]
    }


def test_people_and_emoji_are_named_by_their_ids() -> None:
    entities = (
        Entity("text_mention", 0, 3, url="tg://user?id=815"),
        Entity("custom_emoji", 4, 2, url="tg://emoji?id=5368324170671202286"),
        Entity("text_link", 7, 1, url="https://e.org"),
    )
    parameters = message_parameters(-100, None, Part(FormattedText("Ada 👍 x", entities)))
    assert parameters["entities"] == [
        {"type": "text_mention", "offset": 0, "length": 3, "user": {"id": 815}},
        {"type": "custom_emoji", "offset": 4, "length": 2, "custom_emoji_id": "5368324170671202286"},
        {"type": "text_link", "offset": 7, "length": 1, "url": "https://e.org"},
    ]
