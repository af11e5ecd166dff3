"""The machine: which core does what, and what a process takes of it."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failing import BenchmarkFailed

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is whose; None: any.

    Attributes:
        server: of the servers.
        load: of the load and the Telegram double.
        database: of PostgreSQL: one of its own, or the load's, where it does not take from the server.
    """

    server: int | None
    load: int | None
    database: int | None

    @classmethod
    def found(cls) -> Cores:
        """The first cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(usable) < 2:
            return cls(None, None, None)
        return cls(usable[0], usable[1], usable[2] if len(usable) > 2 else usable[1])

    def __str__(self) -> str:
        if self.server is None:
            return "not pinned (one core, or no way to pin)"
        return f"servers on core {self.server}, load and Telegram double on core {self.load}"


def pin(pid: int, core: int | None) -> None:
    """Keep a process, and what it will start, on one core."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def raise_file_limit() -> int:
    """Allow this process and its children as many open files as the machine lets them; returns the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def can_measure_memory() -> bool:
    """Whether this system tells what a process takes (Linux does)."""
    return (_PROC / "self/smaps_rollup").exists()


def resident_bytes(pid: int) -> int:
    """The memory of one process that is not swapped out, shared pages included."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkFailed(f"The system does not tell the memory of process {pid}.")


def cpu_seconds(pid: int) -> float:
    """How long a process has computed so far, with its threads and the processes that it has started."""
    ticks = sum(_ticks(pid))
    for child in children_of(pid):
        # One that has just ended counts among the ended ones next time.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(_ticks(child)[:2])
    return ticks / _TICKS


def _ticks(pid: int) -> list[int]:
    """A process's CPU time and that of its children that have ended, each in user mode and in the kernel."""
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(one) for one in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]


def wait_until_idle(pid: int, limit: float) -> None:
    """Wait until a process has nothing left to do.

    Raises:
        BenchmarkFailed: after `limit` seconds it is still at work.
    """
    until = time.monotonic() + limit
    before = cpu_seconds(pid)
    while time.monotonic() < until:
        time.sleep(0.15)
        now = cpu_seconds(pid)
        if now - before <= 1 / _TICKS:
            return
        before = now
    raise BenchmarkFailed(f"Process {pid} is still at work {limit:.0f} seconds after its load ended.")


def disk_folder() -> Path:
    """A folder for temporary files that is on a disk as far as this machine has one."""
    lasting = Path("/var/tmp")  # noqa: S108 - files there outlive a reboot, so it is no memory
    folder = lasting if os.access(lasting, os.W_OK) else Path(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix="telegate-bench-", dir=folder))


def sync_milliseconds(folder: Path) -> float:
    """How long the disk takes to make 4 KiB durable: the median of 50."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def describe() -> str:
    """What kind of machine this is, and how busy it is with other things."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, "
        f"Python {platform.python_version()} ({platform.python_implementation()}), "
        f"load average before the run {os.getloadavg()[0]:.1f}"
    )
