"""A task of another service costs the database exactly what one costs that does not exist."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypeVar

from infra.store import Store
from infra.store.sql.transactions import Database, Row, Statement, Transaction, Worker
from tests.contract.store.samples import a_message, a_question, add, sql_of

T = TypeVar("T")


class Counted:
    """A database that writes down what is asked of it, and how much it finds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked: list[tuple[str, int]] = []

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        return await self._database.read(lambda: self._noted(transaction()))

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        return await self._database.write(lambda: self._noted(transaction()), reserved=reserved)

    @property
    def workers(self) -> Mapping[str, Worker]:
        return self._database.workers

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()

    def _noted(self, inner: Transaction[T]) -> Generator[Statement, Sequence[Row], T]:
        try:
            statement = next(inner)
            while True:
                rows = yield statement
                self.asked.append((sql_of(statement), len(rows)))
                statement = inner.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result


async def test_a_foreign_task_is_looked_for_by_one_statement_that_finds_nothing(store: Store) -> None:
    foreign = [a_message(), a_question()]
    for task in foreign:
        await add(store, task)
    store.database = counted = Counted(store.database)
    looks = []
    for task_id in (*(task.id for task in foreign), a_question().id):
        counted.asked.clear()
        assert await store.find(task_id, "billing") is None
        looks.append(list(counted.asked))
    assert looks[0] == looks[1] == looks[2]
    assert [found for _, found in looks[0]] == [0]
