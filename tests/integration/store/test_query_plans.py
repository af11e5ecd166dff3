"""Queries that run often find what they need by an index, however many rows there are."""

from __future__ import annotations

import pytest

from infra.store import Store
from infra.store.sql import chats as chat_store
from infra.store.sql import deadlines as deadline_store
from infra.store.sql import inbox as inbox_store
from infra.store.sql import metrics as figure_store
from infra.store.sql import steps
from infra.store.sql import tasks as task_store
from tests.contract.store.samples import ask

PLANS = {
    "a task": (steps._FIND, "sqlite_autoindex_tasks_1 (bot=? AND id=?)"),
    "a service's own task": (task_store._FIND_OWN, "tasks_by_service (bot=? AND (service,id)<(?,?))"),
    "an idempotency key": (task_store._FIND_KEY, "PRIMARY KEY (bot=? AND service=? AND route=? AND key=?)"),
    "a page": (task_store._PAGE + " ORDER BY id DESC LIMIT 5", "tasks_by_service (bot=? AND service=?)"),
    "final tasks": (task_store._FINAL_OF_SIZE[10], "sqlite_autoindex_tasks_1 (bot=? AND id=?)"),
    "a token": (inbox_store._BY_TOKEN, "tasks_by_token (bot=? AND token=?)"),
    "a message": (inbox_store._BY_MESSAGE, "PRIMARY KEY (bot=? AND chat=? AND message_id=?)"),
    "open questions": (inbox_store._OPEN, "tasks_open (bot=? AND chat=?)"),
    "due tasks": (deadline_store._DUE, "tasks_due (bot=? AND <expr><?)"),
    "the first due task of a chat": (deadline_store._DUE_IN_CHAT, "tasks_unsent (bot=? AND chat=?)"),
    "unsent tasks of a chat": (steps._UNSENT_BEFORE, "tasks_unsent (bot=? AND chat=?)"),
    "how many are queued": (deadline_store._WAITING, "tasks_due (bot=? AND <expr>>?)"),
    "a chat's note": (chat_store._NOTES + " AND chat IN ($2, $3)", "PRIMARY KEY (bot=? AND chat=?)"),
    "abandoned tasks": (deadline_store._ABANDONED, "tasks_leased (bot=? AND <expr><?)"),
    "tasks that one holds": (deadline_store._HELD, "tasks_leased (bot=? AND <expr><?)"),
    "overdue tasks": (deadline_store._OVERDUE, "tasks_expiring (bot=? AND expires_at<?)"),
    "unclosed questions": (deadline_store._UNCLOSED, "tasks_unclosed (bot=? AND updated_at<?)"),
    "the next due": (deadline_store._NEXT_DUE, "tasks_due (bot=?)"),
    "the next abandoned": (deadline_store._NEXT_ABANDONED, "tasks_leased (bot=?)"),
    "the next overdue": (deadline_store._NEXT_OVERDUE, "tasks_expiring (bot=?)"),
    "old tasks": (deadline_store._FORGET_TASKS, "tasks_finished (bot=? AND updated_at<?)"),
    "old updates": (deadline_store._FORGET_UPDATES, "PRIMARY KEY (bot=?)"),
    "how many wait for their turn": (figure_store._QUEUED, "tasks_due (bot=? AND <expr>>?)"),
    "how many are being sent": (figure_store._SENDING, "tasks_leased (bot=? AND <expr>>?)"),
    "how many are asked": (figure_store._ASKED, "tasks_expiring (bot=? AND expires_at>?)"),
    "old quarantine": (deadline_store._FORGET_QUARANTINE, "quarantine_by_age (bot=? AND at<?)"),
}


@pytest.mark.parametrize("what", PLANS)
async def test_it_is_found_by_its_index(store: Store, what: str) -> None:
    sql, index = PLANS[what]
    params = (1,) * 11 if "$11" in sql else (1,) * max(n for n in range(1, 6) if f"${n}" in sql)
    plan = [row[3] for row in await ask(store, f"EXPLAIN QUERY PLAN {sql}", *params)]
    assert any(index in line for line in plan), plan
    # What an index has found may be put in order, and looked through.
    found = {"SCAN due", "SCAN nearest"} | {line for line in plan if line.startswith("SCAN (subquery")}
    assert not [line for line in plan if line.startswith("SCAN") and line not in found]
