"""What each kind of update means to us; whatever comes, nothing is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.person import Person
from core.model.update import (
    ButtonPressed,
    Carrier,
    CommandReceived,
    Ignored,
    MembershipChanged,
    TextReceived,
    Unreadable,
)
from infra.telegram.updates import parse_update

ADA = {"id": 815, "is_bot": False, "first_name": "Ada", "last_name": "Lovelace", "username": "ada"}
PERSON = Person(815, "Ada Lovelace", "ada")
PRIVATE = {"id": 815, "type": "private", "first_name": "Ada"}
OPS = {"id": -1001234567890, "type": "supergroup", "title": "Ops"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def message(**fields: Any) -> bytes:
    content = {"message_id": 5, "from": ADA, "chat": PRIVATE, "date": 1_764_000_000, **fields}
    return json.dumps({"update_id": 1, "message": content}).encode()


def command(text: str, length: int, offset: int = 0, **fields: Any) -> bytes:
    entities = [{"type": "bot_command", "offset": offset, "length": length}]
    return message(text=text, entities=entities, **fields)


def press(**fields: Any) -> bytes:
    content: dict[str, Any] = {
        "id": "77",
        "from": ADA,
        "message": {"message_id": 5, "chat": PRIVATE, "date": 1, "text": "Deploy?"},
        "chat_instance": "1",
        "data": "abc",
        **fields,
    }
    content = {key: value for key, value in content.items() if value is not None}
    return json.dumps({"update_id": 1, "callback_query": content}).encode()


def test_a_press_names_person_message_and_data() -> None:
    assert parse_update(press()) == ButtonPressed(1, "77", PERSON, 815, 5, "abc")


def test_a_press_tells_who_wrote_the_message_and_which_buttons_it_carries() -> None:
    rows = [
        [{"text": "Yes", "callback_data": "abc"}, {"text": "Docs", "url": "https://a.b"}],
        [{}],
    ]
    shown = {"message_id": 5, "chat": PRIVATE, "from": {"id": 42}, "reply_markup": {"inline_keyboard": rows}}
    pressed = parse_update(press(message=shown))
    assert isinstance(pressed, ButtonPressed)
    assert pressed.carrier() == Carrier(42, ("abc",))


@pytest.mark.parametrize(
    "odd",
    [{"from": 5, "reply_markup": 5}, {"from": {"id": "x"}, "reply_markup": {"inline_keyboard": 5}},
     {"reply_markup": {"inline_keyboard": [5, [5, {"callback_data": 5}]]}}],
)  # fmt: skip
def test_a_press_counts_whatever_its_message_carries(odd: dict[str, Any]) -> None:
    pressed = parse_update(press(message={"message_id": 5, "chat": PRIVATE, **odd}))
    assert pressed == ButtonPressed(1, "77", PERSON, 815, 5, "abc")
    assert pressed.carrier() == Carrier()


def test_a_press_under_a_message_that_the_bot_no_longer_sees_counts_too() -> None:
    inaccessible = {"message_id": 5, "chat": OPS, "date": 0}
    assert parse_update(press(message=inaccessible)) == ButtonPressed(1, "77", PERSON, OPS["id"], 5, "abc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "nobody",
    [
        {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"},
        {"id": 136817688, "is_bot": True, "first_name": "Channel"},
        {"id": 777000, "is_bot": False, "first_name": "Telegram"},
        {"id": 4242, "is_bot": True, "first_name": "Other bot"},
    ],
)
def test_a_press_by_nobody_has_no_person(nobody: dict[str, Any]) -> None:
    pressed = parse_update(press(**{"from": nobody}))
    assert isinstance(pressed, ButtonPressed)
    assert pressed.person is None


@pytest.mark.parametrize("missing", [{"data": None}, {"message": None, "inline_message_id": "x"}])
def test_a_press_that_names_no_button_of_ours_is_ignored(missing: dict[str, Any]) -> None:
    assert isinstance(parse_update(press(**missing)), Ignored)


def test_text_is_received_as_it_was_written() -> None:
    received = parse_update(message(text=" 42 \n", reply_to_message={"message_id": 3, "chat": PRIVATE}))
    assert received == TextReceived(1, PERSON, 815, private=True, message_id=5, text=" 42 \n", reply_to=3)


def test_a_topic_counts_only_where_telegram_says_that_it_is_one() -> None:
    topic = parse_update(message(text="x", chat=OPS, message_thread_id=7, is_topic_message=True))
    thread = parse_update(message(text="x", chat=OPS, message_thread_id=7))
    assert isinstance(topic, TextReceived)
    assert isinstance(thread, TextReceived)
    assert (topic.topic, thread.topic, topic.private) == (7, None, False)


def test_the_message_that_created_the_topic_is_not_what_was_replied_to() -> None:
    creation = {"message_id": 7, "chat": OPS, "forum_topic_created": {"name": "Deploys", "icon_color": 1}}
    received = parse_update(
        message(text="x", chat=OPS, message_thread_id=7, is_topic_message=True, reply_to_message=creation)
    )
    assert isinstance(received, TextReceived)
    assert received.reply_to is None


@pytest.mark.parametrize(
    ("text", "length", "name", "rest", "bot"),
    [
        ("/deploy", 7, "deploy", "", None),
        ("/Deploy prod now ", 7, "deploy", "prod now", None),
        ("/deploy@Gate_Bot prod", 16, "deploy", "prod", "gate_bot"),
        ("/deploy\nprod 😀", 7, "deploy", "prod 😀", None),
    ],
)
def test_a_command_is_read_exactly(text: str, length: int, name: str, rest: str, bot: str | None) -> None:
    assert parse_update(command(text, length)) == CommandReceived(
        1, PERSON, 815, private=True, message_id=5, name=name, text=rest, addressed_to=bot
    )


@pytest.mark.parametrize(
    "raw",
    [
        message(text="/deploy prod"),
        command("please /deploy", 7, offset=7),
        command("/deploy-now", 7),
        command("/\u0501eploy prod", 7),
        command("/\uff44eploy prod", 7),
        command("/deploy prod", 12),
        command("/deploy prod", 3),
        command("/deploy@", 8),
    ],
    ids=[
        "not marked",
        "not first",
        "something sticks",
        "look-alike",
        "full width",
        "long",
        "short",
        "no bot",
    ],
)
def test_what_only_looks_like_a_command_is_text(raw: bytes) -> None:
    assert isinstance(parse_update(raw), TextReceived)


@pytest.mark.parametrize(
    "fields",
    [
        {"forward_origin": {"type": "user"}},
        {"via_bot": {"id": 3, "is_bot": True, "first_name": "b"}},
        {"sender_chat": {"id": -100, "type": "channel"}},
        {"from": {"id": 9, "is_bot": True, "first_name": "b"}},
        {"from": {"id": 777000, "is_bot": False, "first_name": "Telegram"}},
    ],
    ids=["forwarded", "via a bot", "as a chat", "a bot", "Telegram itself"],
)
def test_a_command_that_its_author_did_not_type_is_ignored(fields: dict[str, Any]) -> None:
    assert isinstance(parse_update(command("/deploy", 7, **fields)), Ignored)


def test_a_message_without_text_is_ignored_and_named() -> None:
    ignored = parse_update(message(photo=[{"file_id": "x"}], caption="/deploy"))
    assert ignored == Ignored(1, "A message without text (photo).")


@pytest.mark.parametrize(
    ("member", "can_write"),
    [
        ({"status": "member"}, True),
        ({"status": "administrator", "can_post_messages": True}, True),
        ({"status": "creator"}, True),
        ({"status": "restricted", "is_member": True, "can_send_messages": True}, True),
        ({"status": "restricted", "is_member": True, "can_send_messages": False}, False),
        ({"status": "restricted", "is_member": False, "can_send_messages": True}, False),
        ({"status": "left"}, False),
        ({"status": "kicked", "until_date": 0}, False),
        ({"status": "what_comes_next_year"}, False),
    ],
)
def test_what_the_bot_is_in_a_chat_from_now_on(member: dict[str, object], can_write: bool) -> None:
    changed = {"chat": {"id": -5, "type": "group"}, "new_chat_member": member}
    raw = json.dumps({"update_id": 3, "my_chat_member": changed}).encode()
    assert parse_update(raw) == MembershipChanged(3, -5, can_write)


@pytest.mark.parametrize("kind", ["edited_message", "channel_post", "what_comes_next_year"])
def test_an_update_of_another_kind_is_ignored_and_named(kind: str) -> None:
    ignored = parse_update(json.dumps({"update_id": 3, kind: {"x": 1}}).encode())
    assert ignored == Ignored(3, f"An update of a kind that is not handled ({kind}).")


@pytest.mark.parametrize(
    ("raw", "update_id"),
    [
        (b"", None),
        (b"null", None),
        (b"[1]", None),
        (b'{"message": {}}', None),
        (b'{"update_id": 7, "message": {}}', 7),
        (b'{"update_id": 7, "message": ', 7),
        (b'{"update_id": "7"}', None),
        (b'{"update_id": true}', None),
        (b'{"update_id": -7}', None),
        (b'{"update_id": 1' + b"0" * 30 + b"}", None),
        (b'{"x": {"update_id": 7}, ', None),
        (message(text="a\x00b"), 1),
        (b'{"update_id": 7, "message": "\\ud800"}', 7),
        (b'{"update_id": 7, "x": ' + b"[" * 100_000, 7),
        (press(**{"from": {"id": "815", "is_bot": False, "first_name": "Ada"}}), 1),
        (b"\xff\xfe", None),
    ],
)
def test_what_is_no_update_is_kept_aside_with_what_can_be_known(raw: bytes, update_id: int | None) -> None:
    kept = parse_update(raw)
    assert isinstance(kept, Unreadable)
    assert (kept.update_id, kept.raw) == (update_id, raw)
    assert kept.reason


@given(st.binary())
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(parse_update(raw), Unreadable | Ignored)


@given(JSON, st.sampled_from(["message", "callback_query", "edited_message"]))
def test_no_json_raises(content: object, kind: str) -> None:
    assert parse_update(json.dumps({"update_id": 1, kind: content}).encode())


@given(
    st.sampled_from([json.loads(message(text="/a", entities=[])), json.loads(press())]),
    st.data(),
)
def test_no_broken_field_raises(update: dict[str, Any], data: st.DataObject) -> None:
    kind = next(key for key in update if key != "update_id")
    broken = dict(update[kind])
    broken[data.draw(st.sampled_from(sorted(broken)))] = data.draw(JSON)
    assert parse_update(json.dumps({**update, kind: broken}).encode())
