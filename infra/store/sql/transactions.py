"""Transactions: SQL as generators that any database driver can run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from core.metrics import Histogram

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Row: TypeAlias = tuple[Any, ...]
"""One row, its columns in the order of the statement; drivers know no types."""


class Sql(NamedTuple):
    """One statement in the words of each database, where these differ."""

    sqlite: str
    postgres: str


class Statement(NamedTuple):
    """One SQL statement.

    Attributes:
        sql: with placeholders `$1`, `$2`, …; one text that SQLite and PostgreSQL both understand, or one for
            each of them.
        params: their values: int, str, bytes or None, which mean the same in both databases.
    """

    sql: str | Sql
    params: tuple[int | str | bytes | None, ...] = ()


Transaction: TypeAlias = Generator[Statement, Sequence[Row], T]
"""Yields statements, receives the rows of each, and returns its result.

From a statement that changes rows it receives what `RETURNING` tells, or without that one empty row for each
row that was changed.

When it ends, it is committed; when it raises, nothing of it was done. It may be run again from the start,
so it must have no other effect than its statements.

It shares the database with others that run at the same time. On PostgreSQL, rows that it reads
`FOR NO KEY UPDATE` are its own until it ends; SQLite has one writer and needs no such words. Anything else
may change between two of its statements, so what it concludes from such a row must be guarded by the
statement that acts on it (`WHERE state = …`, `ON CONFLICT`).
"""


def rows_of(statement: Statement) -> Transaction[Sequence[Row]]:
    """A transaction of one statement."""
    return (yield statement)


class MovedOn(Exception):
    """A row is no longer as this transaction read it: undo, and run the transaction again."""


class Worker(Protocol):
    """Counts what it has done.

    Attributes:
        transactions: how many have ended, well or not.
        seconds: how long each group of them took, with its commit.
    """

    transactions: int
    seconds: Histogram


class Database(Protocol):
    """Runs transactions. Every method raises `StorageUnavailable` when the database cannot do it now."""

    async def write(self, transaction: Callable[[], Transaction[T_co]], *, reserved: bool = False) -> T_co:
        """Run a transaction that changes something; when this returns, the change is on the disk.

        Args:
            transaction: makes it.
            reserved: whether it may use what is kept free for updates from Telegram.

        Raises:
            StorageBusy: too many transactions are waiting already.
        """

    async def read(self, transaction: Callable[[], Transaction[T_co]]) -> T_co:
        """Run a transaction that only reads; it sees every write that returned before."""

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Who does the work, by `read`, `write` and `reserved`; nobody before the database is open."""

    async def check(self) -> None:
        """Return when the database answers."""

    async def close(self) -> None:
        """Finish what is waiting, then let go of the database."""
