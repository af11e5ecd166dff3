"""`/v1/questions`: ask, and wait for the answer."""

from __future__ import annotations

from aiohttp import web

from core.services.questions import ASK
from handlers.bodies import QuestionBody
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


async def ask_question(request: web.Request) -> web.Response:
    """Ask a question; the answer is the response."""
    return await answer_question(request, await read_json(request))


async def answer_question(request: web.Request, body: JsonBody) -> web.Response:
    """Ask the question that this body asks for."""
    preferred = preference(request, DEFAULT_WAIT)
    how = submission(request, preferred.wait, ASK, lambda: body.fingerprint)
    refuse_parameters(request)
    wanted = parse_body(body, QuestionBody)
    task = await request.app[SERVICES].questions.ask(
        wanted.question(),
        how,
        chat=wanted.chat,
        topic=wanted.topic,
        expires_in=wanted.expires_in,
        metadata=wanted.metadata,
    )
    return task_answer(request, task, preferred)
