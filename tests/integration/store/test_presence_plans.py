"""Disarmed questions are found by an index, and so are the open ones that an outage disarms."""

from __future__ import annotations

import pytest

from infra.store import Store
from infra.store.sql import heartbeat as presence_store
from tests.contract.store.samples import ask

PLANS = {
    "the row of presence": (presence_store._PRESENCE, "sqlite_autoindex_presence_1 (bot=?)"),
    "open questions": (presence_store._DISARM, "tasks_open (bot=?)"),
    "the next to be armed": (presence_store._LONGEST_WAITING, "disarmed_due (bot=? AND until<?)"),
    "one that is taken": (presence_store._TAKE, "PRIMARY KEY (bot=? AND task=?)"),
    "one that is struck off": (presence_store._STRIKE_OFF, "PRIMARY KEY (bot=? AND task=?)"),
}


@pytest.mark.parametrize("what", PLANS)
async def test_it_is_found_by_its_index(store: Store, what: str) -> None:
    sql, index = PLANS[what]
    params = (1,) * max(number for number in range(1, 8) if f"${number}" in sql)
    plan = [row[3] for row in await ask(store, f"EXPLAIN QUERY PLAN {sql}", *params)]
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line.startswith("SCAN") or "TEMP B-TREE" in line], plan
