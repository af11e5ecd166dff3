"""Steps: the transactions that all stores share, and that write every change together with its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from core.model.errors import StorageUnavailable
from core.model.message import Deletion, Edit
from core.model.task import Change, Task, TaskState
from core.ports import Clock
from infra.store.sql.rows import COLUMNS, INSERT, UPDATE, decode, encode, encode_step, milliseconds, readable
from infra.store.sql.transactions import Database, MovedOn, Row, Statement, Transaction

T = TypeVar("T")

_FIND = f"SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND id = $2"  # noqa: S608 -- constants only
_RECORD = """
INSERT INTO history (bot, task, seq, at, what, person, update_id, jti, shown, choice)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
# Telegram never gives an id twice, but a sandbox that starts anew does; then the newer message has it.
_OWN_MESSAGE = """
INSERT INTO messages (bot, chat, message_id, task, part, copy) VALUES ($1, $2, $3, $4, $5, 0)
ON CONFLICT (bot, chat, message_id) DO UPDATE SET task = excluded.task, part = excluded.part, copy = 0
"""
_MOST_TRIES = 10


class Rows:
    """What every store stands on: one bot's rows in one database.

    Args:
        database: runs the transactions.
        bot: the bot's numeric id; nothing of another bot is ever seen.
        clock: tells when something was stored.
    """

    def __init__(self, database: Database, bot: int, clock: Clock) -> None:
        self.database = database
        self.bot = bot
        self._clock = clock
        # Whoever takes the first few rows of many takes so many more, lest these are all that it ever sees.
        self._unreadable: set[str] = set()

    def _now(self) -> int:
        return milliseconds(self._clock.now())

    def _readable(self, rows: Sequence[Row]) -> list[Task]:
        """The tasks of those rows that can be read."""
        return readable(self.bot, rows, self._unreadable)

    async def _write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        for _ in range(_MOST_TRIES):
            try:
                return await self.database.write(transaction, reserved=reserved)
            except MovedOn:
                continue
        raise StorageUnavailable(
            "The database was changed by others each time that this was tried. Nothing was done; try again.",
            retry_after=3,
        )


def find_statement(bot: int, task_id: str, *, for_update: bool = False) -> Statement:
    """The query for a task by its id."""
    return Statement(_FIND, (bot, task_id), for_update)


def find(bot: int, task_id: str, *, for_update: bool = False) -> Transaction[Task | None]:
    """Read a task in the course of a transaction."""
    rows = yield find_statement(bot, task_id, for_update=for_update)
    return decode(bot, rows[0]) if rows else None


def rows_of(statement: Statement) -> Transaction[Sequence[Row]]:
    """A transaction of one statement."""
    return (yield statement)


def insert(bot: int, at: int, task: Task, update_id: int | None = None) -> Transaction[None]:
    """Store a new task, with the first row of its history.

    Args:
        bot: the bot's numeric id.
        at: the time in milliseconds since 1970, for the history.
        task: as it is to be stored.
        update_id: the update that caused it, or None.
    """
    yield Statement(INSERT, encode(bot, task))
    origin = Change.to_state(task, jti=task.jti, update=update_id)
    yield _record(bot, at, origin, 1)
    if task.message_ids:
        yield from _own_messages(bot, task, 0)


_UNSENT_BEFORE = """
SELECT 1 FROM tasks WHERE bot = $1 AND chat = $2 AND state IN ('queued', 'sending')
  AND (state = 'queued' OR not_before IS NULL) LIMIT 1
"""


def place(bot: int, at: int, task: Task, update_id: int | None = None) -> Transaction[Task]:
    """Store a new task: as it is, or `queued` when an earlier one in its chat is not sent yet.

    Takes what `insert` takes.

    Returns:
        The task as it was stored.
    """
    if task.state is TaskState.SENDING and (yield Statement(_UNSENT_BEFORE, (bot, str(task.chat.id)))):
        task = task.waits()
    yield from insert(bot, at, task, update_id)
    return task


def take(bot: int, at: int, before: Task, change: Change) -> Transaction[Task]:
    """Store one step of a task that was read in this transaction, with its row of history.

    Args:
        bot: the bot's numeric id.
        at: the time in milliseconds since 1970, for the history.
        before: the task as it was read.
        change: the step.

    Raises:
        MovedOn: somebody else made a step in between.
    """
    after = yield from try_step(bot, at, before, change)
    if after is None:
        raise MovedOn
    return after


def try_step(bot: int, at: int, before: Task, change: Change) -> Transaction[Task | None]:
    """Store one step of a task that was read at any time; None, and nothing is done, when it has moved on.

    Takes what `take` takes.
    """
    task = change.task
    key = (bot, before.id, before.state.value, before.steps)
    if not (yield Statement(UPDATE, encode_step(task) + key)):
        return None
    yield _record(bot, at, change, before.steps + 1)
    if task.message_ids != before.message_ids:
        yield from _own_messages(bot, task, len(before.message_ids))
    return task.after_step()


def _record(bot: int, at: int, change: Change, seq: int) -> Statement:
    origin = (change.person, change.update, change.jti)
    return Statement(
        _RECORD, (bot, change.task.id, seq, at, change.what, *origin, change.shown, change.choice)
    )


def _own_messages(bot: int, task: Task, known: int) -> Transaction[None]:
    # An edit or a deletion names the message of another task, which keeps it.
    if isinstance(task.content, Edit | Deletion):
        return
    for part, message_id in enumerate(task.message_ids[known:], known):
        yield Statement(_OWN_MESSAGE, (bot, str(task.chat.id), message_id, task.id, part))
