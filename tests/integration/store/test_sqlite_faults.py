"""What the world does to a file: locks, a full disk, kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from core.model.errors import StorageUnavailable
from core.model.lookup import ByToken
from core.model.message import Message
from infra.store import AlreadyServed, Store, StoreRefused, open_sqlite
from infra.store.sqlite.database import SqliteDatabase
from infra.store.sqlite.file import migrate
from infra.store.sqlite.lock import FileLock
from infra.store.sqlite.waiting import WaitingSqliteDatabase
from tests.contract.store.samples import BOT, LEASE, a_message, a_question, add, ask, do, press
from tests.integration.store.gate import LIMIT, Gate

ROOT = Path(__file__).resolve().parents[3]
WRITER = Path(__file__).with_name("write_until_killed.py")


async def test_a_write_waits_for_a_lock_that_goes_away(path: Path) -> None:
    async with open_sqlite(path, BOT, lock_wait=0, patience=LIMIT) as store:
        other = _locked(path)
        adding = asyncio.ensure_future(add(store, a_message()))
        await store.check()
        assert not adding.done()
        other.close()
        assert await adding


async def test_who_waited_too_long_is_told_and_nothing_is_lost(path: Path, store: Store) -> None:
    task = await add(store, a_question())
    with closing(_locked(path)):
        receiving = store.receive(1, ByToken(task.token), press, lease=LEASE)
        adding = [add(store, a_message()) for _ in range(600)]
        results = await asyncio.gather(receiving, *adding, return_exceptions=True)
        assert {type(result) for result in results} == {StorageUnavailable}
        assert isinstance(results[0], StorageUnavailable)
        assert results[0].retry_after == 3
        # Reads go on all the while.
        assert await store.find(task.id) == task
    committed = await store.receive(1, ByToken(task.token), press, lease=LEASE)
    assert committed is not None
    assert committed.effect.changes
    assert await ask(store, "SELECT COUNT(*) FROM telegate_tasks") == [(1,)]


async def test_a_full_disk_refuses_writes_and_recovers_without_a_restart(store: Store) -> None:
    task = await add(store, a_question())
    [(pages,)] = await ask(store, "PRAGMA page_count")
    assert isinstance(pages, int)
    await do(store, f"PRAGMA max_page_count = {pages + 4}")
    big = a_message(content=Message("x" * 32_768))
    with pytest.raises(StorageUnavailable) as refusal:
        await add(store, big)
    assert refusal.value.retry_after == 3
    assert isinstance(refusal.value.__cause__, sqlite3.OperationalError)
    assert await store.find(task.id) == task
    await store.check()
    await do(store, "PRAGMA max_page_count = 1000000")
    assert await add(store, big) == big
    assert await ask(store, "PRAGMA integrity_check") == [("ok",)]


async def test_who_fills_the_disk_undoes_nothing_of_the_others(
    database: SqliteDatabase, store: Store
) -> None:
    [(pages,)] = await ask(store, "PRAGMA page_count")
    assert isinstance(pages, int)
    await do(store, f"PRAGMA max_page_count = {pages + 8}")
    before, big, after = a_message(), a_message(content=Message("x" * 100_000)), a_message()
    async with Gate(database):
        adding = [asyncio.ensure_future(add(store, task)) for task in (before, big, after)]
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert [results[0], results[2]] == [before, after]
    assert isinstance(results[1], StorageUnavailable)
    stored = await ask(store, "SELECT id FROM telegate_tasks")
    assert {row[0] for row in stored} == {before.id, after.id}


async def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(path: Path) -> None:
    process = _start(WRITER, path)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=LIMIT)
    # The last line may have been cut off.
    acknowledged += rest.split("\n")[:-1]
    async with open_sqlite(path, BOT, lock_wait=5) as store:
        found = await store.progress(acknowledged)
        assert {task_id for task_id, progress in found.items() if progress.final} == set(acknowledged)
        assert await ask(store, "PRAGMA integrity_check") == [("ok",)]
        assert await ask(store, "PRAGMA foreign_key_check") == []


async def test_a_second_server_on_the_same_file_is_refused_in_words(path: Path, store: Store) -> None:
    with pytest.raises(AlreadyServed, match=rf"process {os.getpid()}\) already works on .*telegate\.db"):
        await SqliteDatabase.open(path, lock_wait=0)


async def test_a_server_waits_for_the_one_before_it(path: Path) -> None:
    first = await SqliteDatabase.open(path, lock_wait=0)
    second = asyncio.ensure_future(SqliteDatabase.open(path, lock_wait=LIMIT))
    await asyncio.sleep(0)
    await first.close()
    await (await second).close()


async def test_a_file_that_is_up_to_date_is_opened_while_another_process_writes(path: Path) -> None:
    migrate(path)
    with closing(_locked(path)):
        async with asyncio.timeout(LIMIT), open_sqlite(path, BOT, lock_wait=0) as store:
            await store.check()


def test_a_file_that_must_be_migrated_is_waited_for(path: Path) -> None:
    looked = threading.Event()

    def look() -> bool:
        looked.set()
        return False

    other = _locked(path)
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate, path, look)
        assert looked.wait(LIMIT)
        assert not migrating.done()
        other.close()
        assert migrating.result(LIMIT)


def test_who_is_told_to_end_does_not_wait_for_a_file_that_must_be_migrated(path: Path) -> None:
    async def main() -> None:
        opening = asyncio.create_task(SqliteDatabase.open(path, lock_wait=0))
        async with asyncio.timeout(LIMIT):
            while not _is_taken(path):  # noqa: ASYNC110 - a file is no Event of ours
                await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    with closing(_locked(path)):
        began = time.monotonic()
        # It ends when its threads have.
        asyncio.run(main())
        assert time.monotonic() - began < LIMIT


async def test_what_comes_first_is_tried_until_it_succeeds_and_nobody_uses_the_file_before(
    path: Path,
) -> None:
    first = await SqliteDatabase.open(path, lock_wait=0)
    second = WaitingSqliteDatabase(path, lock_wait=LIMIT, patience=1)
    tries: list[str] = []
    failed = asyncio.Event()

    async def read_keys() -> None:
        tries.append("keys")
        if len(tries) < 3:
            failed.set()
            raise StorageUnavailable("The disk does not answer.")
        await second.check()

    async def inherit() -> None:
        tries.append("inherit")

    second.first(read_keys)
    second.first(inherit)
    await second.open()
    with pytest.raises(StorageUnavailable, match="still works on the database"):
        await second.check()
    await first.close()
    async with asyncio.timeout(LIMIT):
        await failed.wait()
        with pytest.raises(StorageUnavailable, match="cannot use it yet"):
            await second.check()
        await second.opened()
    assert tries == ["keys", "keys", "keys", "inherit"]
    await second.check()
    await second.close()


async def test_kill_9_frees_the_lock(path: Path) -> None:
    process = _start(WRITER, path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("tsk_")
    with pytest.raises(AlreadyServed, match=f"process {process.pid}"):
        await SqliteDatabase.open(path, lock_wait=0)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    database = await SqliteDatabase.open(path, lock_wait=0)
    await database.close()


async def test_who_gives_up_waiting_for_the_lock_keeps_nothing(path: Path) -> None:
    first = await FileLock.acquire(path, 0)
    second = asyncio.ensure_future(FileLock.acquire(path, LIMIT))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    first.release()
    (await FileLock.acquire(path, 0)).release()


async def test_a_store_that_was_refused_lets_go_of_the_lock(poem: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreRefused, match="not a database"):
            await SqliteDatabase.open(poem, lock_wait=0)


async def test_folders_are_made(path: Path) -> None:
    async with open_sqlite(path.parent / "new" / "folder" / "telegate.db", BOT, lock_wait=0) as store:
        await store.check()


async def test_a_folder_that_cannot_be_made_is_told_in_words(poem: Path) -> None:
    with pytest.raises(StoreRefused, match=r"folder .*telegate\.db/data for the database cannot be made"):
        await SqliteDatabase.open(poem / "data" / "telegate.db", lock_wait=0)


async def test_a_lock_file_that_cannot_be_made_is_told_in_words(path: Path) -> None:
    os.mkdir(f"{path}.lock")  # noqa: PTH102 -- nothing else runs in this loop
    with pytest.raises(StoreRefused, match=r"lock file .*telegate\.db\.lock cannot be made: Is a directory"):
        await SqliteDatabase.open(path, lock_wait=0)


async def test_a_file_that_cannot_be_opened_is_told_in_words(path: Path) -> None:
    os.mkdir(path)  # noqa: PTH102 -- nothing else runs in this loop
    with pytest.raises(StoreRefused, match="cannot be opened: unable to open database file"):
        await SqliteDatabase.open(path, lock_wait=0)


async def test_every_commit_reaches_the_disk_and_keys_are_checked(
    database: SqliteDatabase, store: Store
) -> None:
    connection = database.writer._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def _is_taken(path: Path) -> bool:
    """Whether a server has begun to work on the file."""
    lock = Path(f"{path}.lock")
    return lock.exists() and lock.read_text() != ""


def _locked(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def _start(script: Path, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
