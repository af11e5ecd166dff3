"""What is asked of the servers: updates as Telegram posts them, and a service's messages and questions."""

from __future__ import annotations

import base64
from typing import Any

from benchmarks import wire
from benchmarks.credentials import Credentials

_NOW = 1_790_000_000
_GROUP = {"id": -1001234567890, "title": "Operations", "type": "supergroup"}
_BOT = {"id": 123456, "is_bot": True, "first_name": "Bench", "username": "bench_bot"}
_STRANGER_S_BUTTON = base64.urlsafe_b64encode(bytes(range(1, 25))).decode()
"""Well-formed button data of a task that never was."""

_LONGEST_WAIT = 600

_GREEN = f"The build {wire.NUMBER} is green."
"""Another one each time, so that nobody gains by remembering texts."""


def plain_json() -> str:
    """What the bare server, and the one that sends with python-telegram-bot, are asked."""
    return wire.request("POST", "/", body={"chat": wire.NUMBER, "text": _GREEN}).decode()


def held_json() -> bytes:
    """What makes the bare server wait."""
    return wire.request("POST", "/wait", body={"chat": 815, "text": "Deploy?"})


def text(path: str, who: Credentials) -> str:
    """An update: words in a group, in reply to a message of the bot that is no question."""
    message = {
        "message_id": 4711,
        "from": _person(815),
        "chat": _GROUP,
        "date": _NOW,
        "reply_to_message": {
            "message_id": 4710,
            "from": _BOT,
            "chat": _GROUP,
            "date": _NOW - 60,
            "text": _GREEN,
        },
        "text": f"Thank you, {wire.NUMBER} was quick.",
    }
    return _update(path, who, {"update_id": wire.NUMBER, "message": message})


def stray_press(path: str, who: Credentials) -> str:
    """An update: a press on a button that belongs to no task."""
    return _update(path, who, _press(wire.NUMBER, 815, 4711, _STRANGER_S_BUTTON))


def press(path: str, who: Credentials, update_id: int, button: tuple[int, int, str]) -> str:
    """An update: a press on a button of a question (its chat, message id and data), which has that button."""
    update = _press(update_id, *button)
    # The press can be quicker than the row that tells of the message; then what Telegram tells of it counts.
    keyboard = [[{"text": "Deploy", "callback_data": button[-1]}]]
    update["callback_query"]["message"]["reply_markup"] = {"inline_keyboard": keyboard}
    return _update(path, who, update)


def message(token: str, path: str = "/v1/messages") -> str:
    """A message through the API, or to another server's path, each with another text to another chat."""
    body = {"chat": wire.NUMBER, "text": _GREEN}
    return wire.request("POST", path, _bearer(token), body).decode()


def question(token: str, chat: int | str = wire.NUMBER, *, wait: bool) -> str:
    """A question through the API, its text with its chat; without `wait` it is answered 202 at once."""
    prefer = f"wait={_LONGEST_WAIT}" if wait else "respond-async"
    body = {
        "chat": chat,
        "text": f"Deploy {chat} to production?",
        "options": [
            {"id": "deploy", "label": "Deploy", "style": "success"},
            {"id": "no", "label": "Not now"},
        ],
    }
    return wire.request("POST", "/v1/questions", _bearer(token) | {"Prefer": prefer}, body).decode()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _update(path: str, who: Credentials, update: dict[str, Any]) -> str:
    headers = {"X-Telegram-Bot-Api-Secret-Token": who.webhook_secret}
    return wire.request("POST", path, headers, update).decode()


def _press(update_id: int | str, chat: int, message_id: int, data: str) -> dict[str, Any]:
    private = {"id": chat, "first_name": "Ada", "last_name": "Lovelace", "username": "ada", "type": "private"}
    asked = {"message_id": message_id, "from": _BOT, "chat": private, "date": _NOW, "text": "Deploy?"}
    return {
        "update_id": update_id,
        "callback_query": {
            "id": "4382bfdwdsb323b2d9",
            "from": _person(chat),
            "message": asked,
            "chat_instance": "-3511382374729474722",
            "data": data,
        },
    }


def _person(person_id: int) -> dict[str, Any]:
    return {
        "id": person_id,
        "is_bot": False,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "username": "ada",
        "language_code": "en",
    }
