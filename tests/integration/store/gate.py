"""A gate in a transaction: whoever waits behind it becomes one group."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from infra.store.sql.transactions import Statement, Transaction
from infra.store.sqlite.database import SqliteDatabase

LIMIT = 10.0


class Gate:
    """Holds the writer of a database back, from entering until leaving.

    Leave it before waiting for anything that was written meanwhile.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._reached = threading.Event()
        self._open = threading.Event()
        self._held: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._held = asyncio.create_task(self._database.write(self._stand))
        assert await asyncio.to_thread(self._reached.wait, LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever was started as a task hands its transaction in before the gate opens.
        await asyncio.sleep(0)
        self._open.set()
        assert self._held is not None
        await self._held

    def _stand(self) -> Transaction[None]:
        yield Statement("SELECT 1")
        self._reached.set()
        assert self._open.wait(LIMIT)
