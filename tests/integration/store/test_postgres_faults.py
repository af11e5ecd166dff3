"""What befalls a PostgreSQL database, and what whoever asked for something is told within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest

from core.model.errors import Overloaded, StorageUnavailable
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret
from infra.store.errors import NOTHING_DONE
from infra.store.postgres.connection import commit
from infra.store.postgres.database import PostgresDatabase
from infra.store.postgres.errors import OUTCOME_UNKNOWN, is_weather, translate
from infra.store.postgres.schema import migrate
from infra.store.sql.transactions import Database, Row, Statement, Transaction
from tests import postgres
from tests.integration.store.postgres_cable import cable
from tests.integration.store.single import do, only

ENOUGH = 20.0
"""Seconds that anything may take on a busy machine."""


@pytest.fixture
async def name() -> str:
    """The name of a database that is migrated."""
    made = postgres.server().fresh_name()
    await migrate(PostgresAddress.parse(postgres.server().url(made)))
    return made


@pytest.fixture
def address(name: str) -> PostgresAddress:
    return PostgresAddress.parse(postgres.server().url(name))


@pytest.fixture
async def database(address: PostgresAddress) -> AsyncIterator[PostgresDatabase]:
    made = PostgresDatabase(address)
    await do(made, "CREATE TABLE notes (text TEXT NOT NULL)")
    await made.check()
    yield made
    await made.close()


@pytest.fixture
def server() -> Iterator[postgres.PostgresServer]:
    """This process's server, which runs again afterwards."""
    own = postgres.server()
    yield own
    own.start()


def note(text: str, pause: str = "0") -> Callable[[], Transaction[None]]:
    def transaction() -> Transaction[None]:
        yield Statement("INSERT INTO notes (text) VALUES ($1)", (text,))
        yield Statement(f"SELECT pg_sleep({pause})")

    return transaction


async def notes(database: Database) -> list[str]:
    return [row[0] for row in await database.read(only("SELECT text FROM notes ORDER BY text"))]


def nap(seconds: float) -> Callable[[], Transaction[Sequence[Row]]]:
    return only(f"SELECT pg_sleep({seconds})")


async def until_it_sleeps(name: str, transactions: int = 1) -> None:
    """Wait until so many transactions of this database are in the middle of `note` or `nap`."""
    connection = await asyncpg.connect(postgres.server().url())
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"
    async with asyncio.timeout(ENOUGH):
        while await connection.fetchval(count, name) != transactions:  # noqa: ASYNC110 - the server's state is no Event of ours
            await asyncio.sleep(0.01)
    await connection.close()


async def several_connections(database: PostgresDatabase, name: str) -> list[Any]:
    """Let the database have three connections, of which none is used."""
    naps = [asyncio.create_task(database.read(nap(0.3))) for _ in range(3)]
    await until_it_sleeps(name, 3)
    await asyncio.gather(*naps)
    resting = [connection for _, connection in database._pool._resting]
    assert len(resting) == 3
    return resting


async def test_connections_killed_while_nobody_used_them_are_replaced(
    database: PostgresDatabase, name: str
) -> None:
    await several_connections(database, name)
    assert postgres.server().kill_connections(name) == 3
    await database.write(note("after"))
    assert await notes(database) == ["after"]
    await database.check()


async def test_what_a_connection_does_is_not_laid_at_the_door_of_whoever_needed_it_first(
    address: PostgresAddress, name: str
) -> None:
    asked_by = ContextVar("asked_by", default="nobody")
    seen: asyncio.Queue[str] = asyncio.Queue()
    database = PostgresDatabase(address)
    asked_by.set("the first")
    await database.read(only("SELECT 1"))
    [(_, connection)] = database._pool._resting
    connection.add_termination_listener(lambda _connection: seen.put_nowait(asked_by.get()))
    postgres.server().kill_connections(name)
    async with asyncio.timeout(ENOUGH):
        assert await seen.get() == "nobody", "Lines of the log would name its request for ever."
    await database.close()


@pytest.mark.parametrize("reserved", [False, True])
async def test_a_connection_killed_in_the_middle_of_a_transaction_has_it_done_once(
    database: PostgresDatabase, name: str, reserved: bool
) -> None:
    writing = asyncio.create_task(database.write(note("once", pause="0.5"), reserved=reserved))
    await until_it_sleeps(name)
    assert postgres.server().kill_connections(name) >= 1
    await writing
    assert await notes(database) == ["once"]


async def test_a_connection_killed_in_the_middle_of_a_query_has_it_asked_again(
    database: PostgresDatabase, name: str
) -> None:
    reading = asyncio.create_task(database.read(nap(0.3)))
    await until_it_sleeps(name)
    assert postgres.server().kill_connections(name) >= 1
    assert len(await reading) == 1


async def test_a_stopped_server_is_told_of_within_two_seconds_and_found_again(
    database: PostgresDatabase, server: postgres.PostgresServer
) -> None:
    server.stop()
    for attempt in (database.write(note("lost")), database.read(only("SELECT 1")), database.check()):
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="cannot be reached") as caught:
            await attempt
        assert caught.value.retry_after == 3
        assert time.monotonic() - began < 2
    server.start()
    await database.check()
    await database.write(note("kept"))
    assert await notes(database) == ["kept"]


async def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(
    database: PostgresDatabase, server: postgres.PostgresServer
) -> None:
    acknowledged: list[str] = []

    async def write(number: int) -> None:
        with contextlib.suppress(StorageUnavailable):
            await database.write(note(f"{number:03d}"))
            acknowledged.append(f"{number:03d}")

    for number in range(20):
        await write(number)
    writing = [asyncio.create_task(write(number)) for number in range(20, 60)]
    await asyncio.sleep(0)
    server.stop("immediate")
    await asyncio.gather(*writing)
    server.start()
    assert set(acknowledged) <= set(await notes(database))
    assert len(acknowledged) >= 20


async def test_a_server_that_stands_still_is_told_of_in_time(
    address: PostgresAddress, server: postgres.PostgresServer
) -> None:
    database = PostgresDatabase(address, patience=0.4)
    await database.check()
    await do(database, "CREATE TABLE notes (text TEXT NOT NULL)")
    server.pause()
    try:
        for attempt in (database.write(note("lost")), database.read(only("SELECT 1")), database.check()):
            with pytest.raises(StorageUnavailable, match=r"not answer in time|cannot be reached"):
                async with asyncio.timeout(ENOUGH):
                    await attempt
    finally:
        server.resume()
    await database.write(note("kept"))
    assert await notes(database) == ["kept"]
    await database.close()


async def test_a_statement_that_takes_too_long_is_ended_and_harms_nobody_else(
    database: PostgresDatabase,
) -> None:
    slow, quick = database.write(note("slow", pause="60")), database.write(note("quick"))
    outcomes = await asyncio.gather(slow, quick, return_exceptions=True)
    assert isinstance(outcomes[0], StorageUnavailable)
    assert "not answer in time" in outcomes[0].detail
    assert outcomes[1] is None
    assert await notes(database) == ["quick"]


async def test_rows_that_somebody_else_holds_are_waited_for_but_not_for_ever(
    database: PostgresDatabase, address: PostgresAddress
) -> None:
    await database.write(note("held"))
    holder = await asyncpg.connect(address.url.reveal())
    change = "UPDATE notes SET text = $1 WHERE text = $2"
    async with holder.transaction():
        await holder.execute(change, "held", "held")
        blocked, free = do(database, change, "changed", "held"), database.write(note("free"))
        outcomes = await asyncio.gather(blocked, free, return_exceptions=True)
    await holder.close()
    assert isinstance(outcomes[0], StorageUnavailable)
    assert "Somebody else is changing the same rows" in outcomes[0].detail
    assert await notes(database) == ["free", "held"]


async def test_the_server_itself_ends_what_takes_too_long_or_stands_still(database: PostgresDatabase) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    # A process that is frozen lets its rows go, and cannot end anything by itself.
    assert await do(database, f"SELECT {asked}") == [("1500ms", "1200ms", "3s")]
    assert await database.read(only(f"SELECT {asked}")) == [("0", "0", "0")], "A pooler would pass them on."


@pytest.mark.parametrize("writes", [False, True])
async def test_waiting_for_a_connection_ends_and_checks_and_updates_have_their_own(
    address: PostgresAddress, name: str, writes: bool
) -> None:
    database = PostgresDatabase(address, connections=3, patience=2.0)
    await do(database, "CREATE TABLE notes (text TEXT NOT NULL)")
    work = database.write if writes else database.read
    began = time.monotonic()
    first, second, third = (asyncio.create_task(work(nap(1.2))) for _ in range(3))
    await until_it_sleeps(name)
    await database.check()
    await database.write(note("update"), reserved=True)
    assert not first.done()
    with pytest.raises(Overloaded, match="were busy for too long; nothing was done") as caught:
        await third
    assert caught.value.retry_after == 1
    assert time.monotonic() - began < ENOUGH
    assert not second.done()
    await asyncio.gather(first, second)
    assert await notes(database) == ["update"]
    await database.close()


async def test_a_flood_of_updates_has_all_connections_but_the_one_for_checks(
    address: PostgresAddress, name: str
) -> None:
    database = PostgresDatabase(address, connections=4, patience=ENOUGH)
    flood = [asyncio.create_task(database.write(nap(0.3), reserved=True)) for _ in range(5)]
    request = asyncio.create_task(database.read(only("SELECT 1")))
    await until_it_sleeps(name, 3)
    await database.check()
    assert not request.done()
    await asyncio.gather(*flood)
    assert await request == [(1,)]
    await database.close()


async def test_a_request_that_waits_is_not_overtaken_by_updates_that_come_later(
    address: PostgresAddress, name: str
) -> None:
    database = PostgresDatabase(address, connections=3, patience=ENOUGH)
    ended: list[str] = []

    async def write(what: str, *, reserved: bool) -> None:
        await database.write(nap(0.2), reserved=reserved)
        ended.append(what)

    first = [asyncio.create_task(write("first", reserved=True)) for _ in range(2)]
    await until_it_sleeps(name, 2)
    later = [asyncio.create_task(write("request", reserved=False))]
    later += [asyncio.create_task(write("update", reserved=True)) for _ in range(4)]
    await asyncio.gather(*first, *later)
    assert "request" in ended[:4]
    await database.close()


async def test_when_one_finds_the_database_away_those_who_wait_are_told_and_do_not_try_as_well(
    name: str,
) -> None:
    async with cable() as line:
        line.silent = 1_000
        url = postgres.server().tcp_url(name, port=line.port) + "?sslmode=disable"
        database = PostgresDatabase(PostgresAddress.parse(url), connections=3, patience=ENOUGH)
        tries = [asyncio.create_task(database.read(only("SELECT 1"))) for _ in range(5)]
        async with asyncio.timeout(ENOUGH):
            while not line.connections:  # noqa: ASYNC110 - the cable is no Event
                await asyncio.sleep(0.01)
        line.hang_up()
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {f"The database cannot be reached. {NOTHING_DONE}"}
        assert line.connections == 1, "Each would have waited twice: for its turn, and to find out."
        await database.close()


async def test_too_many_waiting_are_refused_at_once(address: PostgresAddress) -> None:
    database = PostgresDatabase(address, most_calls=3)
    tries = [asyncio.create_task(database.read(only("SELECT 1"))) for _ in range(5)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, False, False, True, True]
    await database.close()


async def test_a_busy_database_is_one_that_is_away_for_a_while(address: PostgresAddress) -> None:
    database = PostgresDatabase(address, most_calls=1)
    first = asyncio.create_task(database.read(only("SELECT 1")))
    second = asyncio.create_task(database.read(only("SELECT 1")))
    # Whoever goes on without a database for a while, as all loops and waiting requests do, goes on here, too.
    with pytest.raises(StorageUnavailable) as refusal:
        await second
    assert (refusal.value.code, refusal.value.retry_after) == ("overloaded", 1)
    await first
    await database.close()


async def test_a_commit_whose_answer_is_lost_is_never_reported_as_done_nor_done_twice(name: str) -> None:
    async with cable() as line:
        there = PostgresAddress.parse(postgres.server().tcp_url(name, port=line.port))
        database = PostgresDatabase(there)
        await do(database, "CREATE TABLE notes (text TEXT NOT NULL)")
        line.cut_after = b"COMMIT\x00"
        with pytest.raises(StorageUnavailable) as caught:
            await database.write(note("stored"))
        assert (caught.value.detail, caught.value.retry_after) == (OUTCOME_UNKNOWN, 3)
        assert line.cuts == 1
        assert await notes(database) == ["stored"]
        await database.close()


async def test_connections_that_nobody_needs_are_given_back(name: str, address: PostgresAddress) -> None:
    database = PostgresDatabase(address, idle=0.1)
    await asyncio.gather(database.read(nap(0.02)), database.read(nap(0.08)), database.check())
    watching = await asyncpg.connect(postgres.server().url())
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
    async with asyncio.timeout(ENOUGH):
        while await watching.fetchval(count, name):  # noqa: ASYNC110 - the server's state is no Event of ours
            await asyncio.sleep(0.02)
    await watching.close()
    await database.check()
    await database.close()


async def test_behind_a_pooler_that_says_so_no_statement_is_prepared(address: PostgresAddress) -> None:
    database = PostgresDatabase(replace(address, pooled=True))
    await do(database, "CREATE TABLE notes (text TEXT NOT NULL)")
    await asyncio.gather(*(database.write(note(str(number))) for number in range(5)))
    assert await notes(database) == list("01234")
    assert await database.read(only("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")) == [(0,)]
    await database.close()


async def test_no_two_connections_give_a_statement_the_same_name(address: PostgresAddress) -> None:
    # Behind a pooler, a name that two processes use could run the other one's statement.
    names = set()
    for _ in range(2):
        database = PostgresDatabase(address)
        rows = await database.read(only("SELECT name FROM pg_prepared_statements"))
        names |= {row[0] for row in rows}
        await database.close()
    assert len(names) == 4
    assert not any("asyncpg" in name for name in names)


async def test_a_pooler_that_says_nothing_is_noticed(
    database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    await database.write(note("before"))
    # What happens when the next transaction runs on another connection than the one before.
    await database.write(only("DEALLOCATE ALL"))
    await database.write(note("after"))
    assert await notes(database) == ["after", "before"]
    assert "Add ?pgbouncer=true to DATABASE_URL" in caplog.text
    caplog.clear()
    await do(database, "DEALLOCATE ALL")
    await database.write(note("again"))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("53100", "has no room left"),
        ("25006", "takes no changes: it is read-only, as a standby is"),
        ("42501", "may not do this"),
        ("40001", "Somebody else is changing the same rows"),
        ("57P03", "cannot be reached"),
    ],
)
async def test_what_the_database_cannot_do_now_is_told_in_words_and_passes(
    database: PostgresDatabase, code: str, told: str
) -> None:
    with pytest.raises(StorageUnavailable, match=told):
        await do(database, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    await database.write(note("after"))
    assert await notes(database) == ["after"]


async def test_connections_to_a_server_that_was_demoted_are_replaced_and_nobody_is_told(
    database: PostgresDatabase, name: str
) -> None:
    async def demote() -> None:
        # What a fail-over leaves behind that closes no connection: they go on, but take no changes any more.
        for connection in await several_connections(database, name):
            await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")

    await demote()
    await asyncio.gather(*(database.write(note(text)) for text in ("one", "two")))
    await demote()
    await database.write(note("update"), reserved=True)
    await demote()
    await database.check()
    assert await notes(database) == ["one", "two", "update"]


async def test_a_database_that_takes_no_changes_is_told_of_and_used_again_when_it_does(
    database: PostgresDatabase, name: str
) -> None:
    await database.write(note("before"))
    default = f"ALTER DATABASE {name} SET default_transaction_read_only"
    admin = await asyncpg.connect(postgres.server().url())
    await admin.execute(f"{default} = on")
    postgres.server().kill_connections(name)
    for attempt in (database.write(note("lost")), database.check()):
        with pytest.raises(StorageUnavailable, match="takes no changes: it is read-only") as caught:
            await attempt
        assert caught.value.retry_after == 3
    assert await notes(database) == ["before"]
    await admin.execute(f"{default} = off")
    await admin.close()
    await database.write(note("after"))
    await database.check()
    assert await notes(database) == ["after", "before"]


@pytest.mark.parametrize("writes", [False, True])
async def test_when_a_server_is_gone_without_a_word_only_the_first_finds_out(name: str, writes: bool) -> None:
    async with cable() as line:
        there = PostgresAddress.parse(postgres.server().tcp_url(name, port=line.port))
        database = PostgresDatabase(there, patience=1.0)
        work = database.write if writes else database.read
        await several_connections(database, name)
        line.silent = line.connections
        with pytest.raises(StorageUnavailable, match="not answer in time"):
            await work(only("SELECT 1"))
        assert await work(only("SELECT 2")) == [(2,)]
        await database.close()


class Refusing:
    """A connection to a server that refuses to end a transaction, and breaks off when it is told to."""

    def __init__(self) -> None:
        self.broken = False

    def is_closed(self) -> bool:
        return self.broken

    def is_in_transaction(self) -> bool:
        return True

    def terminate(self) -> None:
        self.broken = True

    async def execute(self, sql: str, **_limits: float) -> str:
        if sql == "ROLLBACK":
            raise ConnectionResetError
        return "ROLLBACK"


async def test_a_commit_that_became_a_rollback_is_never_taken_for_one() -> None:
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await commit(Refusing(), 1.0)


async def test_a_connection_that_cannot_undo_is_given_up(database: PostgresDatabase) -> None:
    connection = Refusing()
    assert await database._undo(connection, KeyError("x"), until=asyncio.get_running_loop().time() + 1)
    assert connection.broken


def test_an_error_of_nobody_s_making_is_left_as_it_is() -> None:
    bug = KeyError("x")
    assert translate(bug) is bug
    assert not is_weather(bug)


async def test_no_password_is_in_any_error_log_line_or_repr(
    name: str, caplog: pytest.LogCaptureFixture, server: postgres.PostgresServer
) -> None:
    caplog.set_level("DEBUG")
    good = server.tcp_url(name)
    wrong = good.replace("postgres:", "postgres:wrong-", 1)
    addresses = [PostgresAddress.parse(url) for url in (wrong, good.replace(name, "nowhere"), good)]
    server.stop()
    stopped = PostgresDatabase(addresses[2])
    server_down = await told_by(stopped)
    server.start()
    told = [server_down, *[await told_by(PostgresDatabase(each)) for each in addresses[:2]]]
    assert "password authentication failed" in caplog.text
    seen = " ".join([*told, *map(repr, addresses), caplog.text])
    for secret in (postgres.PASSWORD, addresses[0].secrets[1].reveal(), addresses[0].secrets[2].reveal()):
        assert secret not in seen
    assert Secret(postgres.PASSWORD) in addresses[2].secrets


async def told_by(database: PostgresDatabase) -> str:
    with pytest.raises(StorageUnavailable) as caught:
        await database.check()
    await database.close()
    return f"{caught.value!r} {caught.value.detail} {caught.value.__cause__!r}"
