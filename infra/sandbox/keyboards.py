"""What comes with a message: inline buttons, a forced reply; checked as Telegram does."""

from __future__ import annotations

from typing import Any

from core.model.visibility import shows_nothing
from infra.sandbox.answers import JsonObject, bad_request, dump
from infra.sandbox.links import NoAddressError, check_link, user_of
from infra.sandbox.world import Button, ForceReply, Keyboard, Markup, ReplyKeyboard

LONGEST_DATA = 64
"""Bytes of `callback_data` (Bot API, InlineKeyboardButton)."""

MOST_BUTTONS = 100
LONGEST_MARKUP = 10_240
STYLES = frozenset({"primary", "success", "danger"})
OTHER_KINDS = (
    "callback_game",
    "pay",
    "switch_inline_query",
    "switch_inline_query_chosen_chat",
    "switch_inline_query_current_chat",
    "login_url",
    "web_app",
    "copy_text",
    "disabled",
)


def parse_markup(value: Any) -> Markup | None:
    """Read `reply_markup`; None when there is nothing in it.

    Raises:
        MethodFailed: it is not a markup, or a button is not allowed.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise bad_request("object expected as reply markup")
    keyboard = value.get("keyboard")
    if keyboard:
        return ReplyKeyboard(_labels(keyboard))
    rows = _inline_rows(value.get("inline_keyboard") or [])
    if rows:
        return Keyboard(rows, force_reply=bool(value.get("force_reply")))
    if value.get("remove_keyboard"):
        return ReplyKeyboard()
    if value.get("force_reply"):
        placeholder = str(value.get("input_field_placeholder") or "")
        return ForceReply(placeholder, selective=bool(value.get("selective")))
    return None


def parse_inline(value: Any) -> Keyboard | None:
    """Read the `reply_markup` of an edit, where only inline buttons may be.

    Raises:
        MethodFailed: it is something else, or a button is not allowed.
    """
    markup = parse_markup(value)
    if markup is not None and not isinstance(markup, Keyboard):
        raise bad_request("inline keyboard expected")
    return markup


def _labels(rows: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('field "keyboard" must be an Array of Arrays')
    return tuple(tuple(_label(button) for button in row) for row in rows)


def _label(button: Any) -> str:
    if isinstance(button, str):
        return button
    if isinstance(button, dict) and isinstance(button.get("text"), str):
        return str(button["text"])
    raise bad_request("can't parse keyboard button: KeyboardButton must be a String or an Object")


def _inline_rows(rows: Any) -> tuple[tuple[Button, ...], ...]:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays')
    parsed = [[button for raw in row if (button := _inline_button(raw)) is not None] for row in rows]
    filled = tuple(tuple(row) for row in parsed if row)
    if sum(map(len, filled)) > MOST_BUTTONS or len(dump(rows)) > LONGEST_MARKUP:
        raise bad_request("reply markup is too long")
    return filled


def _inline_button(raw: Any) -> Button | None:
    """One button; None for one without a text, which Telegram leaves out.

    A text of which nothing is seen is refused by Telegram itself, behind the Bot API's server. Source:
    https://core.telegram.org/api/errors
    """
    if not isinstance(raw, dict):
        raise _bad_button("InlineKeyboardButton must be an Object")
    text = raw.get("text")
    if "text" not in raw:
        raise _bad_button('Can\'t find field "text"')
    if not isinstance(text, str):
        raise _bad_button('Field "text" must be of type String')
    style = str(raw.get("style") or "default").lower()
    if style not in STYLES | {"default"}:
        raise _bad_button("invalid button style specified")
    kind, data = _action(raw)
    if not text:
        return None
    if shows_nothing(text):
        raise bad_request("BUTTON_TEXT_INVALID")
    shown: JsonObject = {"text": text, **kind}
    if style in STYLES:
        shown["style"] = style
    return Button(text, data, style if style in STYLES else None, shown)


def _action(raw: JsonObject) -> tuple[JsonObject, str | None]:
    """What the button does: its field, and the data of a press."""
    if url := raw.get("url"):
        return {"url": _checked_url(str(url))}, None
    if data := raw.get("callback_data"):
        if not isinstance(data, str):
            raise _bad_button('Field "callback_data" must be of type String')
        if len(data.encode()) > LONGEST_DATA:
            raise bad_request("BUTTON_DATA_INVALID")
        return {"callback_data": data}, data
    for field in OTHER_KINDS:
        if field in raw:
            return {field: raw[field]}, None
    raise _bad_button("Text buttons are unallowed in the inline keyboard")


def _checked_url(url: str) -> str:
    """Source: `get_inline_keyboard_button` in td/telegram/ReplyMarkup.cpp, https://github.com/tdlib/td."""
    if user_of(url) is not None:
        return url
    try:
        return check_link(url)
    except NoAddressError as reason:
        raise bad_request(f"inline keyboard button URL '{url}' is invalid: {reason}") from None


def _bad_button(reason: str) -> Exception:
    return bad_request(f"can't parse inline keyboard button: {reason}")
