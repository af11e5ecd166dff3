"""The store of jobs: claim, renew, complete, retry, and what holds them up."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeAlias

from core.jobs.limits import SOON
from core.model.effect import NOTHING, Committed, Decision
from core.model.job import EXPIRY_GRACE, Job, Lease
from core.model.task import Task
from infra.store.sql import effects
from infra.store.sql.base import SqlStore
from infra.store.sql.effects import BLOCKING, RUNNING, Scope
from infra.store.sql.rows import (
    COLUMNS,
    INSERT_JOB,
    JOB_COLUMNS,
    decode_job,
    encode_job,
    milliseconds,
    readable,
    tell_unreadable_job,
    to_time,
)
from infra.store.sql.transactions import Row, Sql, Statement, Transaction, rows_of

Claimed: TypeAlias = Callable[[Job, Task | None], Decision]

# All that claims has $1 for the bot, $2 for the time and $3 for the queue. A job may be claimed when nothing
# holds its lane or its queue, no job of the same key runs, and its turn in its lane has come.
_COMES_DUE: Final = "COALESCE(job.lease_until, job.run_at)"
_HELD: Final = "(SELECT lane FROM telegate_lanes WHERE bot = $1 AND queue = $3 AND held_until > $2)"
_RUNNING_IN_LANE: Final = f"""(
  SELECT COUNT(*) FROM telegate_jobs AS other
  WHERE other.bot = job.bot AND other.queue = job.queue AND other.lane = job.lane AND {RUNNING})
"""  # noqa: S608 -- constants only
_IS_FREE: Final = f"""
  (job.expires_at IS NULL OR job.expires_at > $2)
  AND '' NOT IN {_HELD} AND (job.lane IS NULL OR job.lane NOT IN {_HELD})
  AND (job.key IS NULL OR job.lease_holder IS NOT NULL OR NOT EXISTS (
    SELECT 1 FROM telegate_jobs AS same
    WHERE same.bot = job.bot AND same.key = job.key AND same.key IS NOT NULL
      AND same.lease_holder IS NOT NULL))
  AND (job.lane IS NULL OR job.overtakes = 1 OR CASE WHEN job.width = 1
    THEN NOT EXISTS (
      SELECT 1 FROM telegate_jobs AS earlier
      WHERE earlier.bot = job.bot AND earlier.queue = job.queue AND earlier.lane = job.lane
        AND earlier.id < job.id AND {BLOCKING})
    ELSE job.lease_holder IS NOT NULL OR job.width > {_RUNNING_IN_LANE}
    END)
"""  # noqa: S608 -- constants only
_IS_DUE: Final = f"{_COMES_DUE} <= $4 AND ({_COMES_DUE} <= $2 OR job.lease_holder = $5)"
_NEEDS_ROOM: Final = "job.width > 1 AND job.lease_holder IS NULL AND job.overtakes = 0"

# Of a wide lane as many are taken as its width leaves; then every service gets its turn: first the first of
# each, then the second of each. What is due is checked once more at the end, because PostgreSQL looks at a
# row again when it could lock it.
_IN_TURN: Final = f"""
SELECT {JOB_COLUMNS} FROM (
  SELECT id AS next_id, ROW_NUMBER() OVER (PARTITION BY service ORDER BY priority, id) AS turn
  FROM (
    SELECT id, service, priority FROM telegate_jobs AS job
    WHERE bot = $1 AND queue = $3 AND NOT ({_NEEDS_ROOM}) AND {_IS_DUE} AND {_IS_FREE}
    UNION ALL
    SELECT id, service, priority FROM (
      SELECT id, service, priority, width,
        ROW_NUMBER() OVER (PARTITION BY lane ORDER BY priority, id) + {_RUNNING_IN_LANE} AS place
      FROM telegate_jobs AS job
      WHERE bot = $1 AND queue = $3 AND {_NEEDS_ROOM} AND {_IS_DUE} AND {_IS_FREE}
    ) AS wide WHERE place <= width
  ) AS free
) AS next CROSS JOIN telegate_jobs AS job
WHERE job.id = next.next_id AND {_IS_DUE}
ORDER BY turn, priority, id LIMIT $6
"""  # noqa: S608 -- constants only
_CLAIM: Final = Sql(sqlite=_IN_TURN, postgres=f"{_IN_TURN} FOR UPDATE OF job SKIP LOCKED")
_FIRST_OF_LANE: Final = f"""
SELECT {JOB_COLUMNS} FROM telegate_jobs AS job
WHERE bot = $1 AND queue = $3 AND lane = $4 AND width = 1 AND run_at <= $2 AND lease_holder IS NULL
  AND id = (
    SELECT MIN(earlier.id) FROM telegate_jobs AS earlier
    WHERE earlier.bot = $1 AND earlier.queue = $3 AND earlier.lane = $4 AND {BLOCKING})
  AND {_IS_FREE}
"""  # noqa: S608 -- constants only
_CLAIM_NEXT: Final = Sql(sqlite=_FIRST_OF_LANE, postgres=f"{_FIRST_OF_LANE} FOR UPDATE SKIP LOCKED")
# Whoever has just taken one to give it up gets a moment to do so.
_EXPIRED: Final = f"""
SELECT {JOB_COLUMNS} FROM telegate_jobs
WHERE bot = $1 AND expires_at <= $2 AND (lease_holder IS NULL OR (expires_at <= $3 AND lease_until <= $4))
ORDER BY expires_at, id LIMIT $5
"""  # noqa: S608 -- constants only
_CLAIM_EXPIRED: Final = Sql(sqlite=_EXPIRED, postgres=f"{_EXPIRED} FOR UPDATE SKIP LOCKED")
_TASKS: Final = Sql(
    sqlite=f"""
SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND id IN (SELECT value FROM json_each($2))
""",  # noqa: S608 -- constants only
    postgres=f"""
SELECT {COLUMNS} FROM telegate_tasks
WHERE bot = $1 AND id = ANY (ARRAY (SELECT json_array_elements_text(CAST($2 AS json))))
""",  # noqa: S608 -- constants only
)
_LEASE: Final = """
UPDATE telegate_jobs SET lease_holder = $3, lease_until = $4, lease_epoch = $5, attempts = $6, in_doubt = $7
WHERE bot = $1 AND id = $2
"""

# Whoever has lost the lease changes nothing.
_IS_MINE: Final = "bot = $1 AND id = $2 AND lease_holder = $3 AND lease_epoch = $4"
_COMPLETE: Final = f"DELETE FROM telegate_jobs WHERE {_IS_MINE}"  # noqa: S608 -- constants only
_KEEP: Final = f"UPDATE telegate_jobs SET lease_until = $5, lane = $6 WHERE {_IS_MINE}"  # noqa: S608 -- constants only
_RETRY: Final = f"""
UPDATE telegate_jobs SET run_at = $5, attempts = $6, in_doubt = $7, lane = $8, lease_holder = NULL,
  lease_until = NULL
WHERE {_IS_MINE}
"""  # noqa: S608 -- constants only
_PUT: Final = f"{INSERT_JOB} DO NOTHING"
# Who locks several rows does so in the order of their ids, lest two wait for each other. The plus keeps
# SQLite from looking through all jobs of the bot.
_RENEW: Final = Sql(
    sqlite="""
UPDATE telegate_jobs SET lease_until = $2
WHERE +bot = $1 AND id IN (SELECT CAST(key AS INTEGER) FROM json_each($3))
  AND lease_holder = json_extract($3, '$."' || id || '"[0]')
  AND lease_epoch = json_extract($3, '$."' || id || '"[1]')
RETURNING id
""",
    postgres="""
UPDATE telegate_jobs SET lease_until = $2 WHERE id IN (
  SELECT id FROM telegate_jobs
  WHERE bot = $1 AND id = ANY (ARRAY (SELECT CAST(json_object_keys(CAST($3 AS json)) AS BIGINT)))
    AND lease_holder = CAST($3 AS json) -> CAST(id AS TEXT) ->> 0
    AND lease_epoch = CAST(CAST($3 AS json) -> CAST(id AS TEXT) ->> 1 AS BIGINT)
  ORDER BY id FOR UPDATE)
RETURNING id
""",
)
_BREAK_LEASES: Final = """
UPDATE telegate_jobs SET lease_until = $2 WHERE bot = $1 AND lease_holder IS NOT NULL
"""
_HOLD: Final = """
INSERT INTO telegate_lanes (bot, queue, lane, held_at, held_until) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bot, queue, lane) DO UPDATE SET held_at = excluded.held_at,
  held_until = CASE WHEN telegate_lanes.held_until > excluded.held_until
    THEN telegate_lanes.held_until ELSE excluded.held_until END
"""
_OTHERS_HELD: Final = """
SELECT MIN(held_until) FROM telegate_lanes
WHERE bot = $1 AND queue = $2 AND lane <> $3 AND lane <> '' AND held_at > $4
"""
_HOLDS: Final = (
    "SELECT lane, held_until FROM telegate_lanes WHERE bot = $1 AND queue = $2 AND held_until > $3"
)
_QUEUES: Final = """
WITH RECURSIVE queues (queue) AS (
  SELECT MIN(queue) FROM telegate_jobs WHERE bot = $1
  UNION ALL
  SELECT (SELECT MIN(job.queue) FROM telegate_jobs AS job WHERE job.bot = $1 AND job.queue > queues.queue)
  FROM queues WHERE queues.queue IS NOT NULL)
SELECT queue FROM queues WHERE queue IS NOT NULL
"""
_NEXT_DUE: Final = f"""
SELECT {_COMES_DUE}, id FROM telegate_jobs AS job WHERE bot = $1 AND queue = $3 AND {_IS_FREE}
ORDER BY {_COMES_DUE} LIMIT
"""  # noqa: S608 -- constants only
_NEXT_EXPIRY: Final = """
SELECT expires_at, id FROM telegate_jobs WHERE bot = $1 AND expires_at IS NOT NULL AND lease_holder IS NULL
ORDER BY expires_at LIMIT
"""
_NEXT_HOLD_END: Final = """
SELECT MIN(held_until) FROM telegate_lanes AS hold
WHERE bot = $1 AND held_until > $2 AND CASE WHEN lane = ''
  THEN EXISTS (SELECT 1 FROM telegate_jobs AS job WHERE job.bot = hold.bot AND job.queue = hold.queue)
  ELSE EXISTS (
    SELECT 1 FROM telegate_jobs AS job
    WHERE job.bot = hold.bot AND job.queue = hold.queue AND job.lane = hold.lane)
  END
"""
_WAITING: Final = """
SELECT service, COUNT(*) FROM telegate_jobs WHERE bot = $1 AND queue = $2 AND lease_holder IS NULL
GROUP BY service
"""


class SqlJobStore(SqlStore):
    """The port `JobStore`, in SQL."""

    async def claim(
        self,
        queue: str,
        at: datetime,
        lease: Lease,
        limit: int,
        claimed: Claimed,
        forgotten: datetime,
    ) -> Sequence[tuple[Job, Task | None]]:
        """See `core.ports.JobStore.claim`."""
        times = (milliseconds(at), queue, milliseconds(max(at, forgotten)))
        # What is due comes in no order, so all of it is taken: a few more than asked for while a row is bad.
        most = limit + len(self._unreadable_jobs)
        due = Statement(_CLAIM, (self.bot, *times, lease.holder, most))
        return await self._claim_all(due, lease, most, claimed)

    async def claim_next(
        self, queue: str, lane: str, at: datetime, lease: Lease, claimed: Claimed
    ) -> tuple[Job, Task | None] | None:
        """See `core.ports.JobStore.claim_next`."""
        due = Statement(_CLAIM_NEXT, (self.bot, milliseconds(at), queue, lane))
        taken = await self._claim_all(due, lease, 1, claimed)
        return taken[0] if taken else None

    async def claim_expired(
        self, at: datetime, lease: Lease, limit: int
    ) -> Sequence[tuple[Job, Task | None]]:
        """See `core.ports.JobStore.claim_expired`; the oldest come first."""
        times = (milliseconds(at), milliseconds(at - EXPIRY_GRACE), milliseconds(lease.until - EXPIRY_GRACE))
        due = Statement(_CLAIM_EXPIRED, (self.bot, *times, limit + len(self._unreadable_jobs)))
        return await self._claim_all(due, lease, limit, None)

    async def _claim_all(
        self, due: Statement, lease: Lease, limit: int, claimed: Claimed | None
    ) -> Sequence[tuple[Job, Task | None]]:
        scope = self._scope()

        def transaction() -> Transaction[Sequence[tuple[Job, Task | None]]]:
            rows = yield due
            taken: list[tuple[Job, Task | None]] = []
            if rows:
                tasks = yield Statement(_TASKS, (self.bot, json.dumps([row[3] for row in rows])))
                for job, epoch, task, decision in self._claimable(rows, tasks, lease, claimed)[:limit]:
                    taken.append((yield from _take(scope, replace(lease, epoch=epoch), job, task, decision)))
            return taken

        return await self._write(transaction)

    def _claimable(
        self, rows: Sequence[Row], task_rows: Sequence[Row], lease: Lease, claimed: Claimed | None
    ) -> list[tuple[Job, int, Task | None, Decision | None]]:
        """Of these jobs those that can be read, with the epochs of their next leases and their tasks."""
        tasks = {task.id: task for task in self._readable(task_rows)}

        def decoded(row: Row) -> tuple[Job, int, Task | None, Decision | None]:
            job, task = decode_job(row), tasks.get(row[3])
            if task is None and job.subject in self._unreadable:
                raise LookupError(job.subject)
            if claimed is None:
                job = replace(job, in_doubt=job.in_doubt or job.lease is not None)
                return job, row[17] + 1, task, None
            if job.lease is not None and job.lease.holder != lease.holder:
                job = replace(job, in_doubt=True, attempts=job.attempts + 1 if job.in_doubt else 1)
            # It may be of a kind that only a newer version knows.
            return job, row[17] + 1, task, claimed(job, task)

        return readable(rows, decoded, self._unreadable_jobs, tell_unreadable_job)

    async def renew(self, jobs: Sequence[Job], until: datetime) -> Collection[int]:
        """See `core.ports.JobStore.renew`."""
        held = {job.id: (job.lease.holder, job.lease.epoch) for job in jobs if job.lease is not None}
        statement = Statement(_RENEW, (self.bot, milliseconds(until), json.dumps(held)))
        rows = await self._write(lambda: rows_of(statement))
        return {job_id for (job_id,) in rows}

    async def record(self, job: Job, known: Task | None, decide: Decision, lease: Lease) -> Committed:
        """See `core.ports.JobStore.record`."""
        scope = self._scope()
        lane = None if job.lane is None else job.lane.name
        keep = Statement(_KEEP, (*_mine(self.bot, job), milliseconds(lease.until), lane))

        def transaction() -> Transaction[Committed]:
            kept = yield keep
            committed = yield from effects.decide(scope, job.subject, known, decide, lease)
            return committed if kept else replace(committed, lease_lost=True)

        return await self._write(transaction)

    async def complete(
        self, job: Job, known: Task | None, decide: Decision, *, lease: Lease | None, proof: bool = False
    ) -> Committed | None:
        """See `core.ports.JobStore.complete`."""
        scope = self._scope()

        def transaction() -> Transaction[Committed | None]:
            mine = yield Statement(_COMPLETE, _mine(self.bot, job))
            if not mine and not proof:
                return None
            committed = yield from effects.decide(scope, job.subject, known, decide, lease)
            return committed if mine else replace(committed, lease_lost=True)

        return await self._write(transaction)

    async def retry(self, job: Job, known: Task | None, decide: Decision) -> Committed | None:
        """See `core.ports.JobStore.retry`."""
        scope = self._scope()

        def transaction() -> Transaction[Committed | None]:
            if not (yield from _retry(self.bot, job)):
                return None
            return (yield from effects.decide(scope, job.subject, known, decide, None))

        return await self._write(transaction)

    async def put(self, jobs: Sequence[Job]) -> None:
        """See `core.ports.JobStore.put`."""

        def transaction() -> Transaction[None]:
            for job in jobs:
                yield _put(self.bot, job)

        await self._write(transaction)

    async def hold(self, queue: str, lane: str, at: datetime, until: datetime) -> None:
        """See `core.ports.JobStore.hold`."""
        now, end = milliseconds(at), milliseconds(until)

        def transaction() -> Transaction[None]:
            yield Statement(_HOLD, (self.bot, queue, lane, now, end))
            if lane:
                others = Statement(_OTHERS_HELD, (self.bot, queue, lane, milliseconds(at - SOON)))
                [(other_end,)] = yield others
                if other_end is not None:
                    yield Statement(_HOLD, (self.bot, queue, "", now, min(end, other_end)))

        await self._write(transaction)

    async def holds(self, queue: str, at: datetime) -> Mapping[str, datetime]:
        """See `core.ports.JobStore.holds`."""
        statement = Statement(_HOLDS, (self.bot, queue, milliseconds(at)))
        rows = await self.database.read(lambda: rows_of(statement))
        return {lane: to_time(until) for lane, until in rows}

    async def break_leases(self, at: datetime) -> int:
        """See `core.ports.JobStore.break_leases`."""
        statement = Statement(_BREAK_LEASES, (self.bot, milliseconds(at)))
        return len(await self._write(lambda: rows_of(statement)))

    async def next_due(self, at: datetime) -> datetime | None:
        """See `core.ports.JobStore.next_due`."""
        earliest = await self.database.read(lambda: self._earliest(milliseconds(at)))
        return None if earliest is None else to_time(earliest)

    def _earliest(self, at: int) -> Transaction[int | None]:
        # A number in the text, because a planner that does not know it may read the whole table.
        first = 1 + len(self._unreadable_jobs)
        queues = yield Statement(_QUEUES, (self.bot,))
        due = [Statement(f"{_NEXT_DUE} {first}", (self.bot, at, queue)) for (queue,) in queues]
        times: list[int] = []
        for statement in (*due, Statement(f"{_NEXT_EXPIRY} {first}", (self.bot,))):
            rows = yield statement
            times += [time for time, job_id in rows if job_id not in self._unreadable_jobs][:1]
        [(hold_end,)] = yield Statement(_NEXT_HOLD_END, (self.bot, at))
        return min(times if hold_end is None else (*times, hold_end), default=None)

    async def waiting(self, queue: str) -> Mapping[str, int]:
        """See `core.ports.JobStore.waiting`."""
        statement = Statement(_WAITING, (self.bot, queue))
        return dict(await self.database.read(lambda: rows_of(statement)))


def _mine(bot: int, job: Job) -> tuple[int, int, str | None, int]:
    """What `_IS_MINE` takes."""
    lease = job.lease
    return (bot, job.id, None, 0) if lease is None else (bot, job.id, lease.holder, lease.epoch)


def _take(
    scope: Scope, lease: Lease, job: Job, task: Task | None, decision: Decision | None
) -> Transaction[tuple[Job, Task | None]]:
    """Give a job that was read for it to whoever has this lease."""
    holder = (lease.holder, milliseconds(lease.until), lease.epoch)
    yield Statement(_LEASE, (scope.bot, job.id, *holder, job.attempts, int(job.in_doubt)))
    if decision is not None and decision(task) != NOTHING:
        committed = yield from effects.decide(scope, job.subject, task, decision, None)
        task = committed.rows.get(job.subject)
    return job.leased(lease), task


def _put(bot: int, job: Job) -> Statement:
    """Store a job that waits, unless one of the same key waits already."""
    return Statement(_PUT, (bot, *encode_job(job), None, None, 0))


def _retry(bot: int, job: Job) -> Transaction[bool]:
    """Let a job wait again; whether it was still its holder's."""
    if job.key is None:
        lane = None if job.lane is None else job.lane.name
        again = (milliseconds(job.run_at), job.attempts, int(job.in_doubt), lane)
        return bool((yield Statement(_RETRY, (*_mine(bot, job), *again))))
    # Another one of its key may come to wait at this very moment, so only an INSERT can tell.
    mine = yield Statement(_COMPLETE, _mine(bot, job))
    if mine:
        yield _put(bot, job)
    return bool(mine)
