"""`telegate dev`: the gateway and the sandbox side by side, with everything needed to try them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from click.core import ParameterSource

from core.model.errors import TelegateError
from infra.config import table
from infra.config.settings import Settings, SettingsSource, unknown_names

SERVICE = "demo"
ROLE = "approver"
LONGEST_WAIT = 600

_PORT = click.IntRange(1, 65_535)

_TOKEN_LIFETIME = 24 * 3600
_READY_WITHIN = 30.0
_STOP_WITHIN = 15.0

_EXAMPLES = """\b
Examples:
  telegate dev
  telegate dev --port 9000 --sandbox-port 9001

With BOT_TOKEN set (in the environment or in .env), the real Telegram is used instead of the sandbox.
"""

_GUIDE = """
Telegate is running, with a sandbox in place of Telegram.

  1. Open the chat page:

     {page}

  2. Ask a question from another terminal. The command waits for the answer:

{curl}

  3. Tap a button in the page, and the command prints the answer.

Press Ctrl-C to stop. The chats, the answers and the token go away with it.
"""


_CHOOSE_PORTS = (
    "For example: telegate dev --port 9000 --sandbox-port 9001, "
    "or make run ARGS='--port 9000 --sandbox-port 9001'."
)


class CannotRun(TelegateError):
    """The gateway and the sandbox cannot be started here; the text says why and what to do."""


@click.command(name="dev", epilog=_EXAMPLES)
@click.option("--port", type=_PORT, default=8080, show_default=True, help="Where the gateway listens.")
@click.option("--sandbox-port", type=_PORT, default=8081, show_default=True, help="Where the chat page is.")
@click.pass_context
def command(context: click.Context, port: int, sandbox_port: int) -> None:
    """Run the gateway and the sandbox, and print what to do next."""
    source = SettingsSource.open(os.environ)
    if source.is_set(table.BOT_TOKEN):
        _serve_for_real(context)
        return
    permissions = source.read(table.PERMISSIONS_FILE)
    # A line of .env that cannot be read may be the one with the bot's token.
    source.finish()
    for mistyped in unknown_names(source.dotenv):
        click.echo(mistyped, err=True)
    sys.exit(asyncio.run(_run(port, sandbox_port, permissions)))


def _serve_for_real(context: click.Context) -> None:
    """Become the server, for the real Telegram, which is told where it is."""
    from infra.server.preflight import prepare  # noqa: PLC0415 - only when it is wanted

    # Telegram is told nothing when the server could not start.
    settings, _ = prepare(lambda _settings: None)
    if settings.public_url is None:
        raise CannotRun(
            "BOT_TOKEN is set, so this is about the real Telegram, which has to reach the gateway "
            "from outside. Set PUBLIC_URL to its https address, or remove BOT_TOKEN to use the sandbox."
        )
    from infra.cli import serve  # noqa: PLC0415 - only when it is wanted

    _point_telegram_here(settings)
    chosen = context.get_parameter_source("port") is ParameterSource.COMMANDLINE
    context.invoke(serve.command, port=context.params["port"] if chosen else None)


def _point_telegram_here(settings: Settings) -> None:
    from infra.cli import webhook  # noqa: PLC0415 - only when it is wanted

    registration = webhook.checked_registration(settings)
    try:
        state = webhook.register(settings, registration)
    except webhook.TelegramFailed as error:
        click.echo(f"The webhook could not be set: {error.message}", err=True)
        click.echo("The server starts all the same. When that is mended: telegate webhook set", err=True)
        return
    for line in webhook.in_words(state, datetime.now(UTC), just_set=True):
        click.echo(line, err=True)


async def _run(port: int, sandbox_port: int, permissions: Path) -> int:
    from infra.sandbox import Sandbox  # noqa: PLC0415 - heavy, and only needed here

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if port == sandbox_port:
        raise CannotRun(
            f"The gateway and the sandbox cannot both have port {port}. Choose two. {_CHOOSE_PORTS}"
        )
    async with contextlib.AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(Sandbox.start(port=sandbox_port))
        except OSError as error:
            raise CannotRun(_no_port("sandbox", sandbox_port, error)) from error
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="telegate-"))
        trial = Trial.prepare(port, sandbox.api_url, sandbox.token, Path(folder), permissions)
        return await trial.run(sandbox.page_url, stop)


def _no_port(whose: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port}, for the {whose}, is taken: another program listens there, perhaps a Telegate that "
            f"was started before. Stop it, or choose other ports. {_CHOOSE_PORTS}"
        )
    # asyncio puts a sentence of its own around the system's words.
    reason = os.strerror(error.errno or 0).lower()
    return f"The {whose} cannot listen on port {port} ({reason}). Choose other ports. {_CHOOSE_PORTS}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A gateway that talks to the sandbox, with a database that goes away with it.

    Attributes:
        environment: the gateway's, with everything set.
        settings: what the gateway makes of it.
    """

    environment: Mapping[str, str]
    settings: Settings

    @classmethod
    def prepare(cls, port: int, api_url: str, bot_token: str, folder: Path, permissions: Path) -> Trial:
        """Choose every setting, so that neither `.env` nor the environment gets in the way."""
        # What a trial does not need is set to nothing: `.env` must not reach in.
        unset = {name: "" for setting in table.TABLE for name in (setting.name, setting.file_name) if name}
        environment = {
            **{name: value for name, value in os.environ.items() if name not in unset},
            **unset,
            "BOT_TOKEN": bot_token,
            "TELEGRAM_API_URL": api_url,
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "BIND_ADDRESS": "127.0.0.1",
            "PORT": str(port),
            "JWT_SECRET": secrets.token_urlsafe(32),
            "DATABASE_URL": f"sqlite:///{folder / 'telegate.db'}",
            "PERMISSIONS_FILE": str(permissions),
            "PERSON_ROLES": "815:operator,4711:viewer",
            "MAX_WAIT_SECONDS": str(LONGEST_WAIT),
            "WEB_CONCURRENCY": "1",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "warning"),
        }
        return cls(environment, Settings.from_environment(environment, None))

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"http://127.0.0.1:{self.settings.port}"

    async def run(self, page_url: str, stop: asyncio.Event) -> int:
        """Run the gateway until it is told to stop; returns its exit code."""
        token = self._token()
        await self._require_free_port()
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gunicorn", "-c", "python:infra.server.gunicorn", "infra.app:create_app"),
            env=self.environment,
            start_new_session=True,
        )
        ended = asyncio.create_task(gateway.wait())
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._until_ready(ended)
            await self._set_webhook()
            click.echo(_GUIDE.format(page=page_url, curl=_curl(self.url, token)))
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                # The terminal has just written ^C.
                click.echo("\nStopping: requests that wait are answered first.")
        finally:
            stopping.cancel()
            if not ended.done():
                gateway.terminate()
            await asyncio.wait({ended}, timeout=_STOP_WITHIN)
        return ended.result() if ended.done() else 1

    def _token(self) -> str:
        from infra.auth import mint  # noqa: PLC0415 - the same
        from infra.config.permissions.file import load_policy  # noqa: PLC0415 - only needed here

        policy = load_policy(self.settings.permissions_file, self.settings.person_roles)
        if SERVICE not in policy.services or ROLE not in policy.services[SERVICE].roles:
            raise CannotRun(
                f"{self.settings.permissions_file} has no service {SERVICE} with the role {ROLE}, which the "
                "quick start asks as. Add it, or take the permissions.yaml that comes with Telegate."
            )
        secret = self.settings.jwt_secrets[0].reveal().encode()
        audience = self.settings.jwt_audience
        return mint(secret, SERVICE, [ROLE], _TOKEN_LIFETIME, audience, now=time.time())

    async def _require_free_port(self) -> None:
        try:
            probe = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", self.settings.port)
        except OSError as error:
            raise CannotRun(_no_port("gateway", self.settings.port, error)) from error
        probe.close()
        await probe.wait_closed()

    async def _until_ready(self, ended: asyncio.Task[int]) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not await self._answers():
            if ended.done():
                raise CannotRun("The gateway has stopped; what it wrote above says why.")
            if time.monotonic() > deadline:
                raise CannotRun(f"The gateway did not answer within {_READY_WITHIN:.0f} seconds.")
            await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.port)
        except OSError:
            return False
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
        return b" 200 " in status

    async def _set_webhook(self) -> None:
        setting = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra", "webhook", "set"),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await setting.communicate()
        if setting.returncode:
            raise CannotRun(f"The webhook could not be set in the sandbox: {told.decode().strip()}")


def _curl(url: str, token: str) -> str:
    """A command for a shell, over several lines that can be copied as they are."""
    question = {
        "chat": "ada",
        "text": "Build 1234 is green. Deploy it?",
        "options": [
            {"id": "deploy", "label": "Deploy", "style": "success"},
            {"id": "later", "label": "Not now"},
        ],
    }
    lines = [
        f"curl -sS {url}/v1/questions",
        f"-H {shlex.quote(f'Authorization: Bearer {token}')}",
        "-H 'Content-Type: application/json'",
        f"-H 'Prefer: wait={LONGEST_WAIT}'",
        f"-d {shlex.quote(json.dumps(question))}",
    ]
    return " \\\n  ".join(lines)
