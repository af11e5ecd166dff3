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


def test_people_emoji_and_times_are_named_in_fields_of_their_own() -> None:
    entities = (
        Entity("text_mention", 0, 3, url="tg://user?id=815"),
        Entity("custom_emoji", 4, 2, url="tg://emoji?id=5368324170671202286"),
        Entity("text_link", 7, 1, url="https://e.org"),
        Entity("date_time", 7, 1, url="tg://time?unix=1647531900&format=wDT"),
        Entity("date_time", 7, 1, url="tg://time?unix=1"),
    )
    parameters = message_parameters(-100, None, Part(FormattedText("Ada 👍 x", entities)))
    assert parameters["entities"] == [
        {"type": "text_mention", "offset": 0, "length": 3, "user": {"id": 815}},
        {"type": "custom_emoji", "offset": 4, "length": 2, "custom_emoji_id": "5368324170671202286"},
        {"type": "text_link", "offset": 7, "length": 1, "url": "https://e.org"},
        {
            "type": "date_time",
            "offset": 7,
            "length": 1,
            "unix_time": 1647531900,
            "date_time_format": "wDT",
        },
        {"type": "date_time", "offset": 7, "length": 1, "unix_time": 1},
    ]


def test_the_general_topic_is_named_by_no_number() -> None:
    part = Part(FormattedText("Hello"))
    assert message_parameters(-100, 7, part)["message_thread_id"] == 7
    for general in (1, None):
        assert "message_thread_id" not in message_parameters(-100, general, part)
