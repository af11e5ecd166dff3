"""For operators and for services that look around: health, what is due, who am I, what can this server do."""

from __future__ import annotations

from aiohttp import web

from handlers.keys import PRINCIPAL, SERVICES
from handlers.requests import refuse_parameters
from handlers.responses import json_response
from handlers.route import ROUTE_TABLE


async def tell_health(_request: web.Request) -> web.Response:
    """Whether the process is alive."""
    return json_response({"alive": True})


async def tell_readiness(request: web.Request) -> web.Response:
    """Whether the process can take requests."""
    readiness = await request.app[SERVICES].readiness()
    document = {
        "ready": readiness.ready,
        "checks": dict(readiness.checks),
        "waiters": readiness.waiters,
    }
    return json_response(document, status=200 if readiness.ready else 503)


async def tell_principal(request: web.Request) -> web.Response:
    """What the gateway knows about the service that asks."""
    refuse_parameters(request)
    principal = request[PRINCIPAL]
    policy = request.app[SERVICES].policy()
    built = {route.endpoint for route in request.app[ROUTE_TABLE] if route.built}
    document = {
        "service": principal.service,
        "roles": sorted(principal.roles),
        "endpoints": [endpoint for endpoint in policy.endpoints_of(principal) if endpoint in built],
        "chats": list(policy.chats_of(principal)),
    }
    return json_response(document)


async def tell_capabilities(request: web.Request) -> web.Response:
    """What this gateway can do, and how far its promises go."""
    refuse_parameters(request)
    services = request.app[SERVICES]
    document = {
        "version": services.about.version,
        "durability": services.about.durability,
        "max_wait_seconds": services.limits.max_wait,
        "processes": services.about.processes,
    }
    return json_response(document)


async def tell_metrics(request: web.Request) -> web.Response:
    """All metrics, for Prometheus."""
    accept = ",".join(request.headers.getall("Accept", []))
    exposition = await request.app[SERVICES].metrics.expose(accept)
    return web.Response(body=exposition.body, headers={"Content-Type": exposition.content_type})


async def sweep(request: web.Request) -> web.Response:
    """Work off what is due; the answer says how much that was."""
    refuse_parameters(request)
    return json_response({"done": await request.app[SERVICES].sweep()})
