"""The store of presence: who is here to take updates, and which questions have to ask for another press."""

from __future__ import annotations

from datetime import datetime

from core.cluster.heartbeat import Entry, Finding, Outage, Presence
from core.jobs.rearming import Disarmed
from core.model.task import Change, Lease, Task, TaskState
from infra.store.sql import steps
from infra.store.sql.rows import milliseconds, to_time
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import MovedOn, Row, Statement, Transaction

_PRESENCE = """
SELECT served_at, received_at, duty_holder, duty_until, telegram, webhook FROM presence WHERE bot = $1
"""
_FIRST = """
INSERT INTO presence (bot, served_at, received_at, duty_holder, duty_until, telegram, webhook)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (bot) DO NOTHING
"""
_NEXT = """
UPDATE presence SET served_at = $2, received_at = $3, duty_holder = $4, duty_until = $5, telegram = $6,
  webhook = $7
WHERE bot = $1
"""
# The first condition on the state is the index's, word by word. A question whose last step is `rearmed` asks
# for another press already. Whoever works on one that is listed may go on.
_DISARM = """
INSERT INTO disarmed (bot, task, began, ended, until, tries)
SELECT bot, id, CAST($2 AS BIGINT), CAST($3 AS BIGINT), 0, 0 FROM tasks
WHERE bot = $1 AND kind = 'question' AND state IN ('sending', 'asked', 'unknown') AND state = 'asked'
  AND message_ids <> '' AND expires_at > $3 AND NOT EXISTS (
    SELECT 1 FROM history
    WHERE history.bot = tasks.bot AND history.task = tasks.id AND history.seq = tasks.steps
      AND history.what = 'rearmed')
ON CONFLICT (bot, task) DO UPDATE SET began = excluded.began, ended = excluded.ended, tries = 0
"""
_LONGEST_WAITING = """
SELECT task, began, ended, tries FROM disarmed WHERE bot = $1 AND until <= $2 ORDER BY until, task LIMIT 1
"""
_TAKE = "UPDATE disarmed SET until = $3, tries = tries + 1 WHERE bot = $1 AND task = $2"
_POSTPONE = "UPDATE disarmed SET until = $3 WHERE bot = $1 AND task = $2"
_STRIKE_OFF = "DELETE FROM disarmed WHERE bot = $1 AND task = $2"


class SqlPresenceStore(Rows):
    """The ports `PresenceStore` and `RearmingStore`, in SQL."""

    async def attend(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """See `core.cluster.heartbeat.PresenceStore.attend`."""
        return await self._write(lambda: _attend(self.bot, entry))

    async def disarm(self, outage: Outage) -> int:
        """See `core.jobs.rearming.RearmingStore.disarm`."""
        return await self._change(_disarm(self.bot, outage))

    async def take_disarmed(self, now: datetime, until: datetime) -> Disarmed | None:
        """See `core.jobs.rearming.RearmingStore.take_disarmed`."""
        times = (milliseconds(now), milliseconds(until))
        return await self._write(lambda: _take_disarmed(self.bot, *times))

    async def postpone_disarmed(self, task_id: str, until: datetime) -> None:
        """See `core.jobs.rearming.RearmingStore.postpone_disarmed`."""
        await self._change(Statement(_POSTPONE, (self.bot, task_id, milliseconds(until))))

    async def rearmed(self, task_id: str, shown: bytes) -> Task | None:
        """See `core.jobs.rearming.RearmingStore.rearmed`."""
        at = self._now()
        return await self._write(lambda: _rearmed(self.bot, at, task_id, shown))

    async def strike_off(self, task_id: str) -> None:
        """See `core.jobs.rearming.RearmingStore.strike_off`."""
        await self._change(_strike_off(self.bot, task_id))

    async def _change(self, statement: Statement) -> int:
        return len(await self._write(lambda: steps.rows_of(statement)))


def _attend(bot: int, entry: Entry) -> Transaction[tuple[Presence, Outage | None]]:
    rows = yield Statement(_PRESENCE, (bot,), for_update=True)
    before = _decode(rows[0]) if rows else None
    after, outage = entry(before)
    if after != before and not (yield Statement(_NEXT if rows else _FIRST, (bot, *_encode(after)))):
        # Another process has made the row at the same time.
        raise MovedOn
    if outage is not None:
        yield _disarm(bot, outage)
    return after, outage


def _disarm(bot: int, outage: Outage) -> Statement:
    return Statement(_DISARM, (bot, milliseconds(outage.began), milliseconds(outage.ended)))


def _take_disarmed(bot: int, now: int, until: int) -> Transaction[Disarmed | None]:
    rows = yield Statement(_LONGEST_WAITING, (bot, now), for_update=True, pass_over=True)
    if not rows:
        return None
    [(task_id, began, ended, tries)] = rows
    yield Statement(_TAKE, (bot, task_id, until))
    found = yield from steps.find(bot, task_id)
    if found is None:
        raise MovedOn
    return Disarmed(found, Outage(to_time(began), to_time(ended)), tries + 1)


def _rearmed(bot: int, at: int, task_id: str, shown: bytes) -> Transaction[Task | None]:
    found = yield from steps.find(bot, task_id, for_update=True)
    if found is None:
        return None
    # Only whoever strikes it off the list writes it down, so that the history says it once.
    if found.state is TaskState.ASKED and (yield _strike_off(bot, task_id)):
        yield from steps.take(bot, at, found, Change(found, "rearmed", shown=shown))
    return found


def _strike_off(bot: int, task_id: str) -> Statement:
    return Statement(_STRIKE_OFF, (bot, task_id))


def _decode(row: Row) -> Presence:
    served_at, received_at, holder, until, telegram, webhook = row
    return Presence(
        to_time(served_at),
        None if received_at is None else to_time(received_at),
        None if holder is None or until is None else Lease(holder, to_time(until)),
        None if telegram is None or webhook is None else Finding(telegram, webhook),
    )


def _encode(presence: Presence) -> tuple[int | str | None, ...]:
    duty, finding = presence.duty, presence.finding
    return (
        milliseconds(presence.served_at),
        None if presence.received_at is None else milliseconds(presence.received_at),
        None if duty is None else duty.holder,
        None if duty is None else milliseconds(duty.until),
        None if finding is None else finding.telegram,
        None if finding is None else finding.webhook,
    )
