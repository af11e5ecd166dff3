"""Tasks to store, and a look at what a store wrote beside them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ulid import ULID

from core.model.chat import Chat
from core.model.effect import Committed, Decision, Effect, Notice
from core.model.job import TELEGRAM, Job, Lane, Lease
from core.model.lookup import Idempotency
from core.model.message import Message
from core.model.person import Person
from core.model.question import Option, Question, Respondents, TextInput
from core.model.task import Change, Task, TaskKind
from core.model.transition import Step, TaskState
from infra.store import Store
from infra.store.sql.button_keys import StoredKeys
from infra.store.sql.transactions import Database, Row, Sql, Statement, Transaction, Worker, rows_of
from tests.fakes.purity import refuse_in_decision

T = TypeVar("T")

BOT = 42
OPS = -1001234567890
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LEASE = Lease("host-1", NOW + timedelta(seconds=30))
ADA = Person(815, "Ada L.", "ada")
OPTIONS = (Option("deploy", "Deploy"), Option("no", "Do not deploy"))
ANYONE = Respondents(anyone=True)


class StoppedClock:
    """It is always `NOW`."""

    def now(self) -> datetime:
        refuse_in_decision("reads the clock")
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
            not_before=NOW if state is TaskState.QUEUED else None,
        ),
        **changes,  # type: ignore[arg-type]
    )


def a_message(state: TaskState = TaskState.QUEUED, **changes: object) -> Task:
    question = a_question(state, kind=TaskKind.MESSAGE, content=Message("Build 1234 is green."), token=b"")
    return replace(question, **changes)  # type: ignore[arg-type]


def a_key(key: str = "order-7", fingerprint: str = "aaaa") -> Idempotency:
    return Idempotency("ci", "POST /v1/questions", key, fingerprint)


def a_job(subject: str = "tsk_1", **changes: object) -> Job:
    """A job of this task that is due; in the lane of `OPS`."""
    job = Job("send", TELEGRAM, subject, run_at=NOW, lane=Lane(str(OPS)), service="ci")
    return replace(job, **changes)  # type: ignore[arg-type]


async def add(
    store: Store, task: Task, *jobs: Job, key: Idempotency | None = None, lease: Lease | None = LEASE
) -> Task:
    """Store a task as it is, with these jobs; one that is being sent has a job in a process's hands."""
    if task.state is TaskState.SENDING and not jobs:
        jobs = (a_job(task.id, queue="elsewhere", lane=None),)
    stored = await store.add(task, jobs, lease=lease, idempotency=key)
    assert isinstance(stored, Committed)
    assert stored.task is not None
    return stored.task


async def change(store: Store, task_id: str, decide: Callable[[Task], Change]) -> Task:
    """Make one step of a task that exists."""

    def decision(task: Task | None) -> Effect:
        assert task is not None
        return Effect(changes=(decide(task),))

    committed = await store.change(task_id, decision, lease=None)
    [task] = committed.rows.values()
    return task


def nothing(_task: Task | None) -> Effect:
    return Effect()


def claimed(_job: Job, _task: Task | None) -> Decision:
    """That a job is claimed changes nothing."""
    return nothing


def press(tasks: Sequence[Task]) -> Effect:
    """The first press answers the question; who comes later is told so."""
    [task] = tasks
    if task.state is not TaskState.ASKED:
        return Effect(notice=Notice("press", "Ada was faster."))
    answer = task.question.answer_by_option(0, ADA, later(7))
    assert answer is not None
    return Effect(changes=(Change.to_state(task.answered(later(7), answer), person=ADA.id, update=1),))


@dataclass(frozen=True)
class Recorded:
    """One row of a task's history."""

    seq: int
    at: int
    step: Step
    person: int | None
    update: int | None
    jti: str | None
    shown: bytes | None = None
    choice: str | None = None


async def history(store: Store, task_id: str) -> list[Recorded]:
    rows = await ask(
        store,
        "SELECT seq, at, what, person, update_id, jti, shown, choice FROM telegate_history"
        " WHERE bot = $1 AND task = $2 ORDER BY seq",
        BOT,
        task_id,
    )
    return [Recorded(seq, at, Step(step), *more) for seq, at, step, *more in rows]


async def steps(store: Store, task_id: str) -> list[Step]:
    """What happened to a task."""
    return [row.step for row in await history(store, task_id)]


async def ask(store: Store, sql: str, *params: int | str | bytes | None) -> Sequence[Row]:
    """The rows that a query finds in the store's database."""
    return await store.database.read(lambda: rows_of(Statement(sql, params)))


async def do(store: Store, sql: str, *params: int | str | bytes | None) -> None:
    """Change the store's database behind its back."""
    await store.database.write(lambda: rows_of(Statement(sql, params)))


def sql_of(statement: Statement) -> str:
    """Its text, as SQLite takes it."""
    return statement.sql.sqlite if isinstance(statement.sql, Sql) else statement.sql


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
                if self.times > 0 and sql_of(statement).strip().startswith(self._beginning):
                    self.times -= 1
                    statement = inner.send(())
                else:
                    statement = inner.send((yield statement))
        except StopIteration as end:
            result: T = end.value
            return result
