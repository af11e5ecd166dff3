"""What goes around every request: its id and its log line, errors as problems, and the checks before it."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from aiohttp import web

from core.model.errors import Malformed, TelegateError
from handlers.admission import CHECKS, PROBED, endpoint_of
from handlers.in_flight import IN_FLIGHT, refusal_of
from handlers.keys import ENDPOINT, HAS_BEGUN, PRINCIPAL, REQUEST_ID, SERVICES, UPDATE
from handlers.problems import problem_of, problem_response

log = logging.getLogger("telegate.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, for log lines."""

current_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The id of the service's trace that the request is a part of, for log lines."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:+/=-]{8,128}")
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)


@web.middleware
async def identify_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id, say it in the response, and log one line about it."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else _fresh_id()
    request[REQUEST_ID] = request_id
    current_request_id.set(request_id)
    # A connection's requests share their context, so the one before may have left its own.
    current_trace_id.set(_trace_id_of(request))
    started = time.perf_counter()
    status = "gone"
    try:
        response = await handler(request)
        status = str(response.status)
    finally:
        seconds = time.perf_counter() - started
        # A path or method that does not exist has no endpoint; anybody could make up any number of them.
        request.app[SERVICES].metrics.requests.observe(seconds, request.get(ENDPOINT, "unknown"), status)
    response.headers["X-Request-Id"] = request_id
    response.headers["Server"] = "telegate"
    if log.isEnabledFor(logging.INFO) and request.path not in PROBED:
        # Somebody waits for the answer, nobody for the line: it is written right after.
        asyncio.get_running_loop().call_soon(_log_request, request, response, seconds)
    return response


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into problem+json; a bug becomes a 500 that tells nothing."""
    try:
        return await handler(request)
    except TelegateError as error:
        if problem_of(type(error)).status >= web.HTTPInternalServerError.status_code:
            log.warning("A request could not be done: %s", error.detail, extra={"action": error.code})
        return problem_response(error, request[REQUEST_ID])
    except web.HTTPRequestTimeout:
        return problem_response(Malformed("The body took too long to arrive."), request[REQUEST_ID])
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("A request failed because of a bug.", extra={"action": "bug"})
        if HAS_BEGUN in request:
            # Within an answer, another one would be taken for a part of it.
            raise ConnectionResetError("The answer breaks off.") from None
        sorry = "The gateway made a mistake. Its log tells more, under this request's id."
        return problem_response(TelegateError(sorry), request[REQUEST_ID])


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler when it passes every check."""
    for check in CHECKS:
        if (waiting := check(request)) is not None:
            await waiting
    principal = request.get(PRINCIPAL)
    if principal is None:
        return await handler(request)
    with request.app[SERVICES].concurrency.one(principal.service), request.app[IN_FLIGHT].holding(request):
        try:
            return await handler(request)
        except asyncio.CancelledError:
            refusal = refusal_of(request)
            if refusal is None:
                raise
            # Only the request ends: what it has made goes on, as when its client has gone.
            raise refusal from None


def _trace_id_of(request: web.Request) -> str | None:
    """The trace that the service says this is a part of; what is no `traceparent` is ignored.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    given = request.headers.getall("traceparent", [])
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or (found["version"] == "00" and found["more"]):
        # Only versions that come after this one may go on.
        return None
    return found["trace"]


def _fresh_id() -> str:
    # No secret, so the system need not be called for it: that would be a tenth of what this middleware takes.
    return f"req_{random.getrandbits(96):024x}"


MIDDLEWARES: Final = (identify_requests, render_errors, admit)


def _log_request(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    principal = request.get(PRINCIPAL)
    log.info(
        "%s %s was answered with %s.",
        request.method,
        (request.get(ENDPOINT) or endpoint_of(request)).partition(" ")[2],
        response.status,
        extra={
            "action": "request",
            "status": response.status,
            "duration_ms": round(seconds * 1000, 1),
            "service": None if principal is None else principal.service,
            **request.get(UPDATE, {}),
        },
    )
