"""The lock that keeps a second server off the same file; the system frees it, even after `kill -9`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from infra.store.errors import AlreadyServed, StoreRefused

_LOOK_EVERY = 0.05


class FileLock:
    """The right to serve one database file, held until `release`.

    Args:
        descriptor: of the lock file, which is locked.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    async def acquire(cls, database: Path, wait: float) -> FileLock:
        """Lock `<database>.lock`.

        Args:
            database: the file that is to be served.
            wait: for how many seconds another server may still hold it.

        Raises:
            AlreadyServed: another server held it all the time.
            StoreRefused: the lock file cannot be made.
        """
        lock = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreRefused(
                f"The lock file {lock} cannot be made: {error.strerror}. Make its folder writable for the "
                "server, or put the database elsewhere."
            ) from error
        try:
            await _lock(descriptor, database, wait)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let another server have it; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def _lock(descriptor: int, database: Path, wait: float) -> None:
    last = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= last:
                raise AlreadyServed(_refusal(descriptor, database)) from error
            await asyncio.sleep(_LOOK_EVERY)
        else:
            return


def _refusal(descriptor: int, database: Path) -> str:
    holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    who = f"Another server (process {holder})" if holder else "Another server"
    return (
        f"{who} already works on {database}, and two servers on one SQLite file would send messages twice. "
        "Stop the other one, or give this one a file of its own."
    )
