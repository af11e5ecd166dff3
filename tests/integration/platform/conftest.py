"""Real servers: the limits in this process, everything else as a gunicorn process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from infra.config.settings import Settings
from infra.server.runner import GatewayServer, Limits, make_runner
from tests.integration.platform.servers import ENOUGH, HERE, LIMIT, ROOT, Gunicorn, InProcess, Serve, Start

INHERITED = ("PATH", "HOME", "LANG", "LC_", "COVERAGE_")


@pytest.fixture
def serve() -> Serve:
    @asynccontextmanager
    async def run(app: web.Application, limits: Limits) -> AsyncIterator[InProcess]:
        runner = make_runner(app, Settings.from_environment(ENOUGH, None), limits=limits)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            assert isinstance(runner.server, GatewayServer)
            running = InProcess(runner.server, runner.addresses[0][1])
            try:
                yield running
            finally:
                await running.hang_up()
        finally:
            await runner.cleanup()

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `gunicorn` as the Procfile does, but with an application of these tests."""
    started: list[tuple[Gunicorn, threading.Thread]] = []

    def run(target: str = "platform_app:create_app", *more: str, **environ: str) -> Gunicorn:
        command = (sys.executable, "-m", "gunicorn", "-c", "python:infra.server.gunicorn", *more, target)
        inherited = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        fixed = {"PYTHONPATH": f"{ROOT}:{HERE}", "BIND_ADDRESS": "127.0.0.1", "PORT": "0"}
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**inherited, **fixed, **ENOUGH, **environ},
            stderr=subprocess.PIPE,
        )
        gunicorn = Gunicorn(process)
        thread = threading.Thread(target=gunicorn.read)
        thread.start()
        started.append((gunicorn, thread))
        return gunicorn

    yield run
    for gunicorn, thread in started:
        if gunicorn.process.poll() is None:
            gunicorn.process.send_signal(signal.SIGTERM)
            try:
                gunicorn.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                gunicorn.process.kill()
        thread.join(LIMIT)
