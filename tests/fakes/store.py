"""The store over a database in memory: the real SQL, and a few ways for it to be difficult."""

from __future__ import annotations

import asyncio
import sqlite3
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, wraps
from typing import Literal, TypeAlias, TypeVar, get_args

from core.model.cluster import Entry as Heartbeat
from core.model.cluster import Outage, Presence
from core.model.effect import Committed, Decision, Effect, UpdateDecision
from core.model.errors import StorageUnavailable
from core.model.job import Job, Lease
from core.model.lookup import Lookup
from core.model.task import Change, Task
from core.model.transition import TRANSITIONS, Step
from core.ports import Clock
from infra.store.migrations import apply_missing, find_state
from infra.store.migrations.dialect import SQLITE
from infra.store.sql.button_keys import StoredKeys
from infra.store.sql.jobs import Claimed
from infra.store.sql.rows import COLUMNS, INSERT, JOB_COLUMNS, decode, decode_job, encode, to_time
from infra.store.sql.transactions import Row, Transaction, Worker
from infra.store.sqlite.file import run
from infra.store.store import Store
from tests.fakes.clock import HandClock
from tests.fakes.purity import forbid_impurity, watch_logs

T = TypeVar("T")

Method: TypeAlias = Literal[
    "add", "made_by", "change", "find", "page", "progress", "purge",
    "claim", "claim_next", "claim_expired", "renew", "record", "complete", "retry", "put", "hold", "holds",
    "break_leases", "next_due", "waiting",
    "receive", "quarantine",
    "chat_notes", "keep_chat_unreachable", "forget_chat_unreachable", "move_chat",
    "beat", "reprompt",
]  # fmt: skip

BOT = 42


class Forbidden(AssertionError):
    """Somebody stored what no task may do; a database would not notice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of history.

    Attributes:
        task: the task's id.
        seq: counts the steps of the task from 1.
        person: the id of the person who made it, or None.
        update: the `update_id` that brought it, or None.
        jti: the id of the service's token that brought it, or None.
        shown: the fingerprint of what stands in the chat since then, or None.
        choice: the id of the option that was decided for, or None.
    """

    task: str
    seq: int
    at: datetime
    step: Step
    person: int | None
    update: int | None
    jti: str | None
    shown: bytes | None
    choice: str | None


@dataclass(slots=True)
class Held:
    """A call whose answer is held back: what it does is committed, and its caller does not know yet."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@cache
def _empty() -> bytes:
    """A database with all tables and nothing in them."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        run(connection.cursor(), apply_missing(SQLITE, 0))
        return connection.serialize()


class MemoryDatabase:
    """The port `Database` in memory; a transaction runs from its first line to its last in one go."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256
        )
        weakref.finalize(self, self.connection.close)
        self.connection.deserialize(_empty())
        self.connection.execute("PRAGMA foreign_keys = ON")
        self._cursor = self.connection.cursor()

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        """See `infra.store.sql.transactions.Database.write`."""
        del reserved
        self._cursor.execute("BEGIN")
        try:
            result = run(self._cursor, transaction())
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._cursor.execute("COMMIT")
        return result

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """See `infra.store.sql.transactions.Database.read`."""
        return run(self._cursor, transaction())

    @property
    def workers(self) -> Mapping[str, Worker]:
        """See `infra.store.sql.transactions.Database.workers`."""
        return {}

    async def check(self) -> None:
        """See `infra.store.sql.transactions.Database.check`."""
        await self.read(find_state)

    async def close(self) -> None:
        """See `infra.store.sql.transactions.Database.close`."""
        self.connection.close()


class TaskRows(MutableMapping[str, Task]):
    """The rows of tasks by id, oldest first; a test may change them behind everybody's back."""

    def __init__(self, connection: sqlite3.Connection, bot: int) -> None:
        self._connection = connection
        self._bot = bot

    def __getitem__(self, task_id: str) -> Task:
        sql = f"SELECT {COLUMNS} FROM telegate_tasks WHERE bot = ? AND id = ?"  # noqa: S608 - constants only
        row = self._connection.execute(sql, (self._bot, task_id)).fetchone()
        if row is None:
            raise KeyError(task_id)
        return decode(self._bot, row)

    def __setitem__(self, task_id: str, task: Task) -> None:
        columns = INSERT[INSERT.index("(") + 1 : INSERT.index(")")].split(",")
        kept = ", ".join(f"{column} = excluded.{column}" for column in map(str.strip, columns))
        values = encode(self._bot, task)
        places = ", ".join("?" for _ in values)
        self._connection.execute(
            f"INSERT INTO telegate_tasks ({', '.join(columns)}) VALUES ({places}, ?)"  # noqa: S608 - constants only
            f" ON CONFLICT (bot, id) DO UPDATE SET {kept}",
            (*values, task.steps),
        )

    def __delitem__(self, task_id: str) -> None:
        sql = "DELETE FROM telegate_tasks WHERE bot = ? AND id = ?"
        if not self._connection.execute(sql, (self._bot, task_id)).rowcount:
            raise KeyError(task_id)

    def __iter__(self) -> Iterator[str]:
        sql = "SELECT id FROM telegate_tasks WHERE bot = ? ORDER BY rowid"
        return iter([task_id for (task_id,) in self._connection.execute(sql, (self._bot,)).fetchall()])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))


class _PureDecision:
    """A decision that is made twice, and must say the same, and must change no task as none may change."""

    def __init__(self, decide: Decision) -> None:
        self._decide = decide

    def __call__(self, task: Task | None) -> Effect:
        return _checked(lambda: self._decide(task), () if task is None else (task,))


def _checked(decide: Callable[[], Effect], tasks: Sequence[Task]) -> Effect:
    with forbid_impurity():
        effect, again = decide(), decide()
    if effect != again:
        raise Forbidden(f"A decision is made twice, and says first {effect} and then {again}.")
    known = {task.id: task for task in tasks}
    for change in effect.changes:
        _check(known[change.task.id], change)
        known[change.task.id] = change.task
    return effect


def _check(before: Task, change: Change) -> None:
    after = change.task
    if before.state is not after.state and after.state not in TRANSITIONS[before.state]:
        raise Forbidden(f"{after.id} goes from {before.state} to {after.state}.")
    if before.decision is not None and before.decision != after.decision:
        raise Forbidden(f"{after.id} was decided, and is decided again.")


class MemoryStore(Store):
    """All ports of the store over a database in memory.

    Others get their turn before each call and between its commit and its answer.

    Args:
        clock: tells when something was stored; the world's own, since what is due goes by it.
        bot: the bot's numeric id.

    Attributes:
        down: whether every call raises `StorageUnavailable`.
        calls: how often each method was called.
    """

    def __init__(self, clock: Clock | None = None, bot: int = BOT) -> None:
        self.memory, keys = MemoryDatabase(), StoredKeys()
        run(self.memory.connection.cursor(), keys.read())
        super().__init__(self.memory, bot, clock or HandClock(), keys)
        watch_logs()
        self.down = False
        self.calls: dict[Method, int] = {}
        self._held: dict[Method, list[Held]] = {}
        self._lost: set[Method] = set()

    # Difficulties

    def hold_back(self, method: Method) -> Held:
        """Hold the answer of the next call of this method back until it is released."""
        held = Held()
        self._held.setdefault(method, []).append(held)
        return held

    def lose(self, method: Method) -> None:
        """Let the next call of this method be committed, and its caller be told that it was not."""
        self._lost.add(method)

    async def difficult(self, method: Method, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call as difficult as was asked for."""
        self.calls[method] = self.calls.get(method, 0) + 1
        await asyncio.sleep(0)
        if self.down:
            raise StorageUnavailable("The database cannot be reached. Nothing was done.", retry_after=3)
        answer = await call()
        if self._held.get(method):
            held = self._held[method].pop(0)
            held.arrived.set()
            await held.released.wait()
        await asyncio.sleep(0)
        if method in self._lost:
            self._lost.discard(method)
            raise StorageUnavailable("The connection broke; nobody knows whether it was done.", retry_after=3)
        return answer

    # What is stored

    @property
    def tasks(self) -> TaskRows:
        """The rows of tasks, oldest first."""
        return TaskRows(self.memory.connection, self.bot)

    @property
    def jobs(self) -> list[Job]:
        """The rows of jobs, oldest first."""
        return [decode_job(row) for row in self._rows(f"{JOB_COLUMNS} FROM telegate_jobs", "id")]

    @property
    def history(self) -> list[Entry]:
        """Every step of every task, in order."""
        columns = "task, seq, at, what, person, update_id, jti, shown, choice"
        rows = self._rows(f"{columns} FROM telegate_history", "at, task, seq")
        return [Entry(task, seq, to_time(at), Step(step), *more) for task, seq, at, step, *more in rows]

    @property
    def quarantined(self) -> Mapping[int | bytes, tuple[str, bytes]]:
        """Updates that could not be read by their ids, or by their bytes: the reason, and the bytes."""
        rows = self._rows("update_id, reason, raw FROM telegate_quarantine", "at")
        return {raw if update_id is None else update_id: (reason, raw) for update_id, reason, raw in rows}

    def steps_of(self, task_id: str) -> list[str]:
        """What happened to a task, in the words of its history."""
        return [entry.step.value for entry in self.history if entry.task == task_id]

    def _rows(self, selection: str, order: str) -> list[Row]:
        sql = f"SELECT {selection} WHERE bot = ? ORDER BY {order}"
        return self.memory.connection.execute(sql, (self.bot,)).fetchall()

    # Decisions, which are looked at closely

    async def change(self, task_id: str, decide: Decision, *, lease: Lease | None) -> Committed:
        """See `core.ports.TaskStore.change`."""
        return await super().change(task_id, _PureDecision(decide), lease=lease)

    async def claim(
        self, queue: str, at: datetime, lease: Lease, limit: int, claimed: Claimed, forgotten: datetime
    ) -> Sequence[tuple[Job, Task | None]]:
        """See `core.ports.JobStore.claim`."""
        return await super().claim(queue, at, lease, limit, _pure(claimed), forgotten)

    async def claim_next(
        self, queue: str, lane: str, at: datetime, lease: Lease, claimed: Claimed
    ) -> tuple[Job, Task | None] | None:
        """See `core.ports.JobStore.claim_next`."""
        return await super().claim_next(queue, lane, at, lease, _pure(claimed))

    async def record(self, job: Job, known: Task | None, decide: Decision, lease: Lease) -> Committed:
        """See `core.ports.JobStore.record`."""
        return await super().record(job, known, _PureDecision(decide), lease)

    async def complete(
        self, job: Job, known: Task | None, decide: Decision, *, lease: Lease | None, proof: bool = False
    ) -> Committed | None:
        """See `core.ports.JobStore.complete`."""
        return await super().complete(job, known, _PureDecision(decide), lease=lease, proof=proof)

    async def retry(self, job: Job, known: Task | None, decide: Decision) -> Committed | None:
        """See `core.ports.JobStore.retry`."""
        return await super().retry(job, known, _PureDecision(decide))

    async def receive(
        self, update_id: int, lookup: Lookup | None, decide: UpdateDecision, *, lease: Lease
    ) -> Committed | None:
        """See `core.ports.InboxStore.receive`."""
        return await super().receive(
            update_id, lookup, lambda tasks: _checked(lambda: decide(tasks), tasks), lease=lease
        )

    async def beat(self, entry: Heartbeat) -> tuple[Presence, Outage | None]:
        """See `core.ports.HeartbeatStore.beat`."""

        def pure(before: Presence | None) -> tuple[Presence, Outage | None]:
            with forbid_impurity():
                return entry(before)

        return await super().beat(pure)


def _pure(claimed: Claimed) -> Claimed:
    def pure(job: Job, task: Task | None) -> Decision:
        with forbid_impurity():
            return _PureDecision(claimed(job, task))

    return pure


def _made_difficult(method: Method, call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    @wraps(call)
    async def difficult(self: MemoryStore, *args: object, **more: object) -> T:
        return await self.difficult(method, lambda: call(self, *args, **more))

    return difficult


for _method in get_args(Method):
    setattr(MemoryStore, _method, _made_difficult(_method, getattr(MemoryStore, _method)))
