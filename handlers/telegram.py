"""`/telegram/webhook`: Telegram's updates, stored with their effect before they are acknowledged."""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web

from core.model.errors import Unauthenticated
from core.model.update import sender_of
from handlers.keys import SERVICES, UPDATE
from handlers.log_throttle import warn_throttled
from handlers.requests import read_bytes

UPDATE_LIMIT: Final = 1024 * 1024
"""Bytes of an update; Telegram's are far smaller."""

SECRET_HEADER: Final = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a header's name


async def receive_update(request: web.Request) -> web.Response:
    """Take one update. Nothing slow happens before the `200`.

    Source: https://core.telegram.org/bots/api#setwebhook
    """
    services = request.app[SERVICES]
    given = [value.encode("utf-8", "surrogateescape") for value in request.headers.getall(SECRET_HEADER, [])]
    if len(given) != 1 or not hmac.compare_digest(given[0], services.webhook_secret):
        warn_throttled(
            request,
            "webhook_secret_refused",
            "A request to the webhook had no secret or a wrong one. If Telegram sent it, the secret has "
            "changed since Telegram was told; run: telegate webhook set",
        )
        raise Unauthenticated("The secret of the webhook is missing or wrong.")
    update = services.parse_update(await read_bytes(request, UPDATE_LIMIT))
    told: dict[str, object] = {"update": update.update_id, "person": sender_of(update), "effect": "refused"}
    request[UPDATE] = told
    told["effect"] = await services.inbox.take(update)
    return web.Response()
