"""Effects: what a decision changes, stored in the course of a transaction. All stores share this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.model.effect import Committed, Decision, Effect
from core.model.frozen import changed
from core.model.job import Job, Lease
from core.model.message import Deletion, Edit
from core.model.task import Change, Task
from core.model.transition import TaskState
from infra.store.sql.rows import (
    COLUMNS,
    INSERT,
    INSERT_JOB,
    UPDATE,
    Value,
    decode,
    encode,
    encode_job,
    encode_step,
    milliseconds,
)
from infra.store.sql.transactions import MovedOn, Sql, Statement, Transaction

FIND = f"SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND id = $2"  # noqa: S608 -- constants only
_FIND_TO_CHANGE = Sql(sqlite=FIND, postgres=f"{FIND} FOR NO KEY UPDATE")
_RECORD = """
INSERT INTO telegate_history (bot, task, seq, at, what, person, update_id, jti, shown, choice)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
# Telegram never gives an id twice, but a sandbox that starts anew does; then the newer message has it.
_OWN_MESSAGE = """
INSERT INTO telegate_messages (bot, chat, message_id, task, part, copy) VALUES ($1, $2, $3, $4, $5, 0)
ON CONFLICT (bot, chat, message_id) DO UPDATE SET task = excluded.task, part = excluded.part, copy = 0
"""
# What is just being claimed counts as running. Whoever claims it may be waiting for the very task that this
# transaction has: to wait for each other would be the end of both.
_CANCEL = Sql(
    sqlite="DELETE FROM telegate_jobs WHERE bot = $1 AND subject = $2 AND lease_holder IS NULL",
    postgres="""
DELETE FROM telegate_jobs WHERE id IN (
  SELECT id FROM telegate_jobs WHERE bot = $1 AND subject = $2 AND lease_holder IS NULL
  FOR UPDATE SKIP LOCKED)
""",
)
BLOCKING = "earlier.overtakes = 0 AND (earlier.in_doubt = 0 OR earlier.lease_holder IS NOT NULL)"
"""What stands before others in an ordered lane; what waits and may have been done holds up nobody."""

RUNNING = "other.overtakes = 0 AND other.width > 1 AND other.lease_holder IS NOT NULL"
"""What uses up the width of a lane."""

# Whether a job may begin as soon as it is stored.
_NOT_HELD = """
SELECT 1 WHERE NOT EXISTS (
  SELECT 1 FROM telegate_lanes AS hold
  WHERE hold.bot = $1 AND hold.queue = $2 AND hold.lane IN ('', $3) AND hold.held_until > $4)
"""
_FIRST_OF_LANE = f"""
AND NOT EXISTS (
  SELECT 1 FROM telegate_jobs AS earlier
  WHERE earlier.bot = $1 AND earlier.queue = $2 AND earlier.lane = $3 AND {BLOCKING})
"""  # noqa: S608 -- constants only
_WIDTH_LEFT = f"""
AND CAST(${{}} AS BIGINT) > (
  SELECT COUNT(*) FROM telegate_jobs AS other
  WHERE other.bot = $1 AND other.queue = $2 AND other.lane = $3 AND {RUNNING})
"""  # noqa: S608 -- constants only
_NONE_OF_KEY = """
AND NOT EXISTS (SELECT 1 FROM telegate_jobs WHERE bot = $1 AND key = ${0} AND lease_holder IS NULL)
AND NOT EXISTS (SELECT 1 FROM telegate_jobs WHERE bot = $1 AND key = ${0} AND lease_holder IS NOT NULL)
"""
_STORE_JOB = f"""
{INSERT_JOB} DO UPDATE SET
  kind = excluded.kind, queue = excluded.queue, subject = excluded.subject, lane = excluded.lane,
  width = excluded.width, overtakes = excluded.overtakes, priority = excluded.priority,
  service = excluded.service, run_at = excluded.run_at, expires_at = excluded.expires_at,
  attempts = excluded.attempts, in_doubt = excluded.in_doubt, payload = excluded.payload
RETURNING id
"""


class Scope(NamedTuple):
    """Whose rows a transaction works on, and when.

    Attributes:
        bot: the bot's numeric id.
        at: milliseconds since 1970, for the history and for what is due.
    """

    bot: int
    at: int


def find(bot: int, task_id: str) -> Transaction[Task | None]:
    """Read a task."""
    rows = yield Statement(FIND, (bot, task_id))
    return decode(bot, rows[0]) if rows else None


def find_to_change(bot: int, task_id: str) -> Transaction[Task | None]:
    """Read a task; nobody else changes it until this transaction ends."""
    rows = yield Statement(_FIND_TO_CHANGE, (bot, task_id))
    return decode(bot, rows[0]) if rows else None


def decide(
    scope: Scope, task_id: str, known: Task | None, decision: Decision, lease: Lease | None
) -> Transaction[Committed]:
    """Decide about a task, and store the effect.

    Args:
        scope: whose rows, and when.
        task_id: of the task.
        known: the task as it was read at any time. It is decided about first: when its row has made no step
            since, it need not be read.
        decision: pure; may be called twice.
        lease: for jobs that are due.
    """
    if known is not None:
        effect = decision(known)
        if effect.changes:
            try:
                return (yield from apply(scope, effect, {task_id: known}, lease))
            except MovedOn:
                # Its first step was refused, so nothing was written.
                pass
    task = yield from find_to_change(scope.bot, task_id)
    return (yield from apply(scope, decision(task), {} if task is None else {task_id: task}, lease))


def apply(
    scope: Scope, effect: Effect, known: Mapping[str, Task], lease: Lease | None, update_id: int | None = None
) -> Transaction[Committed]:
    """Store an effect: the steps with their history, what is cancelled, jobs, and new tasks.

    Args:
        scope: whose rows, and when.
        effect: what was decided.
        known: the tasks that it was decided about, by id.
        lease: for jobs that are due; None when they have to wait.
        update_id: the update that caused it, or None.

    Raises:
        MovedOn: somebody else has made a step meanwhile.
    """
    rows = dict(known)
    for change in effect.changes:
        rows[change.task.id] = yield from _take_step(scope, rows[change.task.id], change)
    for subject in effect.cancels:
        yield Statement(_CANCEL, (scope.bot, subject))
    jobs: list[Job] = []
    for job in effect.jobs:
        stored = yield from _store_job(scope, job, lease)
        jobs.append(stored)
    begun = {job.subject for job in jobs if job.lease is not None}
    for task in effect.tasks:
        rows[task.id] = task if task.state is not TaskState.SENDING or task.id in begun else task.waiting()
        yield from _insert(scope, rows[task.id], update_id)
    return Committed(effect, rows, tuple(jobs))


def _take_step(scope: Scope, before: Task, change: Change) -> Transaction[Task]:
    """Store one step of a task, with its row of history."""
    task = change.task
    key = (scope.bot, before.id, before.state.value, before.steps)
    if not (yield Statement(UPDATE, encode_step(task) + key)):
        raise MovedOn
    yield _record(scope, change, before.steps + 1)
    if task.message_ids != before.message_ids:
        yield from _own_messages(scope.bot, task, len(before.message_ids))
    return task.after_step()


def _insert(scope: Scope, task: Task, update_id: int | None) -> Transaction[None]:
    """Store a new task, with the first row of its history."""
    yield Statement(INSERT, encode(scope.bot, task))
    yield _record(scope, Change.to_state(task, jti=task.jti, update=update_id), 1)
    if task.message_ids:
        yield from _own_messages(scope.bot, task, 0)


def _record(scope: Scope, change: Change, seq: int) -> Statement:
    origin = (change.person, change.update, change.jti)
    values = (scope.bot, change.task.id, seq, scope.at, change.step.value, *origin)
    return Statement(_RECORD, (*values, change.shown, change.choice))


def _own_messages(bot: int, task: Task, known: int) -> Transaction[None]:
    # An edit or a deletion names the message of another task, which keeps it.
    if isinstance(task.content, Edit | Deletion):
        return
    for part, message_id in enumerate(task.message_ids[known:], known):
        yield Statement(_OWN_MESSAGE, (bot, str(task.chat.id), message_id, task.id, part))


def _store_job(scope: Scope, job: Job, lease: Lease | None) -> Transaction[Job]:
    """Store a job; it is this process's at once when it is due, a lease is given, and it may begin."""
    mine: tuple[Value, ...] = (None, None, 0)
    if lease is not None and milliseconds(job.run_at) <= scope.at and (yield _may_begin(scope, job)):
        lease = Lease(lease.holder, lease.until)
        mine = (lease.holder, milliseconds(lease.until), lease.epoch)
    else:
        lease = None
    [(job_id,)] = yield Statement(_STORE_JOB, (scope.bot, *encode_job(job), *mine))
    return changed(job, id=job_id, lease=lease)


def _may_begin(scope: Scope, job: Job) -> Statement:
    """Finds something when nothing holds the job's lane, its turn has come, and there is none of its key."""
    sql, lane = _NOT_HELD, job.lane
    params: list[Value] = [scope.bot, job.queue, None if lane is None else lane.name, scope.at]
    if lane is not None and not job.overtakes:
        if lane.width == 1:
            sql += _FIRST_OF_LANE
        else:
            params.append(lane.width)
            sql += _WIDTH_LEFT.format(len(params))
    if job.key is not None:
        params.append(job.key)
        sql += _NONE_OF_KEY.format(len(params))
    return Statement(sql, tuple(params))
