"""What a machine does to a server: a loop that stands still, a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.acceptance import gateway
from tests.acceptance.blocking import STAND_STILL
from tests.acceptance.gateway import Gate, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def until(true: Callable[[], bool], within: float = 20) -> None:
    """Look until it is so; for what another process does in its own time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.05)


# A loop that stands still


async def test_a_worker_whose_loop_stands_still_is_told_of_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.blocking:create_app")
    async with opened(tmp_path, settings={"GUNICORN_CMD_ARGS": "--timeout 3"}) as gate:
        service, ada, grace = gate.service(), gate.person(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        gate.sandbox.fault("hang", method="sendMessage", chat=grace.id)
        sent = (await service.send(message(grace), prefer="respond-async")).task(202)
        await gate.sandbox.wait_for(lambda: gate.sends(grace))
        [stuck] = gate.server.workers
        os.kill(stuck, STAND_STILL)
        await until(lambda: "The event loop stands still" in gate.server.log)
        assert "_stand_still" in gate.server.log.partition("The event loop stands still")[2]
        await ada.taps(asked, "Yes")
        await until(lambda: bool(gate.server.workers) and stuck not in gate.server.workers)
        gate.sandbox.faults.lift()
        await gate.server.until_answered("/readyz", 200)
        assert (await service.until(task["id"], "answered", within=20))["answer"]["choice"] == "yes"
        # What it was doing is told honestly, and at once: nobody else can have its leases.
        unknown = await service.until_final(sent["id"], within=20)
        assert (unknown["state"], gate.sends(grace)) == ("unknown", 1)
        assert gate.server.log.count("The event loop stands still") == 1, "One blockage is told of once."
        await gate.end_test()


# A disk that is full

Full = AbstractContextManager[None]


@contextlib.contextmanager
def limited(gate: Gate, folder: Path) -> Iterator[None]:
    """No file of the server can grow beyond what its write-ahead log has now."""
    [worker] = gate.server.workers
    size = (folder / "telegate.db-wal").stat().st_size
    soft, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def filled(_gate: Gate, folder: Path) -> Iterator[None]:
    """Somebody else has taken all that was left of the file system."""
    filler = folder / "somebody-else-s.log"
    with pytest.raises(OSError, match="No space left"):
        _grow(filler)
    try:
        yield
    finally:
        filler.unlink()


def _grow(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes; that needs an administrator's rights."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"No small file system can be mounted here ({mounted.stderr.strip()}).")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextlib.asynccontextmanager
async def on_disk(folder: Path, disk: Path) -> AsyncIterator[Gate]:
    # What it writes into its log is in another place, and short.
    settings = {"DATABASE_URL": f"sqlite:///{disk / 'telegate.db'}", "LOG_LEVEL": "warning"}
    async with opened(folder, settings=settings) as gate:
        yield gate
        await gate.end_test()


async def check_a_full_disk(gate: Gate, disk: Path, full: Callable[[Gate, Path], Full]) -> None:
    service, ada = gate.service(), gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    waiting = gate.begin(service.get(f"/v1/tasks/{task['id']}", prefer="wait=25"))
    await gate.until_waiting(1)
    with full(gate, disk):
        for _ in range(3):
            refused = await service.send(message(ada), key="k")
            refused.problem("storage_unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
        await ada.taps(asked, "Yes")
        await gate.sandbox.wait_for(
            lambda: any(each.status == 503 for each in gate.sandbox.updates.attempts), within=20
        )
        assert (await service.task(task["id"]))["state"] == "asked"
        for path in ("/healthz", "/readyz"):
            assert (await gate.request("GET", path)).status == 200
    # Without a restart, and with the press that Telegram has kept.
    assert (await waiting).task(200)["answer"]["choice"] == "yes"
    assert (await service.send(message(ada), key="k")).task(200)["state"] == "sent"
    assert gate.sends(ada) == 2


async def test_files_that_cannot_grow_refuse_writes_and_recover(tmp_path: Path) -> None:
    async with on_disk(tmp_path, tmp_path) as gate:
        await check_a_full_disk(gate, tmp_path, limited)


async def test_a_disk_that_is_really_full_refuses_writes_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        async with on_disk(tmp_path, disk) as gate:
            await check_a_full_disk(gate, disk, filled)
