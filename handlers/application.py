"""The aiohttp application: routes and middlewares around ready-made services. No I/O happens here."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from handlers.admission import authenticate, authorize_again, is_continue, refuse_unknown
from handlers.events import WRITING, abandon_slow_readers
from handlers.in_flight import IN_FLIGHT, InFlight
from handlers.keys import SERVICES, Services
from handlers.log_throttle import NEXT_TIMES
from handlers.middlewares import MIDDLEWARES
from handlers.route import ROUTE_TABLE
from handlers.routes import ROUTES


def build_application(services: Services) -> web.Application:
    """The gateway's HTTP side.

    Args:
        services: everything that handlers use, ready made.
    """
    app = web.Application(middlewares=MIDDLEWARES)
    app[SERVICES] = services
    app[ROUTE_TABLE] = ROUTES
    app[WRITING] = set()
    app[NEXT_TIMES] = {}
    app[IN_FLIGHT] = InFlight(authenticate, authorize_again)
    app.on_shutdown.append(abandon_slow_readers)
    _add_routes(app.router)
    return app


def _add_routes(router: web.UrlDispatcher) -> None:
    """Every path with its methods; and whatever is none of them, so that it passes the middlewares, too.

    aiohttp's own answers for these would judge an `Expect` first, in plain text and without an id.
    """
    resources: dict[str, web.Resource] = {}
    for route in ROUTES:
        if route.path not in resources:
            resources[route.path] = router.add_resource(route.path)
        for method in ("HEAD", "GET") if route.method == "GET" else (route.method,):
            resources[route.path].add_route(method, route.handler, expect_handler=_continue)
    anything = router.add_resource("/{anything:(?s:.*)}")
    for resource in (*resources.values(), anything):
        resource.add_route("*", refuse_unknown, expect_handler=_continue)


async def _continue(request: web.Request) -> None:
    """Ask for the body of whoever wants to be asked (RFC 9110, section 10.1.1).

    aiohttp's own would refuse other expectations here, outside of every middleware.
    """
    if request.version >= HttpVersion11 and is_continue(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # What is counted is the answer, which has not begun.
        request.writer.output_size = 0
