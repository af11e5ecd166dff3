"""SQLite: one writer and one reader, each in a thread of its own, on a file that nobody else serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from infra.store.migrations import find_state
from infra.store.sql.transactions import Transaction, Worker
from infra.store.sqlite.file import connect, make_folder, migrate
from infra.store.sqlite.lock import FileLock
from infra.store.sqlite.worker import SqliteWorker, WorkerSettings

T = TypeVar("T")

_SLICE = 0.1
"""SQLite itself waits this long for a locked file, in seconds; in between, new callers are taken in."""

_READ_PATIENCE = 2.0
_MOST_WAITING = 20_000
"""Ten thousand waiting requests read their rows at once when the server stops."""


class SqliteDatabase:
    """The port `Database` on one file.

    Attributes:
        writer: counts the commits and what they were for.
    """

    def __init__(self, lock: FileLock, writer: SqliteWorker, reader: SqliteWorker) -> None:
        self.writer = writer
        self._reader = reader
        self._lock = lock

    @classmethod
    async def open(
        cls, path: Path, *, lock_wait: float, patience: float = 5.0, most_waiting: int = _MOST_WAITING
    ) -> SqliteDatabase:
        """Open the file in the running loop; make it, and bring its tables up to date, where needed.

        Args:
            path: of the file.
            lock_wait: for how many seconds another server may still hold it.
            patience: for how many seconds a write may wait while another process holds the file.
            most_waiting: how many reads, and how many writes, may wait.

        Raises:
            StoreRefused: it cannot be opened; the text tells why and what to do.
        """
        await asyncio.to_thread(make_folder, path)
        lock = await FileLock.acquire(path, lock_wait)
        try:
            await _migrate(path)
            writer = SqliteWorker(
                connect(path, min(_SLICE, patience)),
                WorkerSettings("telegate-writer", "BEGIN IMMEDIATE", patience, most_waiting),
            )
            reader = SqliteWorker(
                connect(path, _READ_PATIENCE),
                WorkerSettings("telegate-reader", "BEGIN", _READ_PATIENCE, most_waiting),
            )
        except BaseException:
            lock.release()
            raise
        return cls(lock, writer, reader)

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        """See `Database.write`; one thread writes everything: whatever waits goes into its next commit."""
        del reserved
        return await self.writer.submit(transaction)

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """See `Database.read`."""
        return await self._reader.submit(transaction)

    @property
    def workers(self) -> Mapping[str, Worker]:
        """See `Database.workers`."""
        return {"read": self._reader, "write": self.writer}

    async def check(self) -> None:
        """See `Database.check`."""
        await self.read(find_state)

    async def close(self) -> None:
        """See `Database.close`; then another server may have the file."""
        try:
            await self._reader.close()
            await self.writer.close()
        finally:
            self._lock.release()


async def _migrate(path: Path) -> None:
    given_up = threading.Event()
    try:
        await asyncio.to_thread(migrate, path, given_up.is_set)
    finally:
        # A process that is told to end waits for its threads.
        given_up.set()
