"""An SQLite file that another server still works on: waited for, while this one already answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from core.model.errors import StorageUnavailable
from infra.store.errors import NOTHING_DONE, AlreadyServed
from infra.store.sql.transactions import Transaction, Worker
from infra.store.sqlite.database import SqliteDatabase

T = TypeVar("T")

log = logging.getLogger("telegate.store")

_RETRY_AFTER = 1
_PAUSE = 0.5
"""Seconds until what comes first is tried again."""


class WaitingSqliteDatabase:
    """The port `Database` on a file that may still be in another server's hands.

    Until it is ours, every call raises `StorageUnavailable`; then it is what `SqliteDatabase` is.

    Args:
        path: of the file.
        lock_wait: for how many seconds another server may still hold it.
        patience: for how many seconds a write may wait while another process holds the file.
    """

    def __init__(self, path: Path, *, lock_wait: float, patience: float) -> None:
        self._path = path
        self._lock_wait = lock_wait
        self._patience = patience
        self._database: SqliteDatabase | None = None
        self._opening: asyncio.Task[None] | None = None
        self._first: list[Callable[[], Awaitable[object]]] = []

    @property
    def is_open(self) -> bool:
        """Whether the file is ours."""
        return self._database is not None and self._opening is None

    async def open(self) -> None:
        """Open the file when nobody else has it; otherwise begin to wait for it.

        Raises:
            AlreadyServed: another server has it, and it is not to be waited for.
            StoreRefused: it cannot be opened; the text tells why and what to do.
        """
        try:
            self._database = await SqliteDatabase.open(self._path, lock_wait=0, patience=self._patience)
        except AlreadyServed:
            if self._lock_wait <= 0:
                raise
            self._opening = asyncio.create_task(self._open_later(), name="waiting for the database")
            # Whoever awaits `opened` is told; if nobody does, that is no mistake of this task's.
            self._opening.add_done_callback(lambda done: done.cancelled() or done.exception())

    def first(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do this as soon as the file is ours, before anybody else may use it."""
        self._first.append(work)

    async def opened(self) -> None:
        """Return when the file is ours.

        Raises:
            StoreRefused: it never will be; the text tells why and what to do.
        """
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        """See `Database.write`."""
        return await self._ours().write(transaction, reserved=reserved)

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """See `Database.read`."""
        return await self._ours().read(transaction)

    @property
    def workers(self) -> Mapping[str, Worker]:
        """See `Database.workers`."""
        return {} if self._database is None else self._database.workers

    async def check(self) -> None:
        """See `Database.check`."""
        await self._ours().check()

    async def close(self) -> None:
        """See `Database.close`."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._database is not None:
            await self._database.close()

    async def _open_later(self) -> None:
        self._database = await SqliteDatabase.open(
            self._path, lock_wait=self._lock_wait, patience=self._patience
        )
        for work in self._first:
            await self._do_first(work)
        self._opening = None

    async def _do_first(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
            except StorageUnavailable as error:
                log.warning(
                    "The database is this server's now, but cannot be used yet; it is tried again. %s",
                    error.detail,
                    extra={"action": "taking_over_failed"},
                )
                await asyncio.sleep(_PAUSE)
            else:
                return

    def _ours(self) -> SqliteDatabase:
        # What comes first is done by the very task that opens the file.
        may = self._opening is None or asyncio.current_task() is self._opening
        if self._database is None or not may:
            what = "The server before this one still works on the database."
            if self._database is not None:
                what = "This server has just taken the database over, and cannot use it yet."
            raise StorageUnavailable(f"{what} {NOTHING_DONE}", retry_after=_RETRY_AFTER)
        return self._database
