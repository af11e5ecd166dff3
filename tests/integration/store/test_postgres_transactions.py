"""Transactions that run at the same time on PostgreSQL, in one process and in several."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest

from core.model.errors import StorageUnavailable
from core.model.job import TELEGRAM
from infra.config.postgres_address import PostgresAddress
from infra.store import Store
from infra.store.postgres.database import PostgresDatabase
from infra.store.postgres.schema import migrate
from infra.store.sql.transactions import Database, MovedOn, Sql, Statement, Transaction
from tests import postgres
from tests.contract.store.samples import LEASE, NOW, a_job, claimed, store_over
from tests.integration.store.single import do, only

COUNT = 40
_LOCKED = Sql(
    sqlite="No word of this is for PostgreSQL.",
    postgres="SELECT value FROM counters WHERE name = $1 FOR NO KEY UPDATE",
)
PATIENCE = 20.0
"""Seconds: on a busy machine nothing here may fail for being slow."""


@pytest.fixture
async def address() -> PostgresAddress:
    found = PostgresAddress.parse(postgres.fresh_database())
    await migrate(found)
    return found


@pytest.fixture
async def database(address: PostgresAddress) -> AsyncIterator[PostgresDatabase]:
    made = PostgresDatabase(address, patience=PATIENCE)
    await do(
        made, "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL, note BYTEA)"
    )
    await do(made, "INSERT INTO counters (name, value) VALUES ('a', 0), ('b', 0)")
    yield made
    await made.close()


@pytest.fixture
async def other(address: PostgresAddress, database: PostgresDatabase) -> AsyncIterator[PostgresDatabase]:
    """A second process on the same database."""
    made = PostgresDatabase(address, patience=PATIENCE)
    await made.check()
    yield made
    await made.close()


async def value(database: Database, name: str) -> int:
    [(found,)] = await database.read(only("SELECT value FROM counters WHERE name = $1", name))
    return int(found)


def count_up(*names: str, pause: float = 0) -> Callable[[], Transaction[int]]:
    """Read, think, write: right only when nobody comes between."""

    def transaction() -> Transaction[int]:
        seen = 0
        for name in names:
            [(seen,)] = yield Statement(_LOCKED, (name,))
            yield Statement("UPDATE counters SET value = $1 WHERE name = $2", (seen + 1, name))
            if pause:
                yield Statement("SELECT pg_sleep($1::bigint / 1000.0)", (int(pause * 1000),))
        return seen + 1

    return transaction


async def test_values_come_back_as_they_were_given(database: PostgresDatabase) -> None:
    insert = "INSERT INTO counters (name, value, note) VALUES ($1, $2, $3) RETURNING name, value, note"
    given = [("größer 😀", -(2**63), b"\x00\xff"), ("x", 2**63 - 1, None)]
    answers = await asyncio.gather(*(do(database, insert, *row) for row in given))
    assert answers == [[given[0]], [given[1]]]


async def test_text_with_a_nul_is_found_by_nobody_and_stored_without_it(database: PostgresDatabase) -> None:
    insert = "INSERT INTO counters (name, value) VALUES ($1, 1) RETURNING name"
    assert await do(database, insert, "a\0b") == [("a\ufffdb",)]
    assert await database.read(only("SELECT 1 FROM counters WHERE name = $1", "a\0")) == []


async def test_a_change_yields_one_empty_row_for_each_row_it_changed(database: PostgresDatabase) -> None:
    assert await do(database, "UPDATE counters SET value = value + 1") == [(), ()]
    assert await do(database, "UPDATE counters SET value = 1 WHERE name = $1", "nobody") == []
    insert = "INSERT INTO counters SELECT 'n' || n, n FROM generate_series(1, $1::bigint) AS n"
    assert await do(database, insert, 3) == [(), (), ()]
    assert await do(database, "DELETE FROM counters WHERE name = $1", "a") == [()]
    assert await do(database, "CREATE TABLE more (x BIGINT)") == []


async def test_a_change_that_returns_something_yields_that(database: PostgresDatabase) -> None:
    update = "\n UPDATE counters SET value = value + 1 WHERE name = $1\nRETURNING name, value"
    assert await do(database, update, "a") == [("a", 1)]
    both = "WITH moved AS (DELETE FROM counters RETURNING value) SELECT sum(value)::bigint FROM moved"
    assert await do(database, both) == [(1,)]


async def test_everybody_gets_the_rows_of_their_own_statement(database: PostgresDatabase) -> None:
    await do(
        database, "INSERT INTO counters SELECT 'n' || n, n FROM generate_series(0, $1::bigint) AS n", COUNT
    )
    asked = (only("SELECT value FROM counters WHERE name = $1", f"n{number}") for number in range(COUNT))
    assert await asyncio.gather(*map(database.read, asked)) == [[(number,)] for number in range(COUNT)]


async def test_rows_read_for_update_are_changed_one_after_the_other(database: PostgresDatabase) -> None:
    seen = await asyncio.gather(*(database.write(count_up("a")) for _ in range(COUNT)))
    assert sorted(seen) == list(range(1, COUNT + 1))
    assert await value(database, "a") == COUNT


@pytest.mark.parametrize("processes", [1, 2])
async def test_two_that_wait_for_each_other_both_succeed(
    database: PostgresDatabase, other: PostgresDatabase, processes: int
) -> None:
    second = other if processes == 2 else database
    await asyncio.gather(
        database.write(count_up("a", "b", pause=0.2)), second.write(count_up("b", "a", pause=0.2))
    )
    assert [await value(database, name) for name in "ab"] == [2, 2]


async def test_one_that_fails_after_it_wrote_undoes_nobody_else(database: PostgresDatabase) -> None:
    def failing() -> Transaction[None]:
        yield Statement("UPDATE counters SET value = value + 100 WHERE name = 'a'")
        raise LookupError("No.")

    outcomes = await asyncio.gather(
        *(database.write(failing if number == COUNT // 2 else count_up("b")) for number in range(COUNT)),
        return_exceptions=True,
    )
    assert isinstance(outcomes.pop(COUNT // 2), LookupError)
    assert sorted(map(int, map(str, outcomes))) == list(range(1, COUNT))
    assert [await value(database, name) for name in "ab"] == [0, COUNT - 1]


async def test_when_several_fail_each_is_told_its_own_reason(database: PostgresDatabase) -> None:
    def failing(reason: str) -> Transaction[None]:
        yield Statement("UPDATE counters SET value = value + 100 WHERE name = 'a'")
        raise LookupError(reason)

    tries = [database.write(partial(failing, reason)) for reason in ("one", "two", "three")]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["one", "two", "three"]
    assert await value(database, "a") == 0


async def test_one_that_the_database_refuses_undoes_nobody_else(database: PostgresDatabase) -> None:
    insert = "INSERT INTO counters (name, value) VALUES ($1, $2)"
    names = [f"n{number}" for number in range(COUNT)]
    names[7] = "a"
    outcomes = await asyncio.gather(
        *(do(database, insert, name, 1) for name in names), return_exceptions=True
    )
    assert isinstance(outcomes.pop(7), asyncpg.UniqueViolationError)
    assert outcomes == [[()]] * (COUNT - 1)
    assert await database.read(only("SELECT count(*) FROM counters")) == [(COUNT + 1,)]


async def test_who_comes_second_with_something_is_undone_and_succeeds_when_it_is_run_again(
    database: PostgresDatabase, address: PostgresAddress
) -> None:
    insert = "INSERT INTO counters (name, value) VALUES ('first', $1) ON CONFLICT DO NOTHING"

    def be_first() -> Transaction[int]:
        rows = yield Statement("SELECT value FROM counters WHERE name = 'first'")
        if rows:
            return int(rows[0][0])
        yield Statement("UPDATE counters SET value = value + 1 WHERE name = 'a'")
        if not (yield Statement(insert, (2,))):
            raise MovedOn
        return 2

    other = await asyncpg.connect(address.url.reveal())
    async with other.transaction():
        await other.execute(insert, 1)
        second = asyncio.create_task(database.write(be_first))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
        while not await other.fetchval(waiting):  # noqa: ASYNC110 - the server's state is no Event of ours
            await asyncio.sleep(0.01)
    await other.close()
    with pytest.raises(MovedOn):
        await second
    assert await value(database, "a") == 0
    assert await database.write(be_first) == 1


async def test_a_mistake_in_our_sql_is_told_as_it_is(database: PostgresDatabase) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await do(database, "SELEKT")
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        await do(database, "UPDATE counters SET value = $1", "many")
    assert await value(database, "a") == 0


async def test_a_caller_who_goes_away_has_it_done_all_the_same(
    database: PostgresDatabase, other: PostgresDatabase
) -> None:
    going = asyncio.create_task(database.write(count_up("a", pause=0.1)))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await database.close()
    assert await value(other, "a") == 1


async def test_what_fails_after_its_caller_went_away_is_told_once_and_without_alarm(
    database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    going = asyncio.create_task(do(database, "SELECT 1 / (SELECT 0 FROM pg_sleep(0.1))"))
    await asyncio.sleep(0.02)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await database.close()
    gc.collect()
    assert [(each.levelname, vars(each)["action"]) for each in caplog.records] == [
        ("INFO", "abandoned_failed")
    ]


async def test_closing_finishes_what_was_asked_for_and_then_takes_no_more(address: PostgresAddress) -> None:
    database = PostgresDatabase(address)
    asked = [asyncio.create_task(do(database, "SELECT pg_sleep(0.1)")) for _ in range(3)]
    await asyncio.sleep(0)
    await database.close()
    assert [len(await each) for each in asked] == [1, 1, 1]
    with pytest.raises(StorageUnavailable, match="The server is stopping"):
        await database.check()


async def claim(store: Store, holder: str, limit: int) -> list[str]:
    """The subjects of the jobs that this process takes."""
    lease = replace(LEASE, holder=holder)
    return [job.subject for job, _ in await store.claim(TELEGRAM, NOW, lease, limit, claimed, NOW)]


async def test_two_processes_that_claim_at_once_never_take_the_same_job(
    database: PostgresDatabase, other: PostgresDatabase
) -> None:
    stores = [await store_over(each) for each in (database, other)]
    jobs = [a_job(f"tsk_{number}", lane=None) for number in range(60)]
    await stores[0].put(jobs)
    claims = await asyncio.gather(*(claim(stores[n % 2], f"host-{n % 2}", 5) for n in range(20)))
    taken = [subject for subjects in claims for subject in subjects]
    assert len(taken) == len(set(taken))
    left = await claim(stores[1], "host-1", 100)
    assert sorted([*taken, *left]) == sorted(job.subject for job in jobs)


async def test_a_claim_passes_over_what_another_process_works_on(
    database: PostgresDatabase, address: PostgresAddress
) -> None:
    store = await store_over(database)
    await store.put([a_job(f"tsk_{number}", lane=None) for number in range(3)])
    connection = await asyncpg.connect(address.url.reveal())
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM telegate_jobs WHERE subject = 'tsk_1' FOR UPDATE")
        subjects = await claim(store, "host-1", 10)
    await connection.close()
    assert sorted(subjects) == ["tsk_0", "tsk_2"]
