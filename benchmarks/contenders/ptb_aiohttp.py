"""python-telegram-bot behind the smallest webhook of one's own, on gunicorn and uvloop; stores nothing."""

from __future__ import annotations

import hmac
import os
from collections.abc import AsyncIterator

from aiohttp import web
from telegram import Update
from telegram.ext import Application

from benchmarks.contenders.bot import build_bot

_BOT: web.AppKey[Application] = web.AppKey("bot", Application)  # type: ignore[type-arg]  # as in `build_bot`


async def create_app() -> web.Application:
    """An application that parses each update and puts it into the library's queue."""
    app = web.Application()
    app[_BOT] = build_bot(with_updater=False)
    app.cleanup_ctx.append(_run_bot)
    app.router.add_post("/webhook", _take)
    return app


async def _run_bot(app: web.Application) -> AsyncIterator[None]:
    async with app[_BOT] as bot:
        await bot.start()
        yield
        await bot.stop()


async def _take(request: web.Request) -> web.Response:
    secret = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
    if not hmac.compare_digest(secret, os.environ["WEBHOOK_SECRET"]):
        return web.Response(status=403)
    bot = request.app[_BOT]
    await bot.update_queue.put(Update.de_json(await request.json(), bot.bot))
    return web.Response()
