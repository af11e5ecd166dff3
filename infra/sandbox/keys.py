"""Typed keys under which the sandbox's application finds its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from infra.sandbox.double import TelegramDouble
from infra.sandbox.scripts import Script

if TYPE_CHECKING:
    from infra.sandbox.server import Port

DOUBLE: web.AppKey[TelegramDouble] = web.AppKey("double", TelegramDouble)
PORT: web.AppKey[Port] = web.AppKey("port")
SCRIPTS: web.AppKey[dict[int, Script]] = web.AppKey("scripts", dict)
