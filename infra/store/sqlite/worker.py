"""The threads that work on the SQLite file: whatever is waiting becomes one group with one commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from core.metrics import QUICK, Histogram
from core.model.errors import StorageUnavailable
from infra.store.errors import StorageBusy
from infra.store.sql.transactions import Transaction
from infra.store.sqlite.file import RETRY_AFTER, is_busy, run, translate

T = TypeVar("T")

logger = logging.getLogger("telegate.store")

_MOST_IN_GROUP = 256


class _Call(NamedTuple):
    """A transaction that somebody waits for, and the monotonic time at which it was asked for."""

    transaction: Callable[[], Transaction[Any]]
    future: asyncio.Future[Any]
    asked_at: float


class _Outcome(NamedTuple):
    call: _Call
    result: object
    error: Exception | None


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker works.

    Attributes:
        name: of its thread.
        begin: the statement that begins a group.
        patience: for how many seconds a transaction may wait while another process holds the file.
        most_waiting: how many transactions may wait; more are refused.
    """

    name: str
    begin: str
    patience: float
    most_waiting: int


class SqliteWorker:
    """One connection in one thread. Made and called in the serving loop, which it never blocks.

    Attributes:
        transactions: how many transactions have ended, well or not.
        groups: how many groups were committed for them.
        seconds: how long each group took, with its commit.
    """

    def __init__(self, connection: sqlite3.Connection, settings: WorkerSettings) -> None:
        self.transactions = 0
        self.groups = 0
        self.seconds = Histogram(QUICK)
        self._connection = connection
        self._cursor = connection.cursor()
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._pending: deque[_Call] = deque()
        self._waiting = 0
        self._last_call = False
        self._careful = False
        self._closed: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._work, name=settings.name, daemon=True)
        self._thread.start()

    def submit(self, transaction: Callable[[], Transaction[T]]) -> asyncio.Future[T]:
        """Queue a transaction. It is done even when nobody waits for the future any more.

        Raises:
            StorageBusy: too many are waiting.
            StorageUnavailable: the worker was closed.
        """
        if self._closed is not None:
            raise StorageUnavailable(
                "The server is stopping; nothing was done. Try again.", retry_after=RETRY_AFTER
            )
        if self._waiting >= self._settings.most_waiting:
            raise StorageBusy("Too much work is waiting for the database; nothing was done.", retry_after=1)
        self._waiting += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Call(transaction, future, time.monotonic()))
        return future

    async def close(self) -> None:
        """Finish what is queued, then close the connection. A second time it waits for the first."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._queue.put(None)
        await asyncio.shield(self._closed)
        self._thread.join()

    # From here on everything runs in the thread, but for `_settle`.

    def _work(self) -> None:
        while self._gather():
            self._work_on_group()
        self._connection.close()
        self._tell(self._settle_closing)

    def _gather(self) -> bool:
        """Take what waits into `_pending`; waits for a first one. False when there is no more to come."""
        if not self._pending and not self._last_call:
            self._take_in(self._queue.get())
        with contextlib.suppress(Empty):
            while True:
                self._take_in(self._queue.get_nowait())
        return bool(self._pending) or not self._last_call

    def _take_in(self, call: _Call | None) -> None:
        if call is None:
            self._last_call = True
        else:
            self._pending.append(call)

    def _work_on_group(self) -> None:
        outcomes: list[_Outcome] = []
        begun = time.monotonic()
        try:
            self._connection.execute(self._settings.begin)
            self._run_group(outcomes)
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
                self.groups += 1
        except Exception as error:  # noqa: BLE001 -- the thread's outermost loop; whoever waits is told
            outcomes = self._give_up(outcomes, error)
        self.seconds.observe(time.monotonic() - begun)
        self.transactions += len(outcomes)
        self._tell(self._settle, outcomes)

    def _run_group(self, outcomes: list[_Outcome]) -> None:
        careful, self._careful = self._careful, False
        while self._pending and len(outcomes) < _MOST_IN_GROUP:
            before = self._connection.total_changes
            call = self._pending[0]
            outcome = self._run_carefully(call) if careful else self._run_one(call)
            self._pending.popleft()
            outcomes.append(outcome)
            if outcome.error is not None and not self._is_clean(before, careful=careful):
                self._start_over_without(outcome, outcomes)
                return

    def _run_one(self, call: _Call) -> _Outcome:
        try:
            return _Outcome(call, run(self._cursor, call.transaction()), None)
        except Exception as error:  # noqa: BLE001 -- whatever a transaction raises goes to whoever asked for it
            return _Outcome(call, None, translate(error))

    def _run_carefully(self, call: _Call) -> _Outcome:
        self._cursor.execute("SAVEPOINT one")
        outcome = self._run_one(call)
        if self._connection.in_transaction:
            if outcome.error is not None:
                self._cursor.execute("ROLLBACK TO one")
            self._cursor.execute("RELEASE one")
        return outcome

    def _is_clean(self, before: int, *, careful: bool) -> bool:
        """Whether a transaction that failed left nothing behind; a full disk can undo the whole group."""
        return self._connection.in_transaction and (careful or self._connection.total_changes == before)

    def _start_over_without(self, failed: _Outcome, outcomes: list[_Outcome]) -> None:
        # A savepoint for each transaction costs a fifth of the time, and almost none fails after it wrote
        # something. So the group is undone; who failed is told so, and the others get another try, this
        # time with savepoints.
        self._pending.extendleft(reversed([done.call for done in outcomes[:-1]]))
        outcomes[:] = [failed]
        self._careful = True
        self._roll_back()

    def _give_up(self, outcomes: list[_Outcome], error: Exception) -> list[_Outcome]:
        """Nothing of this group was stored: what everybody in it is told, and whoever waited too long."""
        self._roll_back()
        calls = [outcome.call for outcome in outcomes]
        if is_busy(error):
            latest = time.monotonic() - self._settings.patience
            while self._pending and self._pending[0].asked_at <= latest:
                calls.append(self._pending.popleft())
        else:
            calls += self._pending
            self._pending.clear()
        if calls:
            logger.warning(
                "The database could not do %d transactions: %s.",
                len(calls),
                error,
                extra={"action": "store_failed", "transactions": len(calls)},
            )
        return [_Outcome(call, None, translate(error)) for call in calls]

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("A group could not be undone.", extra={"action": "store_rollback_failed"})

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop was closed without closing the store, so nobody waits any more.
            logger.warning(
                "The server stopped without closing its database.", extra={"action": "store_left_open"}
            )

    def _settle(self, outcomes: list[_Outcome]) -> None:
        self._waiting -= len(outcomes)
        for call, result, error in outcomes:
            if call.future.done():
                continue
            if error is None:
                call.future.set_result(result)
            else:
                call.future.set_exception(error)

    def _settle_closing(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
