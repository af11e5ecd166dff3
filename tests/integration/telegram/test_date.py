"""Telegram's `Date` header shows a clock that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.observability.clock import SkewWatch, SystemClock
from tests.integration.telegram.conftest import ClientAt


async def test_telegram_s_date_shows_that_the_clock_is_ten_minutes_off(client_at: ClientAt) -> None:
    ahead = timedelta(minutes=10)

    async def answer(_request: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        result = {"id": 1, "is_bot": True, "first_name": "Telegate", "username": "telegate_bot"}
        return web.json_response({"ok": True, "result": result}, headers={"Date": date})

    app = web.Application()
    app.router.add_post("/{method:.*}", answer)
    async with TestServer(app) as server:
        client = await client_at(str(server.make_url("")).rstrip("/"))
        watch = SkewWatch(SystemClock(), shared=False)
        client.hear_date = watch.hear_telegram
        await client.identify()
        assert "s behind Telegram's" in watch.clock
        ahead = timedelta()
        await client.identify()
        assert watch.clock == "ok"
