"""The store of updates: each takes effect exactly once, or is set aside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from core.model.task import Task
from core.model.update import ByMessage, ByToken, Effect, Lookup, OpenQuestions
from infra.store.sql import steps
from infra.store.sql.rows import COLUMNS, decode
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import Statement, Transaction

_SEE = """
INSERT INTO updates (bot, update_id, at) VALUES ($1, $2, $3)
ON CONFLICT (bot, update_id) DO NOTHING
"""
_BY_TOKEN = f"SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND token = $2"  # noqa: S608 -- constants only
_BY_MESSAGE = f"""
SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND id = (
  SELECT task FROM messages WHERE bot = $1 AND chat = $2 AND message_id = $3)
"""  # noqa: S608 -- constants only
_OPEN = f"""
SELECT {COLUMNS} FROM tasks
WHERE bot = $1 AND chat = $2 AND kind = 'question' AND state IN ('sending', 'asked', 'unknown')
ORDER BY id DESC
"""  # noqa: S608 -- constants only
_SET_ASIDE = """
INSERT INTO quarantine (bot, name, update_id, at, reason, raw) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bot, name) DO NOTHING
"""


class SqlInboxStore(Rows):
    """The port `InboxStore`, in SQL."""

    async def receive(
        self, update_id: int, lookup: Lookup | None, judge: Callable[[Sequence[Task]], Effect]
    ) -> Effect | None:
        """See `core.ports.InboxStore.receive`."""
        seen = _Seen(self.bot, update_id, self._now())
        return await self._write(lambda: _receive(seen, self._find_all(lookup), judge), reserved=True)

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        """See `core.ports.InboxStore.quarantine`; one without an id is known by its bytes."""
        name = f"sha256:{hashlib.sha256(raw).hexdigest()}" if update_id is None else str(update_id)
        statement = Statement(_SET_ASIDE, (self.bot, name, update_id, self._now(), reason, raw))
        await self._write(lambda: steps.rows_of(statement), reserved=True)

    def _find_all(self, lookup: Lookup | None) -> Transaction[Sequence[Task]]:
        if lookup is None:
            return []
        rows = yield _find(self.bot, lookup)
        if not rows and isinstance(lookup, ByMessage):
            rows = yield _find(self.bot, OpenQuestions(lookup.chat))
        if isinstance(lookup, ByToken):
            # A press on a task that cannot be read is not taken: Telegram keeps it for whoever can.
            return [decode(self.bot, row) for row in rows]
        # Anything else would hold up the whole chat.
        return self._readable(rows)


class _Seen(NamedTuple):
    """An update, as its row tells it."""

    bot: int
    update_id: int
    at: int


def _receive(
    seen: _Seen, finding: Transaction[Sequence[Task]], judge: Callable[[Sequence[Task]], Effect]
) -> Transaction[Effect | None]:
    if not (yield Statement(_SEE, seen)):
        return None
    bot, update_id, at = seen
    found = {task.id: task for task in (yield from finding)}
    effect = judge(list(found.values()))
    for change in effect.changes:
        task_id = change.task.id
        found[task_id] = yield from steps.take(bot, at, found[task_id], change)
    replies: list[Task] = []
    for reply in effect.replies:
        stored = yield from steps.place(bot, at, reply, update_id)
        replies.append(stored)
    return replace(effect, replies=tuple(replies)) if replies else effect


def _find(bot: int, lookup: Lookup) -> Statement:
    if isinstance(lookup, ByToken):
        return Statement(_BY_TOKEN, (bot, lookup.token), for_update=True)
    if isinstance(lookup, ByMessage):
        return Statement(_BY_MESSAGE, (bot, str(lookup.chat), lookup.message_id), for_update=True)
    return Statement(_OPEN, (bot, str(lookup.chat)), for_update=True)
