"""Updates made by hand, for what the sandbox's people cannot or would not do."""

from __future__ import annotations

import json
import secrets

from infra.sandbox import ChatView, ScriptedPerson
from tests.acceptance.contract import Json

GROUP_ANONYMOUS_BOT = 1087968824
"""Who Telegram says wrote when an admin is anonymous (Bot API, Message, `sender_chat`)."""


def person_of(person: ScriptedPerson) -> Json:
    """A User."""
    return {"id": person.id, "is_bot": False, "first_name": person.person.first_name}


def private_chat(person: ScriptedPerson) -> Json:
    """The person's Chat with the bot."""
    return {"id": person.id, "type": "private", "first_name": person.person.first_name}


def group_chat(group: ChatView) -> Json:
    """A group's Chat."""
    return {"id": group.id, "type": group.place.kind, "title": group.place.title}


def update(**content: Json) -> bytes:
    """An update with an id that nobody used."""
    return json.dumps({"update_id": secrets.randbelow(2**31), **content}).encode()


def press_update(sender: Json, chat: Json, message_id: int, data: str | None) -> bytes:
    """A callback_query, of the one button that the message has."""
    keyboard = {"inline_keyboard": [[{"text": "?", "callback_data": data}]]}
    shown = {"message_id": message_id, "date": 1, "chat": chat, "text": "?", "reply_markup": keyboard}
    return update(
        callback_query={
            "id": str(secrets.randbits(63)),
            "from": sender,
            "chat_instance": "1",
            "message": shown,
            "data": data,
        }
    )


def text_update(sender: Json, chat: Json, text: str, **more: Json) -> bytes:
    """A message with a text, and the entity that makes a command of its first word."""
    found: Json = {
        "message_id": secrets.randbelow(2**31),
        "date": 1,
        "from": sender,
        "chat": chat,
        "text": text,
    }
    if text.startswith("/"):
        found["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}]
    return update(message={**found, **more})
