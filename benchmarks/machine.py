"""The machine: which core does what, and what a process takes of it."""

from __future__ import annotations

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
    """Which core the servers run on, and which one the load and the Telegram double; None: any."""

    server: int | None
    load: int | None

    @classmethod
    def found(cls) -> Cores:
        """The first two cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(usable[0], usable[1]) if len(usable) > 1 else cls(None, None)

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
    """How long a process and its threads have computed so far."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


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
