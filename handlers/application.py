"""The aiohttp application: routes and middlewares around ready-made services. No I/O happens here."""

from __future__ import annotations

from aiohttp import web

from handlers.events import WRITING, abandon_slow_readers
from handlers.keys import SERVICES, Services
from handlers.middlewares import MIDDLEWARES
from handlers.routes import ROUTES
from handlers.routing import ROUTE_TABLE


def build_application(services: Services) -> web.Application:
    """The gateway's HTTP side.

    Args:
        services: everything that handlers use, ready made.
    """
    app = web.Application(middlewares=MIDDLEWARES)
    app[SERVICES] = services
    app[ROUTE_TABLE] = ROUTES
    app[WRITING] = set()
    app.on_shutdown.append(abandon_slow_readers)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)
    return app
