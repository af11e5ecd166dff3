"""Typed keys under which the sandbox's application finds its parts."""

from __future__ import annotations

from aiohttp import web

from infra.sandbox.double import TelegramDouble
from infra.sandbox.port import Port
from infra.sandbox.scripts import Script

DOUBLE: web.AppKey[TelegramDouble] = web.AppKey("double", TelegramDouble)
PORT: web.AppKey[Port] = web.AppKey("port", Port)
SCRIPTS: web.AppKey[dict[int, Script]] = web.AppKey("scripts", dict)
