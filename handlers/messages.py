"""`/v1/messages`: say something, correct it, take it back."""

from __future__ import annotations

import hashlib

from aiohttp import web

from core.services.messages import DELETE, EDIT, SEND
from handlers.bodies import EditBody, MessageBody
from handlers.keys import SERVICES
from handlers.requests import (
    DEFAULT_WAIT,
    JsonBody,
    parse_body,
    preference,
    read_json,
    refuse_parameters,
    submission,
)
from handlers.responses import task_answer


async def send_message(request: web.Request) -> web.Response:
    """Send a message to a chat."""
    return await answer_message(request, await read_json(request))


async def answer_message(request: web.Request, body: JsonBody) -> web.Response:
    """Send the message that this body asks for."""
    preferred = preference(request, DEFAULT_WAIT)
    how = submission(request, preferred.wait, SEND, lambda: body.fingerprint)
    refuse_parameters(request)
    wanted = parse_body(body, MessageBody)
    task = await request.app[SERVICES].messages.send(
        wanted.message(),
        how,
        chat=wanted.chat,
        topic=wanted.topic,
        expires_in=wanted.expires_in,
        metadata=wanted.metadata,
    )
    return task_answer(request, task, preferred)


async def edit_message(request: web.Request) -> web.Response:
    """Give a message another text and other buttons."""
    message_id = request.match_info["id"]
    body = await read_json(request)
    preferred = preference(request, DEFAULT_WAIT)
    how = submission(request, preferred.wait, EDIT, lambda: _of(message_id, body.fingerprint))
    refuse_parameters(request)
    edit = parse_body(body, EditBody).edit()
    return task_answer(request, await request.app[SERVICES].messages.edit(message_id, edit, how), preferred)


async def delete_message(request: web.Request) -> web.Response:
    """Take a message away."""
    message_id = request.match_info["id"]
    preferred = preference(request, DEFAULT_WAIT)
    how = submission(request, preferred.wait, DELETE, lambda: _of(message_id, ""))
    refuse_parameters(request)
    return task_answer(request, await request.app[SERVICES].messages.delete(message_id, how), preferred)


def _of(message_id: str, fingerprint: str) -> str:
    """A fingerprint that also tells which message is meant: the key's scope is the route, not the path."""
    return hashlib.sha256(f"{message_id}\n{fingerprint}".encode()).hexdigest()
