"""The store of figures: what each process has counted, and how many tasks are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from infra.store.sql import steps
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import Row, Statement, Transaction

FORGOTTEN_AFTER: Final = timedelta(seconds=60)
"""Figures of a process that has kept none for so long are not told any more, and deleted."""

# A write that was given up may still arrive late; it must not undo a later one.
_KEEP = """
INSERT INTO figures (bot, process, seq, at, told) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bot, process) DO UPDATE SET seq = excluded.seq, at = excluded.at, told = excluded.told
WHERE figures.seq < excluded.seq
"""
_FORGET = "DELETE FROM figures WHERE bot = $1 AND at < $2"
_ALL = "SELECT process, at, told FROM figures WHERE bot = $1 AND at >= $2 ORDER BY process"
# Each leads to an index of what is not final yet, past everything that was ever sent, by a condition that is
# always true.
_QUEUED = """
SELECT COUNT(*), MIN(created_at) FROM tasks
WHERE bot = $1 AND state = 'queued' AND COALESCE(not_before, 0) >= 0
"""
_SENDING = "SELECT COUNT(*) FROM tasks WHERE bot = $1 AND state = 'sending' AND COALESCE(lease_until, 0) >= 0"
_ASKED = """
SELECT COUNT(*) FROM tasks
WHERE bot = $1 AND state IN ('queued', 'asked') AND state = 'asked' AND expires_at >= 0
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """The figures of one process, as it has kept them.

    Attributes:
        process: its name.
        at: when, in milliseconds since 1970.
        told: the figures, as text.
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


class SqlFigureStore(Rows):
    """What `infra.observability.metrics` needs, in SQL."""

    async def keep_figures(self, process: str, seq: int, told: str) -> None:
        """Keep the figures of a process for the others, and forget those of processes that are gone.

        Args:
            process: its name, which no other process of this bot has.
            seq: counts what this process has kept; what is lower than the last one changes nothing.
            told: the figures, as text.
        """
        now = self._now()
        keep = Statement(_KEEP, (self.bot, process, seq, now, told))
        await self._write(lambda: _both(keep, Statement(_FORGET, (self.bot, _earliest(now)))))

    async def all_figures(self) -> Sequence[Kept]:
        """The figures of every process that lives, or lived a moment ago, by their names."""
        statement = Statement(_ALL, (self.bot, _earliest(self._now())))
        return [Kept(*row) for row in await self.database.read(lambda: steps.rows_of(statement))]

    async def open_tasks(self) -> Open:
        """How many tasks are not final; what is final is never looked at."""
        return await self.database.read(lambda: _open(self.bot, self._now()))


def _earliest(now: int) -> int:
    return now - FORGOTTEN_AFTER // timedelta(milliseconds=1)


def _both(one: Statement, other: Statement) -> Transaction[Sequence[Row]]:
    yield one
    return (yield other)


def _open(bot: int, now: int) -> Transaction[Open]:
    [(queued, oldest)] = yield Statement(_QUEUED, (bot,))
    [(sending,)] = yield Statement(_SENDING, (bot,))
    [(asked,)] = yield Statement(_ASKED, (bot,))
    age = 0.0 if oldest is None else max(0, now - oldest) / 1000
    return Open({"queued": queued, "sending": sending, "asked": asked}, age)
