"""The store of metrics: what each process has counted, and how many tasks are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from infra.store.sql.base import SqlStore
from infra.store.sql.transactions import Row, Statement, Transaction, rows_of

FORGOTTEN_AFTER: Final = timedelta(seconds=60)
"""Figures of a process that has kept none for so long are not told any more, and deleted."""

# A write that was given up may still arrive late; it must not undo a later one.
_KEEP = """
INSERT INTO telegate_metrics (bot, process, seq, at, told) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bot, process) DO UPDATE SET seq = excluded.seq, at = excluded.at, told = excluded.told
WHERE telegate_metrics.seq < excluded.seq
"""
_FORGET = "DELETE FROM telegate_metrics WHERE bot = $1 AND at < $2"
_ALL = "SELECT process, at, told FROM telegate_metrics WHERE bot = $1 AND at >= $2 ORDER BY process"
# The condition on the state is the index's, word by word: it leads past everything that was ever sent.
_OPEN = """
SELECT state, COUNT(*), MIN(created_at) FROM telegate_tasks
WHERE bot = $1 AND state IN ('queued', 'sending', 'asked') GROUP BY state
"""
_OPEN_STATES: Final = ("queued", "sending", "asked")


@dataclass(frozen=True, slots=True)
class SavedMetrics:
    """The metrics of one process, as it has saved them.

    Attributes:
        process: its name.
        at: when, in milliseconds since 1970.
        told: the metrics, as text.
    """

    process: str
    at: int
    told: str


@dataclass(frozen=True, slots=True)
class Open:
    """How many tasks are not final.

    Attributes:
        by_state: `queued`, `sending` and `asked`.
        oldest: for how many seconds the oldest queued task has been waiting; 0 when none is.
    """

    by_state: dict[str, int]
    oldest: float


class SqlMetricsStore(SqlStore):
    """What `infra.observability.metrics` needs, in SQL."""

    async def save_metrics(self, process: str, seq: int, told: str) -> None:
        """Save the metrics of a process for the others, and forget those of processes that are gone.

        Args:
            process: its name, which no other process of this bot has.
            seq: counts what this process has kept; what is lower than the last one changes nothing.
            told: the metrics, as text.
        """
        now = self._now()
        keep = Statement(_KEEP, (self.bot, process, seq, now, told))
        await self._write(lambda: _both(keep, Statement(_FORGET, (self.bot, _earliest(now)))))

    async def load_metrics(self) -> Sequence[SavedMetrics]:
        """The metrics of every process that lives, or lived a moment ago, by their names."""
        statement = Statement(_ALL, (self.bot, _earliest(self._now())))
        return [SavedMetrics(*row) for row in await self.database.read(lambda: rows_of(statement))]

    async def open_tasks(self) -> Open:
        """How many tasks are not final; what is final is never looked at."""
        return await self.database.read(lambda: _open(self.bot, self._now()))


def _earliest(now: int) -> int:
    return now - FORGOTTEN_AFTER // timedelta(milliseconds=1)


def _both(one: Statement, other: Statement) -> Transaction[Sequence[Row]]:
    yield one
    return (yield other)


def _open(bot: int, now: int) -> Transaction[Open]:
    rows = yield Statement(_OPEN, (bot,))
    counts = {state: count for state, count, _ in rows}
    oldest = next((created_at for state, _, created_at in rows if state == "queued"), now)
    return Open({state: counts.get(state, 0) for state in _OPEN_STATES}, max(0, now - oldest) / 1000)
