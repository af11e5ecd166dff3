"""Whatever is waiting is committed at once, and nobody pays for another's failure."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.model.errors import AlreadyFinal, IdempotencyMismatch, Overloaded, StorageUnavailable
from core.model.task import Change, Task
from core.model.transition import TaskState
from infra.store import Store
from infra.store.sql.transactions import Statement, Transaction, rows_of
from infra.store.sqlite.database import SqliteDatabase
from infra.store.sqlite.file import migrate
from infra.store.sqlite.worker import SqliteWorker, WorkerSettings
from tests.contract.store.samples import (
    BOT,
    a_key,
    a_message,
    a_question,
    add,
    ask,
    change,
    do,
    store_over,
)
from tests.integration.store.gate import LIMIT, Gate

SETTINGS = WorkerSettings("test-writer", "BEGIN IMMEDIATE", 0.3, 1_000)


async def test_a_hundred_waiting_tasks_are_one_commit(database: SqliteDatabase, store: Store) -> None:
    said: list[str] = []
    database.writer._connection.set_trace_callback(said.append)
    before = database.writer.groups, database.writer.transactions
    async with Gate(database):
        adding = [asyncio.ensure_future(add(store, a_message())) for _ in range(100)]
    await asyncio.gather(*adding)
    # One commit is the gate's own.
    assert said.count("COMMIT") == 2
    assert database.writer.groups - before[0] == 2
    assert database.writer.transactions - before[1] == 101


async def test_a_group_is_bounded(database: SqliteDatabase, store: Store) -> None:
    before = database.writer.groups
    async with Gate(database):
        adding = [asyncio.ensure_future(add(store, a_message())) for _ in range(300)]
    await asyncio.gather(*adding)
    assert database.writer.groups - before == 3


async def test_one_caller_s_failure_undoes_nothing_of_the_others(
    database: SqliteDatabase, store: Store
) -> None:
    known = await add(store, a_question(), key=a_key())
    before = database.writer.groups
    good = [a_message(), a_message(), a_message(), a_message()]
    async with Gate(database):
        calls = [
            add(store, good[0]),
            add(store, a_question(), key=a_key(fingerprint="bbbb")),
            add(store, good[1]),
            change(store, known.id, _too_late),
            add(store, good[2]),
            # The token is taken: a mistake of ours, which must not look like a database that is away.
            add(store, a_question(token=known.token)),
            add(store, good[3]),
        ]
        running = [asyncio.ensure_future(call) for call in calls]
    results = await asyncio.gather(*running, return_exceptions=True)
    assert [type(result) for result in results[1::2]] == [
        IdempotencyMismatch,
        AlreadyFinal,
        sqlite3.IntegrityError,
    ]
    assert list(results[0::2]) == good
    assert database.writer.groups - before == 2
    stored = await ask(store, "SELECT id FROM telegate_tasks")
    assert {row[0] for row in stored} == {known.id, *(task.id for task in good)}


async def test_who_fails_after_writing_leaves_no_trace_and_undoes_nothing_of_the_others(
    database: SqliteDatabase, store: Store
) -> None:
    good = [a_message() for _ in range(4)]
    async with Gate(database):
        running: list[asyncio.Future[Any]] = []
        for task in good:
            running.append(asyncio.ensure_future(add(store, task)))
            running.append(asyncio.ensure_future(database.write(_half)))
    results = await asyncio.gather(*running, return_exceptions=True)
    assert results[0::2] == good
    assert [type(result) for result in results[1::2]] == [AlreadyFinal] * 4
    assert await ask(store, "SELECT * FROM telegate_updates") == []
    assert len(await ask(store, "SELECT id FROM telegate_tasks")) == 4


async def test_many_failures_in_a_group_cost_the_others_one_more_run_only(database: SqliteDatabase) -> None:
    runs: list[int] = []

    def counted() -> Transaction[None]:
        runs.append(1)
        yield Statement("INSERT INTO telegate_updates (bot, update_id, at) VALUES (1, 2, 1)")

    async with Gate(database):
        first = asyncio.ensure_future(database.write(counted))
        failing = [asyncio.ensure_future(database.write(_half)) for _ in range(5)]
    await first
    await asyncio.gather(*failing, return_exceptions=True)
    assert len(runs) == 2


async def test_an_undone_transaction_leaves_no_trace(store: Store) -> None:
    with pytest.raises(AlreadyFinal):
        await store.database.write(_half)
    assert await ask(store, "SELECT * FROM telegate_updates") == []


async def test_a_mistake_in_sql_is_no_weather(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await ask(store, "SELEC 1")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await do(store, "DELETE FROM wishes")
    await add(store, a_message())


async def test_the_loop_goes_on_while_the_writer_is_busy(database: SqliteDatabase, store: Store) -> None:
    task = await add(store, a_message())
    async with Gate(database):
        adding = asyncio.ensure_future(add(store, a_message()))
        assert await asyncio.wait_for(store.find(task.id), LIMIT) == task
        assert not adding.done()
    await adding


async def test_a_caller_who_went_away_is_served_and_nobody_else_notices(
    database: SqliteDatabase, store: Store
) -> None:
    tasks = [a_question(TaskState.SENDING), a_message()]
    async with Gate(database):
        running = [asyncio.ensure_future(add(store, task)) for task in tasks]
        await asyncio.sleep(0)
        running[0].cancel()
    assert await running[1] == tasks[1]
    assert running[0].cancelled()
    assert await store.find(tasks[0].id) == tasks[0]


async def test_more_than_may_wait_is_refused_at_once(path: Path) -> None:
    database = await SqliteDatabase.open(path, lock_wait=0, most_waiting=3)
    store = await store_over(database, BOT)
    async with Gate(database):
        waiting = [asyncio.ensure_future(add(store, a_message())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await add(store, a_message())
        assert refusal.value.retry_after == 1
    await asyncio.gather(*waiting)
    await add(store, a_message())
    await database.close()


async def test_closing_finishes_what_is_queued(path: Path) -> None:
    database = await SqliteDatabase.open(path, lock_wait=0)
    store = await store_over(database, BOT)
    async with Gate(database):
        adding = [asyncio.ensure_future(add(store, a_message())) for _ in range(50)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(database.close())
    await closing
    assert len(await asyncio.gather(*adding)) == 50
    again = await SqliteDatabase.open(path, lock_wait=0)
    assert await ask(await store_over(again, BOT), "SELECT COUNT(*) FROM telegate_tasks") == [(50,)]
    await again.close()


async def test_a_closed_store_says_so(database: SqliteDatabase, store: Store) -> None:
    await database.close()
    with pytest.raises(StorageUnavailable, match="stopping"):
        await add(store, a_message())
    with pytest.raises(StorageUnavailable, match="stopping"):
        await store.check()


def test_a_loop_that_ends_without_closing_the_store_leaves_a_line_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reached, opened = threading.Event(), threading.Event()

    def stand() -> Transaction[None]:
        yield Statement("SELECT 1")
        reached.set()
        assert opened.wait(LIMIT)

    async def leave() -> SqliteWorker:
        worker = SqliteWorker(sqlite3.connect(path, check_same_thread=False, isolation_level=None), SETTINGS)
        worker.submit(stand)
        assert await asyncio.to_thread(reached.wait, LIMIT)
        return worker

    worker = asyncio.run(leave())
    opened.set()
    worker._queue.put(None)
    worker._thread.join(LIMIT)
    assert not worker._thread.is_alive()
    assert "without closing" in caplog.text


class _UnluckyConnection(sqlite3.Connection):
    """A connection for which some statements fail, as on a disk that breaks."""

    unlucky: tuple[str, ...] = ()

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql in self.unlucky:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return super().execute(sql, *args)


@pytest.fixture
def connection(path: Path) -> Iterator[_UnluckyConnection]:
    migrate(path)
    connection = sqlite3.connect(
        path, factory=_UnluckyConnection, check_same_thread=False, isolation_level=None
    )
    assert isinstance(connection, _UnluckyConnection)
    yield connection
    connection.close()


@pytest.mark.parametrize("unlucky", [("COMMIT",), ("BEGIN IMMEDIATE",)])
async def test_when_the_disk_breaks_everybody_in_the_group_is_told(
    connection: _UnluckyConnection, unlucky: tuple[str, ...]
) -> None:
    worker = SqliteWorker(connection, SETTINGS)
    connection.unlucky = unlucky
    results = await asyncio.gather(*(worker.submit(_see(n)) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StorageUnavailable] * 5
    assert isinstance(results[0], StorageUnavailable)
    assert results[0].retry_after == 3
    assert isinstance(results[0].__cause__, sqlite3.OperationalError)
    connection.unlucky = ()
    assert await worker.submit(_seen) == [(0,)]
    await worker.close()


async def test_a_group_that_cannot_even_be_undone_hangs_nobody(
    connection: _UnluckyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SqliteWorker(connection, SETTINGS)
    connection.unlucky = ("COMMIT", "ROLLBACK")
    with pytest.raises(StorageUnavailable):
        await worker.submit(_see(1))
    assert "could not be undone" in caplog.text
    connection.unlucky = ()
    # Meanwhile the old transaction is still open; whoever comes next is told, and it is undone.
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        await worker.submit(_see(2))
    assert await worker.submit(_seen) == [(0,)]
    await worker.close()


async def test_the_log_counts_what_failed(
    connection: _UnluckyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SqliteWorker(connection, SETTINGS)
    connection.unlucky = ("COMMIT",)
    with caplog.at_level(logging.WARNING), pytest.raises(StorageUnavailable):
        await worker.submit(_see(1))
    assert "could not do 1 transactions: disk I/O error" in caplog.text
    await worker.close()


def _half() -> Transaction[None]:
    yield Statement("INSERT INTO telegate_updates (bot, update_id, at) VALUES (1, 1, 1)")
    raise AlreadyFinal("No.")


def _see(update_id: int) -> Callable[[], Transaction[Any]]:
    statement = Statement("INSERT INTO telegate_updates (bot, update_id, at) VALUES (1, $1, 1)", (update_id,))
    return lambda: rows_of(statement)


def _seen() -> Transaction[Any]:
    return rows_of(Statement("SELECT COUNT(*) FROM telegate_updates"))


def _too_late(task: Task) -> Change:
    raise AlreadyFinal("It is too late.", task=task)
