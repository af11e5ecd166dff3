"""The sandbox's port: the Bot API, file downloads, the chat page, the control routes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import socket
from collections.abc import AsyncIterator
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

log = logging.getLogger("telegate.sandbox")

LARGEST_BODY = LARGEST_UPLOAD + (1 << 20)
"""Bytes: the largest file, and some room for the rest."""

ANSWER_FIRST = 0.05
"""Seconds in which the answer to a request for an outage is still written."""

NOTICED_WITHIN = 0.02
"""Seconds in which callers notice that their idle connections are gone; later they are refused, not reset."""

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
    app = web.Application(client_max_size=LARGEST_BODY)
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


class Port:
    """The listening socket; it can go down and come back on the same number.

    Args:
        app: what is served.
        host: address to listen on.
        number: port; 0 for any that is free.
    """

    def __init__(self, app: web.Application, host: str, number: int) -> None:
        self._app = app
        self._host = host
        self.number = number
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._kept: socket.socket | None = None
        self._outage: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        self._runner = runner
        try:
            await self._listen()
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop, and end all connections."""
        if self._outage is not None:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        self._give_up()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = self._site = None

    async def go_down(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._site is not None and self._runner is not None:
            await self._site.stop()
            self._site = None
            self._keep()
            server = self._runner.server
            for connection in server.connections if server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(NOTICED_WITHIN)

    async def come_back(self) -> None:
        """Listen again, on the same port."""
        if self._site is None:
            self._give_up()
            await self._listen()

    def go_down_for(self, seconds: float) -> None:
        """Refuse connections for that long, beginning when the present answer is written."""
        loop = asyncio.get_running_loop()
        self._outage = loop.create_task(self._outage_of(seconds), name="sandbox outage")

    async def _outage_of(self, seconds: float) -> None:
        await asyncio.sleep(ANSWER_FIRST)
        async with self.down():
            await asyncio.sleep(seconds)

    @contextlib.asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Refuse connections while the block runs."""
        await self.go_down()
        try:
            yield
        finally:
            await asyncio.shield(self.come_back())

    def _keep(self) -> None:
        """Hold the number while nobody listens on it: another program could take it meanwhile."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._kept = socket.socket(family)
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind((self._host, self.number))

    def _give_up(self) -> None:
        """Hold the number no longer."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("The sandbox is not running.")
        site = web.TCPSite(self._runner, self._host, self.number, reuse_address=True)
        await site.start()
        self._site = site
        host_and_port = self._runner.addresses[0]
        self.number = int(host_and_port[1])
