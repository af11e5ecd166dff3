"""Tasks to store, and a look at what a store wrote beside them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ulid import ULID

from core.model.message import Chat, Message
from core.model.question import Option, Person, Question, Respondents, TextInput
from core.model.task import Change, Lease, Task, TaskKind, TaskState
from core.model.update import Effect, Notice
from core.ports import Idempotency
from infra.store import Store
from infra.store.sql.button_keys import StoredKeys
from infra.store.sql.steps import rows_of
from infra.store.sql.transactions import Database, Row, Statement, Transaction, Worker

T = TypeVar("T")

BOT = 42
OPS = -1001234567890
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LEASE = Lease("host-1", NOW + timedelta(seconds=10))
ADA = Person(815, "Ada L.", "ada")
OPTIONS = (Option("deploy", "Deploy"), Option("no", "Do not deploy"))
ANYONE = Respondents(anyone=True)


class StoppedClock:
    """It is always `NOW`."""

    def now(self) -> datetime:
        return NOW


async def store_over(database: Database, bot: int = BOT) -> Store:
    """A store in a database that is open already."""
    keys = StoredKeys()
    await database.read(keys.read)
    return Store(database, bot, StoppedClock(), keys)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_question(state: TaskState = TaskState.ASKED, **changes: object) -> Task:
    return replace(
        Task(
            id=f"tsk_{ULID()}",
            bot=BOT,
            kind=TaskKind.QUESTION,
            state=state,
            service="ci",
            chat=Chat(OPS, "ops"),
            content=Question(Message("Deploy?"), ANYONE, OPTIONS, TextInput()),
            created_at=NOW,
            updated_at=NOW,
            expires_at=later(3600),
            token=secrets.token_bytes(12),
            jti="token-1",
            lease=LEASE if state is TaskState.SENDING else None,
            not_before=NOW if state is TaskState.QUEUED else None,
        ),
        **changes,  # type: ignore[arg-type]
    )


def a_message(state: TaskState = TaskState.QUEUED, **changes: object) -> Task:
    question = a_question(state, kind=TaskKind.MESSAGE, content=Message("Build 1234 is green."), token=b"")
    return replace(question, **changes)  # type: ignore[arg-type]


def a_key(key: str = "order-7", fingerprint: str = "aaaa") -> Idempotency:
    return Idempotency("ci", "POST /v1/questions", key, fingerprint)


def press(tasks: Sequence[Task]) -> Effect:
    """The first press answers the question; who comes later is told so."""
    [task] = tasks
    if task.state is not TaskState.ASKED:
        return Effect(notice=Notice("press", "Ada was faster."))
    answer = task.question.answer_by_option(0, ADA, later(7))
    assert answer is not None
    return Effect(changes=(Change.to_state(task.answered(later(7), answer), person=ADA.id, update=1),))


@dataclass(frozen=True)
class Step:
    """One row of a task's history."""

    seq: int
    at: int
    what: str
    person: int | None
    update: int | None
    jti: str | None
    shown: bytes | None = None
    choice: str | None = None


async def history(store: Store, task_id: str) -> list[Step]:
    rows = await ask(
        store,
        "SELECT seq, at, what, person, update_id, jti, shown, choice FROM history"
        " WHERE bot = $1 AND task = $2 ORDER BY seq",
        BOT,
        task_id,
    )
    return [Step(*row) for row in rows]


async def ask(store: Store, sql: str, *params: int | str | bytes | None) -> Sequence[Row]:
    """The rows that a query finds in the store's database."""
    return await store.database.read(lambda: rows_of(Statement(sql, params)))


async def do(store: Store, sql: str, *params: int | str | bytes | None) -> None:
    """Change the store's database behind its back."""
    await store.database.write(lambda: rows_of(Statement(sql, params)))


class Unlucky:
    """A database in which somebody else comes first: statements that begin so find no row, some times."""

    def __init__(self, database: Database, beginning: str, times: int) -> None:
        self._database = database
        self._beginning = beginning
        self.times = times

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        return await self._database.write(lambda: self._meddle(transaction()), reserved=reserved)

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        return await self._database.read(transaction)

    @property
    def workers(self) -> Mapping[str, Worker]:
        return self._database.workers

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()

    def _meddle(self, inner: Transaction[T]) -> Generator[Statement, Sequence[Row], T]:
        try:
            statement = next(inner)
            while True:
                if self.times > 0 and statement.sql.strip().startswith(self._beginning):
                    self.times -= 1
                    statement = inner.send(())
                else:
                    statement = inner.send((yield statement))
        except StopIteration as end:
            result: T = end.value
            return result
