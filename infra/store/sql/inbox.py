"""The store of updates: each takes effect exactly once, or is quarantined."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from core.model.effect import Committed, UpdateDecision
from core.model.job import Lease
from core.model.lookup import ByMessage, ByToken, Lookup, OpenQuestions
from core.model.task import Task
from infra.store.sql import effects
from infra.store.sql.base import SqlStore
from infra.store.sql.rows import COLUMNS, decode
from infra.store.sql.transactions import Sql, Statement, Transaction, rows_of

_SEE = """
INSERT INTO telegate_updates (bot, update_id, at) VALUES ($1, $2, $3)
ON CONFLICT (bot, update_id) DO NOTHING
"""
_TOKEN = f"SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND token = $2"  # noqa: S608 -- constants only
_BY_TOKEN = Sql(sqlite=_TOKEN, postgres=f"{_TOKEN} FOR NO KEY UPDATE")
_MESSAGE = f"""
SELECT {COLUMNS} FROM telegate_tasks WHERE bot = $1 AND id = (
  SELECT task FROM telegate_messages WHERE bot = $1 AND chat = $2 AND message_id = $3)
"""  # noqa: S608 -- constants only
_BY_MESSAGE = Sql(sqlite=_MESSAGE, postgres=f"{_MESSAGE} FOR NO KEY UPDATE")
_OPEN = f"""
SELECT {COLUMNS} FROM telegate_tasks
WHERE bot = $1 AND chat = $2 AND kind = 'question' AND state IN ('sending', 'asked', 'unknown')
ORDER BY id DESC
"""  # noqa: S608 -- constants only
_OPEN_QUESTIONS = Sql(sqlite=_OPEN, postgres=f"{_OPEN} FOR NO KEY UPDATE")
_QUARANTINE = """
INSERT INTO telegate_quarantine (bot, name, update_id, at, reason, raw) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bot, name) DO NOTHING
"""


class SqlInboxStore(SqlStore):
    """The port `InboxStore`, in SQL."""

    async def receive(
        self, update_id: int, lookup: Lookup | None, decide: UpdateDecision, *, lease: Lease
    ) -> Committed | None:
        """See `core.ports.InboxStore.receive`."""
        scope = self._scope()

        def transaction() -> Transaction[Committed | None]:
            if not (yield Statement(_SEE, (scope.bot, update_id, scope.at))):
                return None
            found = yield from self._find_all(lookup)
            known = {task.id: task for task in found}
            return (yield from effects.apply(scope, decide(found), known, lease, update_id))

        return await self._write(transaction, reserved=True)

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        """See `core.ports.InboxStore.quarantine`; one without an id is known by its bytes."""
        name = f"sha256:{hashlib.sha256(raw).hexdigest()}" if update_id is None else str(update_id)
        statement = Statement(_QUARANTINE, (self.bot, name, update_id, self._now(), reason, raw))
        await self._write(lambda: rows_of(statement), reserved=True)

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


def _find(bot: int, lookup: Lookup) -> Statement:
    match lookup:
        case ByToken(token):
            return Statement(_BY_TOKEN, (bot, token))
        case ByMessage(chat, message_id):
            return Statement(_BY_MESSAGE, (bot, str(chat), message_id))
        case OpenQuestions(chat):
            return Statement(_OPEN_QUESTIONS, (bot, str(chat)))
