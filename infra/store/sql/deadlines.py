"""The store of deadlines: what is due by the clock, and what may be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from core.model.task import Change, Lease, Task
from core.ports import SENDING_GRACE
from infra.store.sql import steps
from infra.store.sql.rows import COLUMNS, milliseconds, to_time
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import Row, Statement, Transaction

KEY_LIFETIME = timedelta(hours=72)
"""How long an idempotency key is kept after its task is final."""

UPDATE_LIFETIME = timedelta(hours=72)
"""How long an update is remembered; Telegram repeats one for at most 24 hours."""

# Nothing of its chat is before it; what may be there already (its last try was unclear) holds up nobody.
_FIRST_IN_CHAT = """NOT EXISTS (
    SELECT 1 FROM tasks AS earlier
    WHERE earlier.bot = tasks.bot AND earlier.chat = tasks.chat AND earlier.id < tasks.id
      AND earlier.state IN ('queued', 'sending') AND (earlier.state = 'queued' OR earlier.not_before IS NULL))
"""
# Every service gets its turn: first the first of each, then the second of each. Questions go before messages.
_DUE = f"""
SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND state = 'queued' AND id IN (
  SELECT id FROM (
    SELECT id, ROW_NUMBER() OVER (
      PARTITION BY service ORDER BY CASE kind WHEN 'question' THEN 0 ELSE 1 END, id) AS turn
    FROM tasks WHERE bot = $1 AND state = 'queued' AND COALESCE(not_before, 0) <= $2 AND expires_at > $2
      AND {_FIRST_IN_CHAT}
  ) AS due ORDER BY turn, id LIMIT $3)
"""  # noqa: S608 -- constants only
_DUE_IN_CHAT = f"""
SELECT {COLUMNS} FROM tasks
WHERE bot = $1 AND chat = $2 AND state IN ('queued', 'sending') AND state = 'queued'
  AND (not_before IS NULL OR not_before <= $3) AND expires_at > $3 AND {_FIRST_IN_CHAT}
ORDER BY id LIMIT 1
"""  # noqa: S608 -- constants only
# The condition that is always true leads to the index of what is queued, past everything that was ever sent.
_WAITING = """
SELECT service, COUNT(*) FROM tasks WHERE bot = $1 AND state = 'queued' AND COALESCE(not_before, 0) >= 0
GROUP BY service
"""
_ABANDONED = f"""
SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND state = 'sending' AND COALESCE(lease_until, 0) <= $2
ORDER BY COALESCE(lease_until, 0), id LIMIT $3
"""  # noqa: S608 -- constants only
_HELD = f"""
SELECT {COLUMNS} FROM tasks
WHERE bot = $1 AND state = 'sending' AND COALESCE(lease_until, 0) <= $2 AND lease_holder = $3
  AND not_before IS NULL
ORDER BY COALESCE(lease_until, 0), id LIMIT $4
"""  # noqa: S608 -- constants only
_UNCLOSED = f"""
SELECT {COLUMNS} FROM tasks
WHERE bot = $1 AND state IN ('answered', 'expired', 'cancelled') AND kind = 'question' AND closed = 0
  AND message_ids <> '' AND updated_at < $2
ORDER BY updated_at, id LIMIT $3
"""  # noqa: S608 -- constants only
_OVERDUE = f"""
SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND state IN ('queued', 'asked') AND expires_at <= $2
ORDER BY expires_at, id LIMIT $3
"""  # noqa: S608 -- constants only
# Few are being sent at a time, so all may be looked at; the condition that is always true leads there.
_OVERDUE_SENDING = f"""
SELECT {COLUMNS} FROM tasks
WHERE bot = $1 AND state = 'sending' AND COALESCE(lease_until, 0) >= 0 AND expires_at <= $2
ORDER BY expires_at, id LIMIT $3
"""  # noqa: S608 -- constants only
_NEXT_DUE = f"""
SELECT COALESCE(not_before, 0), id FROM tasks WHERE bot = $1 AND state = 'queued' AND {_FIRST_IN_CHAT}
ORDER BY COALESCE(not_before, 0)
"""  # noqa: S608 -- constants only
_NEXT_ABANDONED = """
SELECT COALESCE(lease_until, 0), id FROM tasks WHERE bot = $1 AND state = 'sending'
ORDER BY COALESCE(lease_until, 0)
"""
_NEXT_OVERDUE_SENDING = """
SELECT expires_at + $2, id FROM tasks WHERE bot = $1 AND state = 'sending' AND COALESCE(lease_until, 0) >= 0
ORDER BY expires_at
"""
_NEXT_OVERDUE = """
SELECT expires_at, id FROM tasks WHERE bot = $1 AND state IN ('queued', 'asked') ORDER BY expires_at
"""
# A key must lead to its task as long as the key is kept.
_FORGET_TASKS = """
DELETE FROM tasks WHERE bot = $1 AND id IN (
  SELECT id FROM tasks
  WHERE bot = $1 AND state IN ('sent', 'answered', 'expired', 'cancelled', 'failed', 'unknown')
    AND updated_at < $2 AND (updated_at < $3 OR NOT EXISTS (
      SELECT 1 FROM idempotency WHERE idempotency.bot = tasks.bot AND idempotency.task = tasks.id))
  ORDER BY updated_at LIMIT $4)
"""
# Telegram counts updates upwards, so the oldest are those with the lowest ids: no index by age is needed.
_FORGET_UPDATES = """
DELETE FROM updates WHERE bot = $1 AND at < $2 AND update_id IN (
  SELECT update_id FROM updates WHERE bot = $1 ORDER BY update_id LIMIT $3)
"""
_FORGET_QUARANTINE = """
DELETE FROM quarantine WHERE bot = $1 AND name IN (
  SELECT name FROM quarantine WHERE bot = $1 AND at < $2 ORDER BY at LIMIT $3)
"""


class SqlDeadlineStore(Rows):
    """The port `DeadlineStore`, in SQL."""

    async def claim(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.claim`."""
        # What is due comes in no order, so all of it is taken: a few more than asked for while a row is bad.
        most = self._first(limit)
        due = Statement(_DUE, (self.bot, milliseconds(now), most), for_update=True, pass_over=True)
        return await self._change_all(due, most, lambda task: Change.to_state(task.sending(now, lease)))

    async def claim_in(self, chat: int | str, now: datetime, lease: Lease) -> Task | None:
        """See `core.ports.DeadlineStore.claim_in`."""
        params = (self.bot, str(chat), milliseconds(now))
        due = Statement(_DUE_IN_CHAT, params, for_update=True, pass_over=True)
        claimed = await self._change_all(due, 1, lambda task: Change.to_state(task.sending(now, lease)))
        return claimed[0] if claimed else None

    async def waiting(self) -> Mapping[str, int]:
        """See `core.ports.DeadlineStore.waiting`."""
        return dict(await self.database.read(lambda: steps.rows_of(Statement(_WAITING, (self.bot,)))))

    async def abandoned(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.abandoned`; the oldest come first."""
        params = (self.bot, milliseconds(now), self._first(limit))
        left = Statement(_ABANDONED, params, for_update=True, pass_over=True)
        return await self._change_all(left, limit, lambda task: Change(task.taken_over(lease), "taken_over"))

    async def held(self, holder: str, until: datetime, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.held`."""
        wanted = Statement(_HELD, (self.bot, milliseconds(until), holder, self._first(limit)))
        rows = await self.database.read(lambda: steps.rows_of(wanted))
        return self._readable(rows)[:limit]

    async def overdue(self, now: datetime, limit: int) -> Sequence[str]:
        """See `core.ports.DeadlineStore.overdue`."""
        late = Statement(_OVERDUE, (self.bot, milliseconds(now), self._first(limit)))
        stuck = Statement(_OVERDUE_SENDING, (self.bot, milliseconds(now - SENDING_GRACE), self._first(limit)))
        both = await self.database.read(lambda: _both(late, stuck))
        return [task.id for rows in both for task in self._readable(rows)[:limit]]

    async def unclosed(self, before: datetime, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.unclosed`; the oldest come first."""
        wanted = Statement(_UNCLOSED, (self.bot, milliseconds(before), self._first(limit)))
        rows = await self.database.read(lambda: steps.rows_of(wanted))
        return self._readable(rows)[:limit]

    async def next_deadline(self) -> datetime | None:
        """See `core.ports.DeadlineStore.next_deadline`."""
        earliest = await self.database.read(self._earliest)
        return None if earliest is None else to_time(earliest)

    async def forget(self, now: datetime, finished_before: datetime, limit: int) -> int:
        """See `core.ports.DeadlineStore.forget`; also forgets old updates and what was set aside.

        A task that an idempotency key leads to stays at least 72 hours after it is final, and an update is
        remembered for 72 hours.
        """
        age = (milliseconds(finished_before), milliseconds(now - KEY_LIFETIME))
        tasks = await self._delete(Statement(_FORGET_TASKS, (self.bot, *age, limit)))
        seen_before = milliseconds(now - UPDATE_LIFETIME)
        for sql, before in ((_FORGET_UPDATES, seen_before), (_FORGET_QUARANTINE, age[0])):
            while await self._delete(Statement(sql, (self.bot, before, limit))) == limit:
                # Each round is a transaction of its own, so that others get their turn.
                continue
        return tasks

    async def _change_all(
        self, wanted: Statement, limit: int, decide: Callable[[Task], Change]
    ) -> Sequence[Task]:
        at = self._now()

        def transaction() -> Transaction[Sequence[Task]]:
            changed: list[Task] = []
            for found in self._readable((yield wanted))[:limit]:
                after = yield from steps.take(self.bot, at, found, decide(found))
                changed.append(after)
            return changed

        return await self._write(transaction)

    def _first(self, limit: int) -> int:
        """How many rows to read for so many tasks."""
        return limit + len(self._unreadable)

    def _earliest(self) -> Transaction[int | None]:
        grace = SENDING_GRACE // timedelta(milliseconds=1)
        plain = [(sql, (self.bot,)) for sql in (_NEXT_DUE, _NEXT_ABANDONED, _NEXT_OVERDUE)]
        times: list[int] = []
        for sql, params in (*plain, (_NEXT_OVERDUE_SENDING, (self.bot, grace))):
            # A number in the text, because a planner that does not know it may read the whole table.
            rows = yield Statement(f"{sql} LIMIT {self._first(1)}", params)
            times += [at for at, task_id in rows if task_id not in self._unreadable][:1]
        return min(times, default=None)

    async def _delete(self, statement: Statement) -> int:
        return len(await self._write(lambda: steps.rows_of(statement)))


def _both(one: Statement, other: Statement) -> Transaction[tuple[Sequence[Row], Sequence[Row]]]:
    return (yield one), (yield other)
