"""The store of the heartbeat: the row that all processes of one bot share, and what an outage causes."""

from __future__ import annotations

import json

from core.model.cluster import Entry, Finding, Leader, Outage, Presence
from core.model.job import TELEGRAM, Priority
from infra.store.sql.base import SqlStore
from infra.store.sql.rows import Value, milliseconds, to_time
from infra.store.sql.transactions import MovedOn, Row, Sql, Statement, Transaction, rows_of

_ROW = """
SELECT served_at, received_at, leader, leader_until, telegram, webhook FROM telegate_heartbeat WHERE bot = $1
"""
_ROW_TO_CHANGE = Sql(sqlite=_ROW, postgres=f"{_ROW} FOR NO KEY UPDATE")
_FIRST = """
INSERT INTO telegate_heartbeat (bot, served_at, received_at, leader, leader_until, telegram, webhook)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (bot) DO NOTHING
"""
_NEXT = """
UPDATE telegate_heartbeat SET served_at = $2, received_at = $3, leader = $4, leader_until = $5, telegram = $6,
  webhook = $7
WHERE bot = $1
"""
# The first condition on the state is the index's, word by word. A question whose last step is `rearmed` asks
# for another tap already.
_REPROMPT = """
INSERT INTO telegate_jobs (bot, kind, queue, subject, key, lane, width, overtakes, priority, service, run_at,
  attempts, in_doubt, payload, lease_epoch)
SELECT bot, 'reprompt', CAST($2 AS TEXT), id, 'reprompt:' || id, chat, 1, 1, CAST($3 AS BIGINT), service,
  CAST($4 AS BIGINT), 0, 0, CAST($5 AS TEXT), 0
FROM telegate_tasks AS task
WHERE bot = $1 AND kind = 'question' AND state IN ('sending', 'asked', 'unknown') AND state = 'asked'
  AND message_ids <> '' AND expires_at > $4 AND NOT EXISTS (
    SELECT 1 FROM telegate_history AS last
    WHERE last.bot = task.bot AND last.task = task.id AND last.seq = task.steps AND last.what = 'rearmed')
ON CONFLICT (bot, key) WHERE key IS NOT NULL AND lease_holder IS NULL DO UPDATE SET
  payload = excluded.payload, attempts = 0
"""


class SqlHeartbeatStore(SqlStore):
    """The port `HeartbeatStore`, in SQL."""

    async def beat(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """See `core.ports.HeartbeatStore.beat`."""
        return await self._write(lambda: _beat(self.bot, entry))

    async def reprompt(self, outage: Outage) -> int:
        """See `core.ports.HeartbeatStore.reprompt`."""
        return len(await self._write(lambda: rows_of(_reprompt(self.bot, outage))))


def _beat(bot: int, entry: Entry) -> Transaction[tuple[Presence, Outage | None]]:
    rows = yield Statement(_ROW_TO_CHANGE, (bot,))
    before = _decode(rows[0]) if rows else None
    after, outage = entry(before)
    if after != before and not (yield Statement(_NEXT if rows else _FIRST, (bot, *_encode(after)))):
        # Another process has made the row at the same time.
        raise MovedOn
    if outage is not None:
        yield _reprompt(bot, outage)
    return after, outage


def _reprompt(bot: int, outage: Outage) -> Statement:
    payload = json.dumps({"began": outage.began.isoformat(), "ended": outage.ended.isoformat()})
    return Statement(_REPROMPT, (bot, TELEGRAM, Priority.HIGH.value, milliseconds(outage.ended), payload))


def _decode(row: Row) -> Presence:
    served_at, received_at, leader, until, telegram, webhook = row
    return Presence(
        to_time(served_at),
        None if received_at is None else to_time(received_at),
        None if leader is None or until is None else Leader(leader, to_time(until)),
        None if telegram is None or webhook is None else Finding(telegram, webhook),
    )


def _encode(presence: Presence) -> tuple[Value, ...]:
    leader, finding = presence.leader, presence.finding
    return (
        milliseconds(presence.served_at),
        None if presence.received_at is None else milliseconds(presence.received_at),
        None if leader is None else leader.holder,
        None if leader is None else milliseconds(leader.until),
        None if finding is None else finding.telegram,
        None if finding is None else finding.webhook,
    )
