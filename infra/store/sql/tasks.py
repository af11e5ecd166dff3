"""The store of tasks: add, change, find and list them, and delete what is old."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from core.model.effect import Committed, Decision, Effect
from core.model.errors import IdempotencyMismatch, TelegateError
from core.model.job import Job, Lease
from core.model.lookup import Idempotency, TaskFilter
from core.model.task import Progress, Task
from core.model.transition import FINAL_STATES
from infra.store.sql import effects
from infra.store.sql.base import SqlStore
from infra.store.sql.effects import FIND, Scope
from infra.store.sql.rows import COLUMNS, Value, decode, milliseconds
from infra.store.sql.transactions import MovedOn, Sql, Statement, Transaction, rows_of

KEY_LIFETIME: Final = timedelta(hours=72)
"""How long an idempotency key is kept after its task is final."""

UPDATE_LIFETIME: Final = timedelta(hours=72)
"""How long an update is remembered; Telegram repeats one for at most 24 hours."""

HOLD_LIFETIME: Final = timedelta(minutes=1)
"""For so long after its end a hold may still tell that the whole queue is too fast."""

_FIND_KEY = """
SELECT fingerprint, task FROM telegate_idempotency
WHERE bot = $1 AND service = $2 AND route = $3 AND key = $4
"""
_KEEP_KEY = """
INSERT INTO telegate_idempotency (bot, service, route, key, fingerprint, task)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bot, service, route, key) DO NOTHING
"""
# A foreign task must take as long as one that does not exist. The primary key would find a foreign row, and
# read it; so the service's own index is asked what stands next to the id there. No other has that order.
_FIND_OWN = f"""
SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND id = (
  SELECT id FROM (
    SELECT service, id FROM telegate_tasks WHERE bot = $1 AND (service, id) <= ($3, $2)
    ORDER BY service DESC, id DESC LIMIT 1
  ) AS nearest WHERE service = $3 AND id = $2)
"""  # noqa: S608 -- constants only
_PAGE = f"SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND service = $2"  # noqa: S608 -- constants only
_PROGRESS = Sql(
    sqlite="""
SELECT id, steps, state FROM telegate_tasks WHERE bot = $1 AND id IN (SELECT value FROM json_each($2))
""",
    postgres="""
SELECT id, steps, state FROM telegate_tasks
WHERE bot = $1 AND id = ANY (ARRAY (SELECT json_array_elements_text(CAST($2 AS json))))
""",
)
# A key must lead to its task as long as the key is kept.
_PURGE_TASKS = """
DELETE FROM telegate_tasks WHERE bot = $1 AND id IN (
  SELECT id FROM telegate_tasks
  WHERE bot = $1 AND state IN ('sent', 'answered', 'expired', 'cancelled', 'failed', 'unknown')
    AND updated_at < $2 AND (updated_at < $3 OR NOT EXISTS (
      SELECT 1 FROM telegate_idempotency AS key
      WHERE key.bot = telegate_tasks.bot AND key.task = telegate_tasks.id))
  ORDER BY updated_at LIMIT $4)
"""
# Telegram counts updates upwards, so the oldest are those with the lowest ids: no index by age is needed.
_PURGE_UPDATES = """
DELETE FROM telegate_updates WHERE bot = $1 AND at < $2 AND update_id IN (
  SELECT update_id FROM telegate_updates WHERE bot = $1 ORDER BY update_id LIMIT $3)
"""
_PURGE_QUARANTINE = """
DELETE FROM telegate_quarantine WHERE bot = $1 AND name IN (
  SELECT name FROM telegate_quarantine WHERE bot = $1 AND at < $2 ORDER BY at LIMIT $3)
"""
_PURGE_LANES = "DELETE FROM telegate_lanes WHERE bot = $1 AND held_until < $2"


class SqlTaskStore(SqlStore):
    """The port `TaskStore`, in SQL."""

    async def add(
        self,
        task: Task,
        jobs: Sequence[Job],
        *,
        lease: Lease | None,
        idempotency: Idempotency | None,
        refusal: TelegateError | None = None,
    ) -> Committed | Task:
        """See `core.ports.TaskStore.add`."""
        scope, effect = self._scope(), Effect(tasks=(task,), jobs=tuple(jobs))
        return await self._write(lambda: _add(scope, effect, lease, idempotency, refusal))

    async def made_by(self, idempotency: Idempotency) -> Task | None:
        """See `core.ports.TaskStore.made_by`."""
        return await self._write(lambda: _made_by(self.bot, idempotency))

    async def change(self, task_id: str, decide: Decision, *, lease: Lease | None) -> Committed:
        """See `core.ports.TaskStore.change`."""
        scope = self._scope()
        return await self._write(lambda: effects.decide(scope, task_id, None, decide, lease))

    async def find(self, task_id: str, service: str | None = None) -> Task | None:
        """See `core.ports.TaskStore.find`."""
        statement = Statement(FIND, (self.bot, task_id))
        if service is not None:
            statement = Statement(_FIND_OWN, (self.bot, task_id, service))
        rows = await self.database.read(lambda: rows_of(statement))
        return decode(self.bot, rows[0]) if rows else None

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """See `core.ports.TaskStore.page`."""
        while True:
            statement = _page(self.bot, wanted)
            rows = await self.database.read(partial(rows_of, statement))
            shown, more = rows[: wanted.limit], len(rows) > wanted.limit
            tasks = self._readable(shown)
            if tasks or not more:
                return tasks, more
            wanted = replace(wanted, after=shown[-1][0])

    async def progress(self, task_ids: Collection[str]) -> Mapping[str, Progress]:
        """See `core.ports.TaskStore.progress`."""
        statement = Statement(_PROGRESS, (self.bot, json.dumps(list(task_ids))))
        rows = await self.database.read(lambda: rows_of(statement))
        return {task_id: Progress(steps, state in FINAL_STATES) for task_id, steps, state in rows}

    async def purge(self, now: datetime, finished_before: datetime, limit: int) -> int:
        """See `core.ports.TaskStore.purge`; also deletes what was quarantined, and holds that are over.

        A task that an idempotency key leads to stays at least 72 hours after it is final, and an update is
        remembered for 72 hours.
        """
        age, key_age = milliseconds(finished_before), milliseconds(now - KEY_LIFETIME)
        tasks = await self._delete(Statement(_PURGE_TASKS, (self.bot, age, key_age, limit)))
        update_age, hold_age = milliseconds(now - UPDATE_LIFETIME), milliseconds(now - HOLD_LIFETIME)
        for sql, before in ((_PURGE_UPDATES, update_age), (_PURGE_QUARANTINE, age)):
            while await self._delete(Statement(sql, (self.bot, before, limit))) == limit:
                # Each round is a transaction of its own, so that others get their turn.
                continue
        await self._delete(Statement(_PURGE_LANES, (self.bot, hold_age)))
        return tasks

    async def _delete(self, statement: Statement) -> int:
        return len(await self._write(lambda: rows_of(statement)))


def _add(
    scope: Scope,
    effect: Effect,
    lease: Lease | None,
    idempotency: Idempotency | None,
    refusal: TelegateError | None,
) -> Transaction[Committed | Task]:
    made = None if idempotency is None else (yield from _made_by(scope.bot, idempotency))
    if made is not None:
        return made
    if refusal is not None:
        raise refusal
    committed = yield from effects.apply(scope, effect, {}, lease)
    [task] = committed.rows.values()
    if idempotency is not None:
        key = (scope.bot, idempotency.service, idempotency.route, idempotency.key)
        if not (yield Statement(_KEEP_KEY, (*key, idempotency.fingerprint, task.id))):
            # Another process used the key at the same time: forget this task and find that one.
            raise MovedOn
    return committed


def _made_by(bot: int, idempotency: Idempotency) -> Transaction[Task | None]:
    key = (bot, idempotency.service, idempotency.route, idempotency.key)
    rows = yield Statement(_FIND_KEY, key)
    if not rows:
        return None
    [(fingerprint, task_id)] = rows
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used before with another body. Repeat the first body to get its task, "
            "or use a new key for a new task."
        )
    found = yield from effects.find(bot, task_id)
    if found is None:
        raise MovedOn
    return found


def _page(bot: int, wanted: TaskFilter) -> Statement:
    conditions = {
        "state =": wanted.state and wanted.state.value,
        "kind =": wanted.kind and wanted.kind.value,
        "chat =": None if wanted.chat is None else str(wanted.chat),
        "created_at >=": None if wanted.since is None else milliseconds(wanted.since),
        "id <": wanted.after,
    }
    sql = _PAGE
    params: list[Value] = [bot, wanted.service]
    for condition, value in conditions.items():
        if value is not None:
            params.append(value)
            sql += f" AND {condition} ${len(params)}"
    params.append(wanted.limit + 1)
    end = f" ORDER BY id DESC LIMIT ${len(params)}"
    if wanted.among is None:
        return Statement(sql + end, tuple(params))
    params.append(json.dumps(sorted(map(str, wanted.among))))
    one_of = f" AND chat IN (SELECT value FROM json_each(${len(params)}))"  # noqa: S608 -- a number only
    any_of = f" AND chat = ANY (ARRAY (SELECT json_array_elements_text(CAST(${len(params)} AS json))))"
    return Statement(Sql(sqlite=sql + one_of + end, postgres=sql + any_of + end), tuple(params))
