"""The SQLite file: how it is opened, brought up to date, and what its errors mean."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from core.model.errors import StorageUnavailable, TelegateError
from infra.private_folder import make_private_folder
from infra.store.errors import NOTHING_DONE, SchemaTooNew, StoreRefused
from infra.store.migrations import SchemaState, apply_missing, find_state, refuse_newer
from infra.store.migrations.dialect import SQLITE
from infra.store.sql.transactions import Transaction

T = TypeVar("T")

RETRY_AFTER = 3
"""Seconds after which a write that failed may be tried again."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_WEATHER = _BUSY | {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
"""What happens to a file from outside; any other code is a mistake in our SQL."""

_MIGRATION_PATIENCE = 30.0
_SLICE = 0.1
"""Seconds that SQLite itself waits for a locked file; in between, whoever migrates may give up."""

_PLACEHOLDER = re.compile(r"\$(\d+)")
_STATEMENTS_KEPT = 256


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """A connection that commits only when told to; may be handed to another thread.

    Args:
        path: the file; it is made when it does not exist.
        patience: for how many seconds a statement waits while another process holds the file.
    """
    connection = sqlite3.connect(
        path,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_KEPT,
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        # What a statement needs to undo itself is otherwise written to a temporary file: five times slower.
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def make_folder(path: Path) -> None:
    """Make the folder that the file lies in, for its owner alone; one that is there stays as it is.

    Raises:
        StoreRefused: it cannot be made.
    """
    try:
        make_private_folder(path.parent)
    except OSError as error:
        raise StoreRefused(
            f"The folder {path.parent} for the database cannot be made: {error.strerror}. Make it, or "
            "put the database into a folder that the server may write to."
        ) from error


def migrate(path: Path, given_up: Callable[[], bool] = lambda: False) -> tuple[int, ...]:
    """Make the file, if there is none, and bring its tables up to date.

    Args:
        path: of the file.
        given_up: whether to wait no longer while another process holds it.

    Returns:
        The numbers of the migrations that were missing.

    Raises:
        StoreRefused: it cannot be done; the text tells why and what to do.
    """
    make_folder(path)
    _make_private(path)
    return _with_file(path, lambda connection: _migrate(connection, given_up), _SLICE)


def schema_state(path: Path) -> SchemaState:
    """Which schema the file has; changes nothing.

    Raises:
        StoreRefused: it cannot be read.
    """
    if not path.exists():
        return SchemaState(0)
    return _with_file(path, _find_state, _MIGRATION_PATIENCE)


def _make_private(path: Path) -> None:
    """Make the file for its owner alone, if there is none: whoever reads it could forge buttons.

    SQLite gives what it writes beside it (-wal, -shm) the same mode. A file that exists is not opened here:
    closing it again would take the locks of this process's other connections away
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    # What keeps it from being made, SQLite meets again right after this, and it is told then.
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask takes away
        finally:
            os.close(descriptor)


def _with_file(path: Path, work: Callable[[sqlite3.Connection], T], patience: float) -> T:
    try:
        connection = connect(path, patience)
        try:
            return work(connection)
        finally:
            connection.close()
    except SchemaTooNew as error:
        raise SchemaTooNew(f"{path} cannot be used. {error.detail}") from error
    except sqlite3.Error as error:
        if not _is_weather(error):
            raise
        raise StoreRefused(
            f"The database {path} cannot be opened: {error}. Check that it is an SQLite file, that the "
            "folder is writable for the server, and that the disk has room."
        ) from error


def _migrate(connection: sqlite3.Connection, given_up: Callable[[], bool]) -> tuple[int, ...]:
    if not _begin_patiently(connection, given_up):
        return ()
    try:
        applied = run(connection.cursor(), apply_missing(SQLITE, time.time_ns() // 1_000_000))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return applied


def _begin_patiently(connection: sqlite3.Connection, given_up: Callable[[], bool]) -> bool:
    last = time.monotonic() + _MIGRATION_PATIENCE
    while True:
        try:
            return _begin(connection)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or given_up() or time.monotonic() >= last:
                raise
            # Some locks are not waited for by SQLite itself.
            time.sleep(_SLICE)


def _begin(connection: sqlite3.Connection) -> bool:
    """Begin to bring the tables up to date; False, and nothing is begun, when they are.

    So a file on which another process writes for a while can be opened all the same.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    state = _find_state(connection)
    refuse_newer(state)
    if state.current:
        return False
    connection.execute("BEGIN IMMEDIATE")
    return True


def _find_state(connection: sqlite3.Connection) -> SchemaState:
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'").fetchone()
    return run(connection.cursor(), find_state()) if known else SchemaState(0)


def run(cursor: sqlite3.Cursor, transaction: Transaction[T]) -> T:
    """Drive a transaction to its end; beginning and committing are the caller's."""
    execute = cursor.execute
    try:
        statement = next(transaction)
        while True:
            text, params = statement
            sql, order = _positional(text if isinstance(text, str) else text.sqlite)
            execute(sql, params if order is None else [params[index] for index in order])
            rows = cursor.fetchall() if cursor.description else [()] * cursor.rowcount
            statement = transaction.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


@cache
def _positional(sql: str) -> tuple[str, tuple[int, ...] | None]:
    # Named placeholders cost a look-up each and must be bound by a dict from Python 3.12 on; plain `?` costs
    # a third of it. The order tells which value goes where; None when it is as given.
    order = tuple(int(number) - 1 for number in _PLACEHOLDER.findall(sql))
    return _PLACEHOLDER.sub("?", sql), None if order == tuple(range(len(order))) else order


def is_busy(error: Exception) -> bool:
    """Whether another process holds the file just now."""
    return _primary_code(error) in _BUSY


def translate(error: Exception) -> Exception:
    """The error that whoever asked for a transaction gets; a mistake in our SQL stays what it is."""
    if isinstance(error, sqlite3.Error) and _is_weather(error):
        unavailable: TelegateError = StorageUnavailable(
            f"The database cannot do this now ({error}). {NOTHING_DONE}",
            retry_after=RETRY_AFTER,
        )
        unavailable.__cause__ = error
        return unavailable
    return error


def _is_weather(error: sqlite3.Error) -> bool:
    return _primary_code(error) in _WEATHER


def _primary_code(error: Exception) -> int:
    # The lower byte is the primary code: https://www.sqlite.org/rescode.html
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
