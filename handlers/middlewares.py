"""What every request passes, in this order: request id, errors, path, TLS, authentication, authorization."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from aiohttp import web

from core.errors import (
    Malformed,
    MethodNotAllowed,
    NotFound,
    TelegateError,
    TlsRequired,
    Unauthenticated,
)
from core.policy import FOR_EVERY_SERVICE, PUBLIC
from handlers.keys import PRINCIPAL, REQUEST_ID, SERVICES
from handlers.problems import problem_response, status_of

log = logging.getLogger("telegate.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROBED: Final = frozenset({"/healthz", "/readyz"})
"""Platforms probe these in plain HTTP; they tell nothing."""

current_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, for log lines."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:+/=-]{8,128}")


@web.middleware
async def identify_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id, say it in the response, and log one line about it."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
    request[REQUEST_ID] = request_id
    current_request_id.set(request_id)
    started = time.perf_counter()
    response = await handler(request)
    response.headers["X-Request-Id"] = request_id
    response.headers["Server"] = "telegate"
    if log.isEnabledFor(logging.INFO) and request.path not in PROBED:
        _log_request(request, response, time.perf_counter() - started)
    return response


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into problem+json; a bug becomes a 500 that tells nothing."""
    try:
        return await handler(request)
    except TelegateError as error:
        if status_of(error) >= web.HTTPInternalServerError.status_code:
            log.warning("A request could not be done: %s", error.detail, extra={"action": error.code})
        return problem_response(error, request[REQUEST_ID])
    except web.HTTPRequestTimeout:
        return problem_response(Malformed("The body took too long to arrive."), request[REQUEST_ID])
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("A request failed because of a bug.", extra={"action": "bug"})
        sorry = "The gateway made a mistake. Its log tells more, under this request's id."
        return problem_response(TelegateError(sorry), request[REQUEST_ID])


@web.middleware
async def refuse_unknown_paths(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A path or method that does not exist is told before anything else is looked at."""
    missing = request.match_info.http_exception
    if isinstance(missing, web.HTTPMethodNotAllowed):
        allowed = sorted(missing.allowed_methods)
        detail = f"{request.path} has no {request.method}; it has {', '.join(allowed)}."
        raise MethodNotAllowed(detail, allowed=allowed)
    if missing is not None:
        raise NotFound("There is no such path; /openapi.json lists them all.")
    return await handler(request)


@web.middleware
async def require_tls(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse plain HTTP from anywhere but this machine; a redirect would already have leaked the token."""
    if request.path not in PROBED and not _is_secure(request, request.app[SERVICES].limits.trusted_proxies):
        raise TlsRequired(
            "Use https. If a router in front of the gateway ends TLS, set TRUSTED_PROXIES to the number "
            "of such routers, so that their X-Forwarded-Proto counts."
        )
    return await handler(request)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out which service this is, on every path that is not public."""
    if endpoint_of(request) not in PUBLIC:
        request[PRINCIPAL] = request.app[SERVICES].authenticate(_bearer_token(request))
    return await handler(request)


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a service use only what its roles name, default deny, and not faster than its rate."""
    endpoint = endpoint_of(request)
    if endpoint in PUBLIC:
        return await handler(request)
    services = request.app[SERVICES]
    principal = request[PRINCIPAL]
    policy = services.policy()
    if endpoint not in FOR_EVERY_SERVICE:
        policy.require_endpoint(principal, endpoint)
    rate = policy.services[principal.service].rate
    if rate is not None:
        services.allowances.take(principal.service, rate)
    return await handler(request)


MIDDLEWARES: Final = (
    identify_requests,
    render_errors,
    refuse_unknown_paths,
    require_tls,
    authenticate,
    authorize,
)


def endpoint_of(request: web.Request) -> str:
    """The request's route as permissions.yaml writes it, for example `GET /v1/tasks/{id}`."""
    resource = request.match_info.route.resource
    path = request.path if resource is None else resource.canonical
    method = "GET" if request.method == "HEAD" else request.method
    return f"{method} {path}"


def _bearer_token(request: web.Request) -> str:
    values = request.headers.getall("Authorization", [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send a token: Authorization: Bearer <JWT>.", reason="missing")
    return token.strip()


def _is_secure(request: web.Request, trusted_proxies: int) -> bool:
    if request.transport is not None and request.transport.get_extra_info("ssl_object") is not None:
        return True
    if trusted_proxies and _forwarded_protocol(request, trusted_proxies) == "https":
        return True
    return _is_local(request)


def _forwarded_protocol(request: web.Request, trusted_proxies: int) -> str | None:
    """What the outermost trusted router saw; values further left were written by whoever is outside."""
    told = ",".join(request.headers.getall("X-Forwarded-Proto", [])).split(",")
    return told[-trusted_proxies].strip().lower() if len(told) >= trusted_proxies else None


def _is_local(request: web.Request) -> bool:
    """Whether this came from this machine, and not through a router on it."""
    if any(name.lower().startswith(("x-forwarded-", "forwarded")) for name in request.headers):
        return False
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    if not peer:
        return True  # a UNIX socket
    return _is_loopback(peer[0])


@lru_cache(maxsize=256)
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _log_request(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    principal = request.get(PRINCIPAL)
    log.info(
        "%s %s was answered with %s.",
        request.method,
        endpoint_of(request).partition(" ")[2],
        response.status,
        extra={
            "action": "request",
            "status": response.status,
            "duration_ms": round(seconds * 1000, 1),
            "service": None if principal is None else principal.service,
        },
    )
