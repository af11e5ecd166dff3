"""`/enqueue_command`: the earlier interface, which names an endpoint and carries its body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from core.model.errors import FieldProblem, Invalid
from core.services.messages import SEND
from core.services.questions import ASK
from handlers.bodies import EnqueueBody
from handlers.keys import PRINCIPAL, SERVICES
from handlers.messages import answer_message
from handlers.questions import answer_question
from handlers.requests import JsonBody, inner_body, parse_body, read_json

Answer = Callable[[web.Request, JsonBody], Awaitable[web.Response]]

COMMANDS: Final[Mapping[str, tuple[str, Answer]]] = {
    "message": (SEND, answer_message),
    "question": (ASK, answer_question),
}
"""The endpoint that each command stands for, and who answers it."""


async def enqueue_command(request: web.Request) -> web.Response:
    """Do what the endpoint that `command` names does, with `arguments` as its body."""
    body = await read_json(request)
    wanted = parse_body(body, EnqueueBody)
    if wanted.command not in COMMANDS:
        names = ", ".join(sorted(COMMANDS))
        raise Invalid.field("/command", f"There is no command {wanted.command}; use one of: {names}.")
    endpoint, answer = COMMANDS[wanted.command]
    request.app[SERVICES].policy().require_endpoint(request[PRINCIPAL], endpoint)
    value = body.value["arguments"]
    try:
        return await answer(request, await inner_body(value, like=body))
    except Invalid as error:
        inside = [FieldProblem(f"/arguments{found.pointer}", found.detail) for found in error.problems]
        raise Invalid(error.detail, problems=inside, more=error.more) from error
