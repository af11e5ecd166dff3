"""Starting and stopping the servers: ours as the Procfile says, and those that it is compared with."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import postgresql, wire
from benchmarks.credentials import Credentials
from benchmarks.failing import BenchmarkFailed
from benchmarks.machine import Cores, children_of, pin
from benchmarks.postgresql import Database
from infra.config.postgres_address import PostgresAddress
from infra.store.postgres.schema import migrate

ROOT = Path(__file__).resolve().parent.parent

_START_LIMIT = 30.0
_STOP_LIMIT = 20.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
_ALIVE = {200, 404, 405}
"""Whoever is asked for a path that takes only POST lives, too."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        name: of its log in the run's folder.
        started_in: seconds from its start to its first answer.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    started_in: float

    @property
    def worker(self) -> int:
        """The process that serves: gunicorn's only worker, or the server itself."""
        return (children_of(self.process.pid) or [self.process.pid])[0]

    def ask(self, path: str) -> wire.Answer:
        """GET a path."""
        return wire.fetch(self.port, wire.request("GET", path), _START_LIMIT)

    def wait_for_check(self, name: str) -> None:
        """Wait until one of our server's checks is well.

        Raises:
            BenchmarkFailed: it is not within half a minute.
        """
        until = time.monotonic() + _START_LIMIT
        while (said := self.ask("/readyz").json()["checks"][name]) != "ok":
            if time.monotonic() > until:
                raise BenchmarkFailed(f"The server's check of {name} says: {said}")
            time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers run.

    Attributes:
        folder: for the database, the policy and the logs; thrown away in the end.
        double: the port of the Telegram double; 0 before it runs.
    """

    folder: Path
    cores: Cores
    credentials: Credentials
    double: int = 0

    @classmethod
    def on_this_machine(cls, folder: Path) -> Place:
        """A place with invented credentials, before there is a Telegram double."""
        return cls(folder, Cores.found(), Credentials.invent())

    @contextmanager
    def gateway(self, **settings: str) -> Iterator[Server]:
        """Telegate as the Procfile starts it, on SQLite in this place's folder.

        Args:
            settings: other settings than the defaults, by the names of their variables.
        """
        permissions = self.folder / "permissions.yaml"
        if not permissions.exists():
            permissions.write_text(self.credentials.policy)
        environment = {
            "JWT_SECRET": self.credentials.jwt_secret,
            "DATABASE_URL": f"sqlite:///{self.folder / 'telegate.db'}",
            "PERMISSIONS_FILE": str(permissions),
            "BIND_ADDRESS": "127.0.0.1",
            # What Telegram allows is not what the server can do.
            "SEND_RATE": "0",
            **settings,
        }
        with self._run("telegate", _web_command(), "/healthz", environment) as server:
            yield server

    @contextmanager
    def postgresql(self) -> Iterator[Database]:
        """PostgreSQL with our tables; what is stored stays as long as this place's folder, as in SQLite."""
        password = self.credentials.database_password
        with postgresql.running(self.folder, _free_port(), password, self.cores.database) as database:
            asyncio.run(migrate(PostgresAddress.parse(database.url)))
            yield database

    @contextmanager
    def bare(self) -> Iterator[Server]:
        """The unit."""
        with self._run("bare", _gunicorn("bare"), "/healthz") as server:
            yield server

    @contextmanager
    def floor(self) -> Iterator[Server]:
        """What the same libraries cost without anything of ours around them."""
        settings = {
            "DATABASE_FILE": str(self.folder / "floor.db"),
            "PUBLIC_KEY": self.credentials.public_key,
        }
        with self._run("floor", _gunicorn("floor"), "/webhook", settings) as server:
            yield server

    @contextmanager
    def ptb_webhook(self) -> Iterator[Server]:
        """python-telegram-bot's own webhook server."""
        command = ["-m", "benchmarks.contenders.ptb_webhook"]
        with self._run("ptb_webhook", command, "/webhook") as server:
            yield server

    @contextmanager
    def ptb_aiohttp(self) -> Iterator[Server]:
        """python-telegram-bot behind a webhook of one's own."""
        with self._run("ptb_aiohttp", _gunicorn("ptb_aiohttp"), "/webhook") as server:
            yield server

    @contextmanager
    def ptb_sending(self) -> Iterator[Server]:
        """python-telegram-bot sending with httpx."""
        with self._run("ptb_sending", _gunicorn("ptb_sending"), "/") as server:
            yield server

    @contextmanager
    def telegram(self) -> Iterator[Server]:
        """The Telegram double, on the load's core."""
        with self._run("double", ["-m", "benchmarks.double"], "/bot/getMe") as server:
            pin(server.process.pid, self.cores.load)
            yield server

    @contextmanager
    def _run(
        self, name: str, command: Sequence[str], answers_at: str, settings: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        port = _free_port()
        environment = self._environment(port) | dict(settings or {})
        arguments = [sys.executable, *(word.replace("{port}", str(port)) for word in command)]
        log = self.folder / f"{name}.log"
        begun = time.perf_counter()
        with log.open("ab") as output:
            process = subprocess.Popen(
                arguments, env=environment, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT
            )
        pin(process.pid, self.cores.server)
        try:
            _wait_for_answer(process, wire.request("GET", answers_at), port, log)
            yield Server(name, port, process, time.perf_counter() - begun)
        finally:
            _stop(process)

    def _environment(self, port: int) -> dict[str, str]:
        """Little of ours, so that no setting of whoever runs this gets in."""
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return inherited | {
            "PYTHONPATH": modules,
            "PORT": str(port),
            "BOT_TOKEN": self.credentials.bot_token,
            "WEBHOOK_SECRET": self.credentials.webhook_secret,
            "TELEGRAM_API_URL": f"http://127.0.0.1:{self.double}",
        }


def _web_command() -> list[str]:
    """What the Procfile runs as `web`, as arguments of this Python."""
    for line in (ROOT / "Procfile").read_text().splitlines():
        if line.startswith("web:"):
            return ["-m", *shlex.split(line.removeprefix("web:"))]
    raise BenchmarkFailed("The Procfile has no line for web.")


def _gunicorn(contender: str) -> list[str]:
    """The same server for a contender, with the limits that ours sets for itself."""
    options = "--workers 1 --bind 127.0.0.1:{port} --backlog 2048 --keep-alive 95 --no-control-socket"
    worker = "aiohttp.GunicornUVLoopWebWorker"
    target = f"benchmarks.contenders.{contender}:create_app"
    return ["-m", "gunicorn", *options.split(), "--worker-class", worker, "--log-level", "warning", target]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_for_answer(process: subprocess.Popen[bytes], raw: bytes, port: int, log: Path) -> None:
    until = time.monotonic() + _START_LIMIT
    while time.monotonic() < until and process.poll() is None:
        try:
            if wire.fetch(port, raw, _START_LIMIT).status in _ALIVE:
                return
        except OSError:
            time.sleep(0.001)
    told = log.read_text(errors="replace")[-2000:]
    raise BenchmarkFailed(f"A server did not start within {_START_LIMIT:.0f} seconds. Its log says:\n{told}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        for child in children_of(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
