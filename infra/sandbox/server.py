"""The sandbox over HTTP: the Bot API, file downloads, the chat page, the control routes."""

from __future__ import annotations

import hmac
import json
import logging
from pathlib import Path

from aiohttp import web

from infra.sandbox.answers import Answer, MethodFailed
from infra.sandbox.control import add_control_routes
from infra.sandbox.double import TelegramDouble
from infra.sandbox.keys import DOUBLE
from infra.sandbox.methods import METHODS, call
from infra.sandbox.misbehaviour import failure_of, is_done, play, respond
from infra.sandbox.parameters import LARGEST_UPLOAD, Parameters, read_parameters
from infra.sandbox.updates import Update
from infra.sandbox.visitors import refuse_other_sites

log = logging.getLogger("telegate.sandbox")

LARGEST_BODY = LARGEST_UPLOAD + (1 << 20)
"""Bytes: the largest file, and some room for the rest."""

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build_application(double: TelegramDouble) -> web.Application:
    """Everything that the port answers; no I/O."""
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[refuse_other_sites])
    app[DOUBLE] = double
    app.router.add_route("*", "/bot{token}/{method}", bot_api)
    app.router.add_get("/file/bot{token}/{path:.+}", download)
    app.router.add_get("/", page)
    app.router.add_get("/page/{name}", page_file)
    add_control_routes(app)
    double.updates.on_reply = lambda update, body: _reply_by_webhook(double, update, body)
    return app


async def bot_api(request: web.Request) -> web.StreamResponse:
    """One Bot API call."""
    double = request.app[DOUBLE]
    if not _is_token(double, request.match_info["token"]):
        return respond(Answer.refusing(MethodFailed(401)))
    asked = request.match_info["method"]
    method = METHODS.get(asked.lower())
    name = method.name if method else asked
    try:
        given = await read_parameters(request)
    except MethodFailed as failure:
        double.calls.begin(name, {}, None).outcome = failure.description
        return respond(Answer.refusing(failure))
    chat = given.chat()
    entry = double.calls.begin(name, dict(given.values), chat)
    fault = double.faults.take(name, chat)
    if fault is None:
        answer = call(double, method, given)
        entry.status, entry.outcome = answer.status, answer.outcome
        # Also a call that changes nothing in the chats is worth knowing: it stands in the log now.
        double.world.stir()
        return respond(answer)
    done = call(double, method, given) if is_done(fault) else None
    failure_met = failure_of(fault)
    entry.status = failure_met.status if failure_met else None
    entry.outcome = failure_met.description if failure_met else fault.kind.value
    double.world.stir()
    return await play(fault, request, done)


async def download(request: web.Request) -> web.StreamResponse:
    """The content of a file, at the `file_path` that `getFile` told."""
    double = request.app[DOUBLE]
    if not _is_token(double, request.match_info["token"]):
        return respond(Answer.refusing(MethodFailed(401)))
    path = request.match_info["path"]
    stored = next((stored for stored in double.world.files.values() if stored.path == path), None)
    if stored is None:
        return respond(Answer.refusing(MethodFailed(404)))
    return web.Response(body=stored.content, content_type="application/octet-stream")


async def page(_: web.Request) -> web.StreamResponse:
    """The chat page."""
    return web.FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


async def page_file(request: web.Request) -> web.StreamResponse:
    """A script, style or picture of the chat page."""
    name = request.match_info["name"]
    if name not in {entry.name for entry in PAGE.iterdir()}:
        raise web.HTTPNotFound(text=f"The chat page has no file {name!r}.")
    return web.FileResponse(PAGE / name, headers=PAGE_HEADERS)


def _is_token(double: TelegramDouble, token: str) -> bool:
    return hmac.compare_digest(token.encode(), double.token.encode())


def _reply_by_webhook(double: TelegramDouble, update: Update, body: bytes) -> None:
    """Do the method that the webhook's answer names; nobody is told what came of it.

    Source: https://core.telegram.org/bots/api#making-requests-when-getting-updates
    """
    try:
        values = json.loads(body)
    except ValueError:
        return
    if not isinstance(values, dict) or not isinstance(values.get("method"), str):
        return
    method = METHODS.get(values.pop("method").lower())
    if method is None or method.name.lower().startswith(("get", "setwebhook", "deletewebhook")):
        return
    given = Parameters(values)
    entry = double.calls.begin(method.name, values, given.chat())
    answer = call(double, method, given)
    entry.status, entry.outcome = answer.status, answer.outcome
    log.debug("Update %s was answered with %s.", update.id, method.name, extra={"action": "webhook_reply"})
