"""A tiny application for real gunicorn processes: `gunicorn … platform_app:create_app`."""

from __future__ import annotations

import asyncio
import json
import logging
import os

from aiohttp import web

from core.model.errors import StorageUnavailable
from infra.config.settings import Settings
from infra.server.runner import Limits, make_runner

_log = logging.getLogger("telegate.platform_app")
_WAKE = web.AppKey("wake", asyncio.Event)


async def _held(request: web.Request) -> web.Response:
    _log.info("A request is held.")
    await request.app[_WAKE].wait()
    _log.info("A request is woken.")
    return web.json_response({"state": "asked"}, status=202)


async def _deaf(request: web.Request) -> web.Response:
    """A handler that nothing wakes."""
    del request
    _log.info("A request is held for ever.")
    await asyncio.Event().wait()
    return web.Response()


async def _hello(request: web.Request) -> web.Response:
    return web.json_response({"scheme": request.scheme, "limit": os.environ.get("TEST_LIMITS", "")})


async def _fail(request: web.Request) -> web.Response:
    raise RuntimeError(f"canary: {os.environ['BOT_TOKEN']} {request.headers.get('Authorization')}")


async def _print(request: web.Request) -> web.Response:
    del request
    _log.info("Somebody should read this.")
    return web.Response(text="still here")


async def _wake(app: web.Application) -> None:
    _log.info("on_shutdown ran.")
    app[_WAKE].set()


async def _clean(app: web.Application) -> None:
    del app
    _log.info("on_cleanup ran.")


def _application() -> web.Application:
    app = web.Application()
    app[_WAKE] = asyncio.Event()
    app.router.add_get("/", _hello)
    app.router.add_get("/held", _held)
    app.router.add_get("/deaf", _deaf)
    app.router.add_get("/fail", _fail)
    app.router.add_get("/print", _print)
    app.on_shutdown.append(_wake)
    app.on_cleanup.append(_clean)
    return app


async def create_app() -> web.AppRunner:
    """As `infra.app:create_app`: a factory that returns its own runner."""
    chosen = os.environ.get("TEST_LIMITS")
    limits = Limits(**json.loads(chosen)) if chosen else None
    return make_runner(_application(), Settings.from_environment(), limits=limits)


async def create_bare_app() -> web.Application:
    """A factory that leaves the runner to aiohttp's worker."""
    return _application()


async def create_refused_app() -> web.AppRunner:
    """A start that is refused in words."""
    raise StorageUnavailable("Another server has the database open. Stop it first.")


async def create_broken_app() -> web.AppRunner:
    """A start that fails by a mistake in the code."""
    raise LookupError("a mistake")
