"""Rows: how a task and a job look in their tables.

What is searched for stands in columns of its own; the rest is JSON, in which unknown fields are ignored and
missing ones take their defaults, so that versions can follow one another.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from pydantic import TypeAdapter

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.failure import Failure
from core.model.job import NO_PAYLOAD, Job, Lane, Lease, Priority
from core.model.message import Deletion, Edit, Message
from core.model.question import Question
from core.model.task import Content, Task, TaskKind
from core.model.transition import TaskState
from infra.store.sql.transactions import Row

T = TypeVar("T")
Id = TypeVar("Id", str, int)

log = logging.getLogger("telegate.store")

Value: TypeAlias = int | str | bytes | None
"""What a column holds."""

COLUMNS = (
    "id, kind, state, service, chat, alias, topic, content, metadata, token, jti, of_task, created_at, "
    "updated_at, expires_at, not_before, message_ids, progress, steps"
)
"""What `decode` reads, in its order."""

INSERT = """
INSERT INTO telegate_tasks (bot, id, kind, state, service, chat, alias, topic, content, metadata, token, jti,
  of_task, created_at, updated_at, expires_at, not_before, message_ids, progress, steps)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 1)
"""
"""Takes `encode`."""

# What was asked for never changes (content, metadata, service, …), so a step writes only what can.
# The count of steps tells whether this is still the row that the decision was made about.
UPDATE = """
UPDATE telegate_tasks SET state = $1, chat = $2, updated_at = $3, expires_at = $4, not_before = $5,
  message_ids = $6, progress = $7, steps = steps + 1
WHERE bot = $8 AND id = $9 AND state = $10 AND steps = $11
"""
"""Takes `encode_step`, then bot, id, and the state and the count of steps that were read."""

JOB_COLUMNS = (
    "id, kind, queue, subject, key, lane, width, overtakes, priority, service, run_at, expires_at, attempts, "
    "in_doubt, payload, lease_holder, lease_until, lease_epoch"
)
"""What `decode_job` reads, in its order."""

INSERT_JOB = """
INSERT INTO telegate_jobs (bot, kind, queue, subject, key, lane, width, overtakes, priority, service, run_at,
  expires_at, attempts, in_doubt, payload, lease_holder, lease_until, lease_epoch)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (bot, key) WHERE key IS NOT NULL AND lease_holder IS NULL
"""
"""Takes the bot, `encode_job` and a lease; what is to be done when one of its key waits has to follow."""


@dataclass(frozen=True, slots=True)
class _Progress:
    """What is found out about a task on its way."""

    answers: tuple[Answer, ...] = ()
    decision: Answer | None = None
    error: Failure | None = None


_NO_PROGRESS = "{}"
_KINDS = {kind.value: kind for kind in TaskKind}
_STATES = {state.value: state for state in TaskState}
_CONTENTS: dict[type[Content], TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Message, Question, Edit, Deletion)
}
_CONTENT_OF_KIND = {
    "message": _CONTENTS[Message],
    "question": _CONTENTS[Question],
    "edit": _CONTENTS[Edit],
    "deletion": _CONTENTS[Deletion],
}
_PROGRESS = TypeAdapter(_Progress)


def milliseconds(time: datetime) -> int:
    """A time as tables keep it: milliseconds since 1970."""
    return round(time.timestamp() * 1000)


def to_time(stored: int) -> datetime:
    """The time, in UTC, that a table keeps as milliseconds."""
    return datetime.fromtimestamp(stored / 1000, UTC)


def encode(bot: int, task: Task) -> tuple[Value, ...]:
    """The values of a task's new row."""
    content = task.content
    return (
        bot,
        task.id,
        task.kind.value,
        task.state.value,
        task.service,
        str(task.chat.id),
        task.chat.alias,
        task.chat.topic,
        _CONTENTS[type(content)].dump_json(content).decode(),
        json.dumps(dict(task.metadata)) if task.metadata else "{}",
        # No token is NULL, so that the unique index holds only those that buttons carry.
        task.token or None,
        task.jti,
        task.of,
        milliseconds(task.created_at),
        milliseconds(task.updated_at),
        milliseconds(task.expires_at),
        None if task.not_before is None else milliseconds(task.not_before),
        _encode_ids(task.message_ids),
        _encode_progress(task),
    )


def encode_step(task: Task) -> tuple[Value, ...]:
    """The values that a step can change."""
    return (
        task.state.value,
        str(task.chat.id),
        milliseconds(task.updated_at),
        milliseconds(task.expires_at),
        None if task.not_before is None else milliseconds(task.not_before),
        _encode_ids(task.message_ids),
        _encode_progress(task),
    )


def decode(bot: int, row: Row) -> Task:
    """The task that a row of `COLUMNS` tells of."""
    progress = _decode_progress(row[17])
    return Task(
        id=row[0],
        bot=bot,
        kind=_KINDS[row[1]],
        state=_STATES[row[2]],
        service=row[3],
        chat=Chat(_decode_chat(row[4]), row[5], row[6]),
        content=_decode_content(row[1], row[7]),
        metadata={} if row[8] == "{}" else json.loads(row[8]),
        token=row[9] or b"",
        jti=row[10],
        of=row[11],
        created_at=to_time(row[12]),
        updated_at=to_time(row[13]),
        expires_at=to_time(row[14]),
        not_before=None if row[15] is None else to_time(row[15]),
        message_ids=tuple(map(int, row[16].split())),
        answers=progress.answers,
        decision=progress.decision,
        error=progress.error,
        steps=row[18],
    )


def encode_job(job: Job) -> tuple[Value, ...]:
    """The values of a job's new row, from its kind to its payload."""
    return (
        job.kind,
        job.queue,
        job.subject,
        job.key,
        None if job.lane is None else job.lane.name,
        1 if job.lane is None else job.lane.width,
        int(job.overtakes),
        job.priority.value,
        job.service,
        milliseconds(job.run_at),
        None if job.expires_at is None else milliseconds(job.expires_at),
        job.attempts,
        int(job.in_doubt),
        json.dumps(dict(job.payload)) if job.payload else "{}",
    )


def decode_job(row: Row) -> Job:
    """The job that a row of `JOB_COLUMNS` tells of."""
    return Job(
        id=row[0],
        kind=row[1],
        queue=row[2],
        subject=row[3],
        key=row[4],
        lane=None if row[5] is None else Lane(row[5], row[6]),
        overtakes=bool(row[7]),
        priority=Priority(row[8]),
        service=row[9],
        run_at=to_time(row[10]),
        expires_at=None if row[11] is None else to_time(row[11]),
        attempts=row[12],
        in_doubt=bool(row[13]),
        payload=NO_PAYLOAD if row[14] == "{}" else json.loads(row[14]),
        lease=None if row[15] is None else Lease(row[15], to_time(row[16]), row[17]),
    )


UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What decoding stumbles with: an unknown state, a time after the end of the calendar, JSON that is none."""


def readable(
    rows: Iterable[Row],
    decoded: Callable[[Row], T],
    unreadable: set[Id],
    tell: Callable[[Id, Exception], None],
) -> list[T]:
    """What those rows tell that can be read: one that cannot must not hold up the others.

    Args:
        rows: each begins with an id.
        decoded: reads one.
        unreadable: the ids of what could not be read; those that are new are added, and told of.
        tell: tells of one.
    """
    found: list[T] = []
    for row in rows:
        try:
            found.append(decoded(row))
        except UNREADABLE as error:
            if row[0] not in unreadable:
                unreadable.add(row[0])
                tell(row[0], error)
    return found


# What an error says may repeat what people wrote to each other, so only its name is logged.


def tell_unreadable_task(task_id: str, error: Exception) -> None:
    """Say that the row of a task cannot be read."""
    log.error(
        "The row of task %s cannot be read (%s), so nothing becomes of this task, and if its turn has not "
        "come, what came later to its chat waits behind it. All else goes on. Mend the row or delete it. One "
        "that a newer version of Telegate has written can be read by that version.",
        task_id,
        type(error).__name__,
        extra={"action": "row_unreadable", "task": task_id},
    )


def tell_unreadable_job(job_id: int, error: Exception) -> None:
    """Say that the row of a job cannot be read, or is of a kind that is not known."""
    log.error(
        "The row of job %d cannot be read (%s), so this job is not run, and what waits behind it in its lane "
        "goes on waiting. All else goes on. Mend the row or delete it. One that a newer version of Telegate "
        "has written can be run by that version.",
        job_id,
        type(error).__name__,
        extra={"action": "row_unreadable", "job": job_id},
    )


def _decode_content(kind: str, stored: str) -> Content:
    decode_ = _remembered_content if len(stored) <= _SHORT else _fresh_content
    return decode_(kind, stored)


def _fresh_content(kind: str, stored: str) -> Content:
    content: Content = _CONTENT_OF_KIND[kind].validate_json(stored)
    return content


# A task is read several times on its way and its content never changes; long ones would take too much memory.
_SHORT = 2_048
_remembered_content = lru_cache(maxsize=1_024)(_fresh_content)


def _decode_chat(stored: str) -> int | str:
    # Telegram knows chats by a number or, for public channels, by a name that begins with @.
    return stored if stored.startswith("@") else int(stored)


def _encode_ids(message_ids: tuple[int, ...]) -> str:
    # The ids stand in the table of messages too, to be found by; here, reading a task needs one query.
    return " ".join(map(str, message_ids))


_NOTHING = _Progress()


def _encode_progress(task: Task) -> str:
    if not task.answers and task.decision is None and task.error is None:
        return _NO_PROGRESS
    return _PROGRESS.dump_json(_Progress(task.answers, task.decision, task.error)).decode()


def _decode_progress(stored: str) -> _Progress:
    return _NOTHING if stored == _NO_PROGRESS else _PROGRESS.validate_json(stored)
