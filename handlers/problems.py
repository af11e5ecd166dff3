"""Errors as `application/problem+json` (RFC 9457): one table from error to status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from core.model import errors
from core.model.errors import Invalid, MethodNotAllowed, TelegateError, Unauthenticated
from core.model.task import Task
from handlers.documents import task_document

STATUSES: Mapping[type[TelegateError], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.ChatForbidden: 403,
    errors.TlsRequired: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.AlreadyFinal: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Invalid: 422,
    errors.IdempotencyMismatch: 422,
    errors.TelegramRejected: 422,
    errors.RecipientUnreachable: 422,
    errors.RateLimited: 429,
    errors.TelegateError: 500,
    errors.NotBuilt: 501,
    errors.TelegramUnavailable: 503,
    errors.StorageUnavailable: 503,
    errors.Overloaded: 503,
    errors.OutcomeUnknown: 504,
}
"""The HTTP status of each error; a class that is not here has its nearest ancestor's."""

TITLES: Mapping[str, str] = {
    "malformed": "The request cannot be read",
    "unauthenticated": "A valid token is needed",
    "forbidden": "This token may not use this endpoint",
    "chat_forbidden": "This token may not use this chat",
    "tls_required": "HTTPS is needed",
    "not_found": "There is no such thing",
    "method_not_allowed": "This path has no such method",
    "already_final": "It is over",
    "too_large": "The request is too large",
    "unsupported_media_type": "The body has to be JSON",
    "invalid": "Fields do not validate",
    "idempotency_mismatch": "The idempotency key belongs to another body",
    "telegram_rejected": "Telegram refused it",
    "recipient_unreachable": "Telegram cannot reach the recipient",
    "rate_limited": "Too many requests",
    "internal": "The gateway made a mistake",
    "not_built": "Not in this version",
    "telegram_unavailable": "Telegram cannot be reached",
    "storage_unavailable": "The database cannot be reached",
    "overloaded": "The gateway is overloaded",
    "outcome_unknown": "Nobody knows whether Telegram did it",
}

_STATUS_OF_CODE = {error.code: status for error, status in STATUSES.items()}

MOST_PROBLEMS: Final = 50
"""Wrong fields that an answer tells one by one."""

_UNTIL_ANOTHER = 60
"""Seconds after which another task is worth a try, once Telegram was away until one expired."""

DOCUMENTATION = "urn:telegate:problem"


def status_of(error: TelegateError) -> int:
    """The HTTP status of an error, looked up by class ancestry."""
    return next(STATUSES[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUSES)


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
    response = _problem(status_of(error), error.code, detail, request_id, extra)
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
    status = _STATUS_OF_CODE[task.error.code]
    response = _problem(status, task.error.code, task.error.detail, request_id, extra)
    if status == web.HTTPServiceUnavailable.status_code:
        response.headers["Retry-After"] = str(_UNTIL_ANOTHER)
    return response


def _problem(status: int, code: str, detail: str, request_id: str, extra: Mapping[str, Any]) -> web.Response:
    document = {
        "type": f"{DOCUMENTATION}:{code}",
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "instance": request_id,
        "code": code,
        **extra,
    }
    body = (json.dumps(document, ensure_ascii=False) + "\n").encode()
    return web.Response(status=status, body=body, content_type="application/problem+json")


def _challenge(error: Unauthenticated) -> str:
    """What RFC 6750 asks for; it says `expired` or `invalid`, never more."""
    if error.reason == "missing":
        return 'Bearer realm="telegate"'
    return f'Bearer realm="telegate", error="invalid_token", error_description="{error.reason}"'
