"""Errors as `application/problem+json` (RFC 9457): one table from error to status and title."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiohttp import web

from core.model import errors
from core.model.errors import Invalid, MethodNotAllowed, TelegateError, Unauthenticated
from core.model.task import Task
from handlers.documents import task_document


class Problem(NamedTuple):
    """What an error is over HTTP.

    Attributes:
        title: the same for every occurrence, for people (RFC 9457, section 3.1.3).
    """

    status: int
    title: str


PROBLEMS: Final[Mapping[type[TelegateError], Problem]] = {
    errors.Malformed: Problem(400, "The request cannot be read"),
    errors.Unauthenticated: Problem(401, "A valid token is needed"),
    errors.Forbidden: Problem(403, "This token may not use this endpoint"),
    errors.ChatForbidden: Problem(403, "This token may not use this chat"),
    errors.TlsRequired: Problem(403, "HTTPS is needed"),
    errors.NotFound: Problem(404, "There is no such thing"),
    errors.MethodNotAllowed: Problem(405, "This path has no such method"),
    errors.AlreadyFinal: Problem(409, "It is over"),
    errors.TooLarge: Problem(413, "The request is too large"),
    errors.UnsupportedMediaType: Problem(415, "The body has to be JSON"),
    errors.Invalid: Problem(422, "Fields do not validate"),
    errors.IdempotencyMismatch: Problem(422, "The idempotency key belongs to another body"),
    errors.TelegramRejected: Problem(422, "Telegram refused it"),
    errors.RecipientUnreachable: Problem(422, "Telegram cannot reach the recipient"),
    errors.RateLimited: Problem(429, "Too many requests"),
    errors.TelegateError: Problem(500, "The gateway made a mistake"),
    errors.NotBuilt: Problem(501, "Not in this version"),
    errors.TelegramUnavailable: Problem(503, "Telegram cannot be reached"),
    errors.StorageUnavailable: Problem(503, "The database cannot be reached"),
    errors.Overloaded: Problem(503, "The gateway is overloaded"),
    errors.OutcomeUnknown: Problem(504, "Nobody knows whether Telegram did it"),
}
"""Every error that has a code of its own; any other one is its nearest ancestor's problem."""

PROBLEMS_BY_CODE: Final[Mapping[str, Problem]] = {error.code: problem for error, problem in PROBLEMS.items()}
"""The same table by the codes that failed tasks keep."""

MOST_PROBLEMS: Final = 50
"""Wrong fields that an answer tells one by one."""

_UNTIL_ANOTHER: Final = 60
"""Seconds after which another task is worth a try, once Telegram was away until one expired."""


def problem_of(error: type[TelegateError]) -> Problem:
    """What an error is over HTTP, looked up by class ancestry."""
    return next(PROBLEMS[ancestor] for ancestor in error.__mro__ if ancestor in PROBLEMS)


def problem_response(error: TelegateError, request_id: str) -> web.Response:
    """An error as the answer to a request."""
    extra: dict[str, Any] = {}
    detail = error.detail
    if isinstance(error, Invalid):
        told = error.problems[:MOST_PROBLEMS]
        extra["errors"] = [{"pointer": found.pointer, "detail": found.detail} for found in told]
        if more := error.more + len(error.problems) - len(told):
            detail += f" The first {len(told)} are told; there are {more:,} more."
    if error.task is not None:
        extra["task"] = task_document(error.task)
    response = _response(problem_of(type(error)), error.code, detail, request_id, extra)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = _challenge(error)
    return response


def failed_task_response(task: Task, request_id: str) -> web.Response:
    """A task that ended badly, as the answer to the request that made it."""
    if task.error is None:
        raise TypeError(f"Task {task.id} is {task.state} without an error.")
    extra = {"task": task_document(task)}
    problem = PROBLEMS_BY_CODE[task.error.code]
    response = _response(problem, task.error.code, task.error.detail, request_id, extra)
    if problem.status == web.HTTPServiceUnavailable.status_code:
        response.headers["Retry-After"] = str(_UNTIL_ANOTHER)
    return response


def _response(
    problem: Problem, code: str, detail: str, request_id: str, extra: Mapping[str, Any]
) -> web.Response:
    document = {
        "type": f"urn:telegate:problem:{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": request_id,
        "code": code,
        **extra,
    }
    body = (json.dumps(document, ensure_ascii=False) + "\n").encode()
    return web.Response(status=problem.status, body=body, content_type="application/problem+json")


def _challenge(error: Unauthenticated) -> str:
    """What RFC 6750 asks for; it says `expired` or `invalid`, never more."""
    if error.reason == "missing":
        return 'Bearer realm="telegate"'
    return f'Bearer realm="telegate", error="invalid_token", error_description="{error.reason}"'
