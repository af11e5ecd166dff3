"""Servers: real gunicorn processes that are killed, stopped and frozen, and always started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.acceptance.gateway import environment
from tests.nemesis.facts import Uptime
from tests.postgres import _end_with_the_parent

START_LIMIT = 60.0
"""Seconds in which a server must be ready again, whatever befell it."""

STOP_LIMIT = 20.0
"""Seconds that a platform waits after SIGTERM."""

BAD_START = 3
"""The exit code of a server that could not start."""


@dataclass(slots=True, eq=False)
class VictimServer:
    """One server, and when it was up.

    Attributes:
        number: 0, 1, …
        application: what gunicorn loads.
        may_refuse: whether it may end by itself with `BAD_START`: when its database is away.
        mishaps: what should not have happened, in words.
        turn: held by whoever does something to it.
    """

    number: int
    folder: Path
    settings: dict[str, str]
    application: str = "infra.app:create_app"
    may_refuse: bool = False
    uptimes: list[Uptime] = field(default_factory=list)
    mishaps: list[str] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _process: asyncio.subprocess.Process | None = None
    _ready_since: float | None = None

    @property
    def address(self) -> str:
        """Where services reach it."""
        return f"http://127.0.0.1:{self.settings['PORT']}"

    @property
    def log(self) -> Path:
        """What its processes have written."""
        return self.folder / f"server-{self.number}.log"

    async def start(self) -> None:
        """Start it, as a platform does: again when it ends; returns when it is ready."""
        deadline = time.monotonic() + START_LIMIT
        await self._spawn()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while not await self._is_ready(session):
                if time.monotonic() > deadline:
                    self.mishaps.append(f"Server {self.number} was not ready within {START_LIMIT:.0f} s.")
                    return
                if self._is_dead:
                    self._note_death()
                    await self._spawn()
                await asyncio.sleep(0.05)
        self._ready_since = time.time()

    async def migrate(self) -> None:
        """Prepare the database, as a release does."""
        process = await self._run("-m", "infra", "migrate")
        code = await process.wait()
        if code != 0:
            self.mishaps.append(f"`telegate migrate` ended with {code}.")

    async def kill(self) -> None:
        """SIGKILL to gunicorn and its worker at once, and a new start."""
        self._goes_down()
        for pid in (*self._pids(), *self._children()):
            _signal(pid, signal.SIGKILL)
        await self._ended()
        await self.start()

    async def kill_worker(self) -> None:
        """SIGKILL to the worker alone; gunicorn starts another."""
        self._goes_down()
        for pid in self._children():
            _signal(pid, signal.SIGKILL)
        await self._comes_back()

    async def restart(self) -> None:
        """SIGTERM and a new start, as in a deploy."""
        await self._stop()
        await self.start()

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP to all its processes, and SIGCONT after that time."""
        self._goes_down()
        pids = (*self._pids(), *self._children())
        try:
            for pid in pids:
                _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)
        await self._comes_back()

    async def end(self) -> None:
        """SIGTERM for good."""
        await self._stop()

    def destroy(self) -> None:
        """Leave nothing behind, however the run went."""
        if not self._is_dead:
            for pid in (*self._children(), *self._pids()):
                _signal(pid, signal.SIGKILL)

    # Inside

    @property
    def _is_dead(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def _pids(self) -> list[int]:
        return [] if self._process is None or self._is_dead else [self._process.pid]

    def _children(self) -> list[int]:
        found: list[int] = []
        for pid in self._pids():
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    async def _spawn(self) -> None:
        self._process = await self._run(
            "-m", "gunicorn", "-c", "python:infra.server.gunicorn", self.application
        )

    async def _run(self, *arguments: str) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=self.folder,
                env=_unmeasured(environment(self.settings)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_the_parent,
            )

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            async with session.get(f"{self.address}/readyz") as response:
                return response.status == 200
        return False

    async def _comes_back(self) -> None:
        """Wait until the process that is there is ready; start it anew when it has ended."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            deadline = time.monotonic() + START_LIMIT
            while not await self._is_ready(session):
                if self._is_dead or time.monotonic() > deadline:
                    if self._is_dead:
                        self._note_death()
                    else:
                        self.mishaps.append(f"Server {self.number} did not come back by itself.")
                    self.destroy()
                    await self._ended()
                    await self.start()
                    return
                await asyncio.sleep(0.05)
        self._ready_since = time.time()

    async def _stop(self) -> None:
        self._goes_down()
        if self._is_dead:
            self._note_death()
            return
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_LIMIT):
                code = await self._process.wait()
        except TimeoutError:
            self.mishaps.append(f"Server {self.number} did not end within {STOP_LIMIT:.0f} s of SIGTERM.")
            self.destroy()
            await self._ended()
            return
        if code != 0:
            self.mishaps.append(f"Server {self.number} ended with {code} after SIGTERM.")

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _goes_down(self) -> None:
        if self._ready_since is not None:
            self.uptimes.append(Uptime(self.number, self._ready_since, time.time()))
        self._ready_since = None

    def _note_death(self) -> None:
        code = self._process.returncode if self._process else None
        if not (code == BAD_START and self.may_refuse):
            self.mishaps.append(f"Server {self.number} ended by itself, with {code}.")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _unmeasured(environment: dict[str, str]) -> dict[str, str]:
    """Other tests measure which lines run; here measuring would only make the servers slow."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}
