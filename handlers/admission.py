"""Who may pass: a request has to name a path that exists, over TLS, as a service that may use it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final, NoReturn

from aiohttp import hdrs, web

from core.model.errors import Malformed, MethodNotAllowed, NotFound, TlsRequired, Unauthenticated
from core.policy.policy import Principal
from core.policy.routes import FOR_EVERY_SERVICE, PUBLIC
from handlers.keys import ENDPOINT, PRINCIPAL, REACH, SCRAPER, SERVICES
from handlers.log_throttle import warn_throttled

PROBED: Final = frozenset({"/healthz", "/readyz"})
"""Platforms probe these in plain HTTP; they tell nothing."""

SCRAPED: Final = "GET /metrics"
"""The one endpoint that a scraper's token opens."""


def refuse_unknown_paths(request: web.Request) -> None:
    """A path or method that does not exist is told before anything else is looked at."""
    route = request.match_info.route
    if route.method == hdrs.METH_ANY:
        allowed = sorted(other.method for other in route.resource or () if other is not route)
        if not allowed:
            raise NotFound("There is no such path; /openapi.json lists them all.")
        detail = f"{request.path} has no {request.method}; it has {', '.join(allowed)}."
        raise MethodNotAllowed(detail, allowed=allowed)
    request[ENDPOINT] = endpoint_of(request)


async def refuse_unknown(request: web.Request) -> NoReturn:
    """Stands for every path and method that does not exist; the first of the checks refuses them already."""
    raise RuntimeError(f"{request.path} has got past the checks.")


def require_tls(request: web.Request) -> None:
    """Refuse plain HTTP from anywhere but this machine; a redirect would already have leaked the token."""
    proxies = request.app[SERVICES].limits.trusted_proxies
    if request.path not in PROBED and not _is_secure(request, proxies):
        warn_throttled(
            request,
            "tls_required",
            "Requests in plain HTTP are refused with 403. If a router in front of the gateway ends TLS, "
            "TRUSTED_PROXIES has to be the number of such routers; it is %d.",
            proxies,
        )
        raise TlsRequired(
            "Use https. If a router in front of the gateway ends TLS, set TRUSTED_PROXIES to the number "
            "of such routers, so that their X-Forwarded-Proto counts."
        )


def authenticate(request: web.Request) -> Awaitable[None] | None:
    """Find out which service this is, on every path that is not public."""
    endpoint = request[ENDPOINT]
    if endpoint in PUBLIC:
        return None
    token, services = _bearer_token(request), request.app[SERVICES]
    if endpoint == SCRAPED and _is_same(token, services.metrics.token):
        request[SCRAPER] = True
        return None
    found = services.authenticate(token)
    if not isinstance(found, Principal):
        return _authenticate_later(request, found)
    request[PRINCIPAL] = found
    return None


async def _authenticate_later(request: web.Request, found: Awaitable[Principal]) -> None:
    request[PRINCIPAL] = await found


def authorize(request: web.Request) -> None:
    """Let a service use only what its roles name, default deny, and not faster than its rate."""
    endpoint = request[ENDPOINT]
    if endpoint in PUBLIC or (endpoint == SCRAPED and request.get(SCRAPER)):
        return
    services = request.app[SERVICES]
    principal = request[PRINCIPAL]
    policy = services.policy()
    if endpoint not in FOR_EVERY_SERVICE:
        policy.require_endpoint(principal, endpoint)
    rate = policy.services[principal.service].rate
    if rate is not None:
        services.rates.take(principal.service, rate)


def still_allowed(request: web.Request) -> Awaitable[None] | None:
    """Ask again, as of a new request, what was asked when this one began: the policy may have changed.

    Returns:
        What to wait for, when the token's issuer has to be asked first.

    Raises:
        Unauthenticated: the token does not count any more.
        Forbidden: its roles do not name the endpoint any more.
        ChatForbidden: no role of them names the endpoint and the chat any more.
    """
    later = authenticate(request)
    if later is not None:
        return _authorize_later(request, later)
    authorize_again(request)
    return None


async def _authorize_later(request: web.Request, later: Awaitable[None]) -> None:
    await later
    authorize_again(request)


def authorize_again(request: web.Request) -> None:
    """Refuse a request that has begun when its principal's roles do not name any more what it needs."""
    principal, policy = request[PRINCIPAL], request.app[SERVICES].policy()
    policy.require_endpoint(principal, request[ENDPOINT])
    if reach := request.get(REACH):
        policy.require_endpoint(principal, reach[0])
        policy.require_chat(principal, *reach)


def refuse_expectations(request: web.Request) -> None:
    """Refuse an `Expect` that is not understood."""
    if "Expect" in request.headers and not is_continue(request):
        raise Malformed("This Expect is not understood; leave it out, or send Expect: 100-continue.")


def is_continue(request: web.Request) -> bool:
    """Whether the client waits for a word before it sends the body."""
    return request.headers.get("Expect", "").lower() == "100-continue"


CHECKS: Final[tuple[Callable[[web.Request], Awaitable[None] | None], ...]] = (
    refuse_unknown_paths,
    require_tls,
    authenticate,
    authorize,
    refuse_expectations,
)
"""In the order in which the contract tells refusals; one that has to wait gives back what to wait for."""


def endpoint_of(request: web.Request) -> str:
    """The request's route as permissions.yaml writes it, for example `GET /v1/tasks/{id}`."""
    route = request.match_info.route
    known = None if route.method == hdrs.METH_ANY else route.resource
    path = request.path if known is None else known.canonical
    method = "GET" if request.method == "HEAD" else request.method
    return f"{method} {path}"


def _bearer_token(request: web.Request) -> str:
    values = request.headers.getall("Authorization", [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send a token: Authorization: Bearer <JWT>.", reason="missing")
    return token.strip()


def _is_same(given: str, token: bytes | None) -> bool:
    return token is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token)


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
