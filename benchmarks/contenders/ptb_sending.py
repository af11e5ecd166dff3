"""An HTTP API that sends with python-telegram-bot as it comes (httpx); checks no token, stores nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from telegram import Bot

from benchmarks.contenders.bot import build_bot

_BOT: web.AppKey[Bot] = web.AppKey("bot", Bot)


async def create_app() -> web.Application:
    """An application that sends what it is given."""
    app = web.Application()
    app.cleanup_ctx.append(_open_bot)
    app.router.add_post("/", _send)
    return app


async def _open_bot(app: web.Application) -> AsyncIterator[None]:
    async with build_bot(with_updater=False).bot as bot:
        app[_BOT] = bot
        yield


async def _send(request: web.Request) -> web.Response:
    wanted = await request.json()
    message = await request.app[_BOT].send_message(wanted["chat"], wanted["text"])
    return web.json_response({"ok": True, "message_id": message.message_id})
