"""How a task becomes the answer to the request that made it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from pydantic_core import to_json

from core.model.task import Task
from core.model.transition import TaskState
from handlers.documents import task_document
from handlers.keys import REQUEST_ID, SERVICES
from handlers.problems import failed_task_response
from handlers.requests import Preference

_BAD_ENDS = frozenset({TaskState.FAILED, TaskState.UNKNOWN})


class SharedResponse(web.Response):
    """An answer whose body is the same for everybody, and is handed to each connection without a copy."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers by themselves: aiohttp would join them and the body to new bytes."""
        writer = await super().prepare(request)
        if writer is not None:
            writer.send_headers()
        return writer


def json_response(document: Any, *, status: int = 200) -> web.Response:
    """A document as JSON, in UTF-8 as it is, with a line's end for whoever reads it in a terminal."""
    return web.Response(status=status, body=json_bytes(document), content_type="application/json")


def json_bytes(document: Any) -> bytes:
    """The body of such a response."""
    return to_json(document) + b"\n"


def task_answer(request: web.Request, task: Task, preference: Preference) -> web.Response:
    """`200` when the task is final, `202` when it is not yet; a bad end is told as a problem."""
    if task.state in _BAD_ENDS:
        response = failed_task_response(task, request[REQUEST_ID])
    elif task.final:
        response = json_response(task_document(task))
    else:
        response = json_response(task_document(task), status=202)
        now = request.app[SERVICES].clock.now()
        response.headers["Retry-After"] = str(_seconds_until_worth_asking(task, now))
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    return applied(response, preference)


def applied(response: web.Response, preference: Preference) -> web.Response:
    """Say which preference was followed (RFC 7240, section 3)."""
    if preference.applied is not None:
        response.headers["Preference-Applied"] = preference.applied
    return response


def _seconds_until_worth_asking(task: Task, now: datetime) -> int:
    if task.not_before is None:
        return 1
    return max(1, math.ceil((task.not_before - now).total_seconds()))
