"""The unit: the least that an aiohttp handler can do, under gunicorn and uvloop in one process."""

from __future__ import annotations

import asyncio

from aiohttp import web

_OVER: web.AppKey[asyncio.Event] = web.AppKey("over", asyncio.Event)
_WAITERS: web.AppKey[list[int]] = web.AppKey("waiters", list[int])


async def create_app() -> web.Application:
    """An application that reads JSON and says yes; one path holds its requests until the server stops."""
    app = web.Application()
    app[_OVER] = asyncio.Event()
    app[_WAITERS] = [0]
    app.on_shutdown.append(_let_go)
    app.router.add_post("/", _say_yes)
    app.router.add_post("/wait", _hold)
    app.router.add_get("/healthz", _tell_health)
    app.router.add_get("/readyz", _tell_waiters)
    return app


async def _say_yes(request: web.Request) -> web.Response:
    await request.json()
    return web.json_response({"ok": True})


async def _hold(request: web.Request) -> web.Response:
    await request.json()
    request.app[_WAITERS][0] += 1
    await request.app[_OVER].wait()
    return web.json_response({"ok": False}, status=202)


async def _tell_health(_request: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _tell_waiters(request: web.Request) -> web.Response:
    return web.json_response({"waiters": request.app[_WAITERS][0]})


async def _let_go(app: web.Application) -> None:
    app[_OVER].set()
