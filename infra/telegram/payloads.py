"""Messages and buttons as the Bot API's JSON names them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from core.model.part import Button, Entity, Keyboard, Part

Parameters = dict[str, Any]

CUSTOM_EMOJI, EMOJI_LINK = "custom_emoji", "tg://emoji?id="
PERSON_MENTION, PERSON_LINK = "text_mention", "tg://user?id="
DATE_TIME, TIME_LINK = "date_time", "tg://time?"
"""Entities whose `url` is Telegram's own link; the Bot API wants what stands in it: an id, or a time
(`unix`, seconds) and how it is shown (`format`).
"""

GENERAL_TOPIC = 1
"""The topic that every forum has. Telegram refuses it by its number ("message thread not found") and takes
messages without a topic for it. Source: `check_message_topic` in telegram-bot-api/Client.cpp,
https://github.com/tdlib/telegram-bot-api
"""


def message_parameters(chat: int | str, topic: int | None, part: Part) -> Parameters:
    """The parameters of `sendMessage`. Source: https://core.telegram.org/bots/api#sendmessage."""
    parameters = _text_parameters(chat, part)
    if topic not in {None, GENERAL_TOPIC}:
        parameters["message_thread_id"] = topic
    if part.reply_to is not None:
        parameters["reply_parameters"] = {
            "message_id": part.reply_to,
            "allow_sending_without_reply": not part.reply_required,
        }
    if part.silent:
        parameters["disable_notification"] = True
    if part.protect:
        parameters["protect_content"] = True
    if part.keyboard:
        parameters["reply_markup"] = {"inline_keyboard": _rows(part.keyboard)}
    return parameters


def edit_parameters(chat: int | str, message_id: int, part: Part) -> Parameters:
    """The parameters of `editMessageText`; without a keyboard, Telegram takes the old one away.

    Source: https://core.telegram.org/bots/api#editmessagetext
    """
    parameters = _text_parameters(chat, part)
    parameters["message_id"] = message_id
    if part.keyboard:
        parameters["reply_markup"] = {"inline_keyboard": _rows(part.keyboard)}
    return parameters


def _text_parameters(chat: int | str, part: Part) -> Parameters:
    parameters: Parameters = {"chat_id": chat, "text": part.body.text}
    if part.body.entities:
        parameters["entities"] = [_entity(entity) for entity in part.body.entities]
    if not part.preview:
        parameters["link_preview_options"] = {"is_disabled": True}
    return parameters


def _entity(entity: Entity) -> Parameters:
    shown: Parameters = {"type": entity.type, "offset": entity.offset, "length": entity.length}
    if entity.type == CUSTOM_EMOJI and entity.url is not None:
        shown["custom_emoji_id"] = entity.url.removeprefix(EMOJI_LINK)
    elif entity.type == PERSON_MENTION and entity.url is not None:
        shown["user"] = {"id": int(entity.url.removeprefix(PERSON_LINK))}
    elif entity.type == DATE_TIME and entity.url is not None:
        time = dict(parse_qsl(entity.url.removeprefix(TIME_LINK)))
        shown["unix_time"] = int(time["unix"])
        if "format" in time:
            shown["date_time_format"] = time["format"]
    elif entity.url is not None:
        shown["url"] = entity.url
    if entity.language is not None:
        shown["language"] = entity.language
    return shown


def _rows(keyboard: Keyboard) -> list[list[Parameters]]:
    return [[_button(button) for button in row] for row in keyboard]


def _button(button: Button) -> Parameters:
    shown: Parameters = {"text": button.text}
    if button.url is not None:
        shown["url"] = button.url
    if button.data is not None:
        shown["callback_data"] = button.data
    if button.style is not None:
        shown["style"] = button.style.value
    return shown
