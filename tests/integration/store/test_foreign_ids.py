"""A task of another service is looked for as one that does not exist is: by an index that holds neither."""

from __future__ import annotations

import random
import re
import sqlite3
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types
import pytest

from infra.config.postgres_address import PostgresAddress
from infra.store import Store
from infra.store.postgres.schema import migrate as migrate_postgres
from infra.store.sql.effects import FIND
from infra.store.sql.rows import INSERT, encode
from infra.store.sql.tasks import _FIND_OWN
from infra.store.sqlite.file import migrate
from tests import postgres
from tests.contract.store.samples import BOT, a_message, add, ask

SAMPLES = 100_000
SIGNAL = 1_000
"""Nanoseconds: a difference that says something to somebody who asks often enough."""

ROWS = 5_000


def explained(plan: Sequence[Sequence[object]]) -> str:
    return "\n".join(str(line[-1]) for line in plan)


async def test_sqlite_asks_the_index_of_the_service_before_anything_is_read(store: Store) -> None:
    plan = explained(await ask(store, f"EXPLAIN QUERY PLAN {_FIND_OWN}", BOT, "tsk_1", "ci"))
    searches = re.findall(r"(?:SEARCH|SCAN) telegate_tasks .*", plan)
    assert searches == [
        "SEARCH telegate_tasks USING INDEX sqlite_autoindex_telegate_tasks_1 (bot=? AND id=?)",
        "SEARCH telegate_tasks USING COVERING INDEX tasks_by_service (bot=? AND (service,id)<(?,?))",
    ]
    # The first of these is led by what the second finds: nothing, when the task is not the service's.
    assert plan.index("SCALAR SUBQUERY") < plan.index("COVERING")
    assert "B-TREE" not in plan


async def test_postgresql_asks_the_index_of_the_service_before_anything_is_read() -> None:
    address = PostgresAddress.parse(postgres.fresh_database())
    await migrate_postgres(address)
    connection = await asyncpg.connect(address.url.reveal())
    try:
        await connection.executemany(INSERT, [encode(BOT, a_message()) for _ in range(ROWS)])
        # As it is planned before anything is known about the table, and afterwards; the bot has one service.
        for prepare in (
            "SET plan_cache_mode = force_generic_plan",
            "ANALYZE telegate_tasks",
            "RESET plan_cache_mode",
        ):
            await connection.execute(prepare)
            for service in ("ci", "billing"):
                plan = explained(await connection.fetch(f"EXPLAIN {_FIND_OWN}", BOT, "tsk_1", service))
                assert len(re.findall(r"Scan (Backward )?using|Scan on telegate_tasks", plan)) == 2, plan
                assert "Index Only Scan Backward using tasks_by_service" in plan
                assert "Index Scan using tasks_pkey" in plan
                assert re.search(r"Index Cond: .*ROW\(service, id\) <= ROW\(", plan)
                assert "Sort" not in plan
    finally:
        await connection.close()


async def test_a_task_is_found_by_its_own_service_alone(store: Store) -> None:
    tasks = [a_message() for _ in range(3)]
    for task in tasks:
        await add(store, task)
    for task in tasks:
        assert await store.find(task.id, "ci") == task
        for other in ("billing", "c", "cj", ""):
            assert await store.find(task.id, other) is None


@pytest.fixture
def filled(path: Path) -> Iterator[sqlite3.Connection]:
    """A file with many tasks of the service `ci`, in memory by and large."""
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            INSERT,
            ({str(n): value for n, value in enumerate(encode(BOT, a_message()), 1)} for _ in range(ROWS)),
        )
        connection.commit()
        yield connection


def compared(connection: sqlite3.Connection, sql: str, samples: int) -> Mapping[str, float]:
    """How many nanoseconds `billing` waits to be told of nothing, tried in no order: medians."""
    foreign = [row[0] for row in connection.execute("SELECT id FROM telegate_tasks")]
    ids = {"foreign": foreign, "unknown": [a_message().id for _ in foreign]}
    times: dict[str, list[int]] = {"foreign": [], "unknown": []}
    kinds = list(ids) * (samples // 2)
    random.shuffle(kinds)
    for number, kind in enumerate(kinds):
        params = {"1": BOT, "2": ids[kind][number % ROWS], "3": "billing"}
        begun = time.perf_counter_ns()
        connection.execute(sql, params).fetchall()
        times[kind].append(time.perf_counter_ns() - begun)
    return {kind: statistics.median(each) for kind, each in times.items()}


@pytest.mark.slow
def test_how_long_sqlite_takes_does_not_tell_a_foreign_task_from_one_that_does_not_exist(
    filled: sqlite3.Connection,
) -> None:
    waited = compared(filled, _FIND_OWN, SAMPLES)
    assert abs(waited["foreign"] - waited["unknown"]) < SIGNAL / 2, waited


@pytest.mark.slow
def test_a_row_that_is_read_and_thrown_away_would_be_noticed(filled: sqlite3.Connection) -> None:
    waited = compared(filled, FIND, SAMPLES // 5)
    assert waited["foreign"] - waited["unknown"] > SIGNAL / 2, waited
