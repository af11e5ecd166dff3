"""What befalls a PostgreSQL database, and what whoever asked for something is told within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest
import uvloop

from core.model.errors import Overloaded, StorageUnavailable
from core.model.update import Effect
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret
from infra.store.postgres.crew import Crew, CrewSettings
from infra.store.postgres.database import PostgresDatabase
from infra.store.postgres.errors import OUTCOME_UNKNOWN, is_weather, translate
from infra.store.postgres.schema import migrate
from infra.store.postgres.session import Session
from infra.store.sql.transactions import Database, Statement, Transaction
from tests import postgres
from tests.contract.store.samples import BOT, a_key, a_question, store_over
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


async def until_it_sleeps(name: str) -> None:
    """Wait until a transaction of this database is in the middle of `note`."""
    connection = await asyncpg.connect(postgres.server().url())
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"
    async with asyncio.timeout(ENOUGH):
        while not await connection.fetchval(count, name):  # noqa: ASYNC110 - the server's state is no Event of ours
            await asyncio.sleep(0.01)
    await connection.close()


async def test_connections_killed_while_nobody_used_them_are_replaced(
    database: PostgresDatabase, name: str
) -> None:
    assert postgres.server().kill_connections(name) == 2
    await database.write(note("after"))
    assert await notes(database) == ["after"]
    await database.check()


async def test_what_a_connection_does_is_not_laid_at_the_door_of_whoever_needed_it_first(
    database: PostgresDatabase,
) -> None:
    asked_by = ContextVar("asked_by", default="nobody")
    seen: list[str] = []

    def look() -> Transaction[None]:
        seen.append(asked_by.get())
        yield Statement("SELECT 1")

    asked_by.set("the first")
    await database.write(look)
    assert seen == ["nobody"], "Lines of the log would name its request and its task for ever."


async def test_a_connection_killed_in_the_middle_of_a_transaction_has_it_done_once(
    database: PostgresDatabase, name: str
) -> None:
    writing = asyncio.create_task(database.write(note("once", pause="0.5")))
    await until_it_sleeps(name)
    assert postgres.server().kill_connections(name) >= 1
    await writing
    assert await notes(database) == ["once"]


async def test_f13_a_stopped_server_is_told_of_within_two_seconds_and_found_again(
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


async def test_f14_a_crash_of_the_server_loses_nothing_that_was_acknowledged(
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


async def test_f37_waiting_for_a_connection_ends_and_checks_and_writes_have_their_own(
    address: PostgresAddress, name: str
) -> None:
    database = PostgresDatabase(address, readers=1, patience=0.5)
    await database.check()

    def long() -> Transaction[None]:
        for _ in range(4):
            yield Statement("SELECT pg_sleep(0.3)")

    busy = asyncio.create_task(database.read(long))
    await until_it_sleeps(name)
    began = time.monotonic()
    waiting = asyncio.create_task(database.read(only("SELECT 1")))
    await database.check()
    assert await do(database, "SELECT 1") == [(1,)]
    assert not waiting.done()
    with pytest.raises(Overloaded, match="were busy for too long; nothing was done"):
        await waiting
    assert time.monotonic() - began < ENOUGH
    assert not busy.done()
    await busy
    await database.close()


async def test_f37_an_update_from_telegram_finds_a_connection_when_all_others_are_busy(
    address: PostgresAddress, name: str
) -> None:
    database = PostgresDatabase(address, writers=1, patience=0.5)
    store = await store_over(database, BOT)

    def long() -> Transaction[None]:
        for _ in range(4):
            yield Statement("SELECT pg_sleep(0.3)")

    busy = asyncio.create_task(database.write(long))
    await until_it_sleeps(name)
    refused = asyncio.create_task(store.add(a_question(), None))
    assert await store.receive(77, None, lambda _tasks: Effect()) == Effect()
    assert not busy.done()
    with pytest.raises(Overloaded, match="were busy for too long; nothing was done"):
        await refused
    await busy
    await database.close()


async def test_too_many_waiting_are_refused_at_once(address: PostgresAddress) -> None:
    database = PostgresDatabase(address, most_waiting=3)
    tries = [asyncio.create_task(database.read(only("SELECT 1"))) for _ in range(5)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, False, False, True, True]
    await database.close()


async def test_a_busy_database_is_one_that_is_away_for_a_while(address: PostgresAddress) -> None:
    database = PostgresDatabase(address, most_waiting=1)
    first = asyncio.create_task(database.read(only("SELECT 1")))
    second = asyncio.create_task(database.read(only("SELECT 1")))
    # Whoever goes on without a database for a while, as all loops and waiting requests do, goes on here, too.
    with pytest.raises(StorageUnavailable) as refusal:
        await second
    assert (refusal.value.code, refusal.value.retry_after) == ("overloaded", 1)
    await first
    await database.close()


def test_whoever_has_waited_too_long_already_is_told_so_in_the_serving_loop() -> None:
    # gunicorn's worker serves with uvloop; a timer for a time that is past is another thing there.
    async def main() -> None:
        away = asyncio.Event()

        async def connect() -> Session:
            await away.wait()
            raise StorageUnavailable("There is no database.")

        crew = Crew(CrewSettings(connections=1, patience=-1, idle=60, most_waiting=9), connect)
        tries = [crew.submit(only("SELECT 1")) for _ in range(3)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [True] * 3
        away.set()
        await crew.close()

    uvloop.run(main())


async def test_a_commit_whose_answer_is_lost_is_never_reported_as_done(name: str) -> None:
    async with cable() as line:
        there = PostgresAddress.parse(postgres.server().tcp_url(name, port=line.port))
        database = PostgresDatabase(there)
        store = await store_over(database, BOT)
        question = a_question()
        line.cut_after = b"COMMIT\x00"
        with pytest.raises(StorageUnavailable) as caught:
            await store.add(question, a_key())
        assert (caught.value.detail, caught.value.retry_after) == (OUTCOME_UNKNOWN, 3)
        assert line.cuts == 1
        # It was stored; the same key leads to it.
        assert (await store.add(a_question(), a_key())) == (question, False)
        await database.close()


async def test_connections_that_nobody_needs_are_given_back(name: str, address: PostgresAddress) -> None:
    database = PostgresDatabase(address, idle=0.1)
    await database.check()
    await do(database, "SELECT 1")
    short, long = only("SELECT pg_sleep(0.02)"), only("SELECT pg_sleep(0.08)")
    await asyncio.gather(database.read(long), asyncio.sleep(0.01, None), database.read(short))
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
async def test_f34_what_the_database_cannot_do_now_is_told_in_words_and_passes(
    database: PostgresDatabase, code: str, told: str
) -> None:
    with pytest.raises(StorageUnavailable, match=told):
        await do(database, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    await database.write(note("after"))
    assert await notes(database) == ["after"]


async def test_f14_connections_to_a_server_that_was_demoted_are_replaced_and_nobody_is_told(
    database: PostgresDatabase, name: str
) -> None:
    first = asyncio.create_task(database.write(note("first", pause="0.3")))
    await until_it_sleeps(name)
    await asyncio.gather(first, database.write(note("second")), database.write(note("third"), reserved=True))
    # What a fail-over leaves behind that closes no connection: they go on, but take no changes any more.
    crews = (database.writer, database._reserved, database._checker)
    left = [session for crew in crews for session, _ in crew._spare]
    assert len(left) == 4
    for session in left:
        await session.connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    await asyncio.gather(*(database.write(note(text)) for text in ("fourth", "fifth")))
    await database.write(note("sixth"), reserved=True)
    await database.check()
    assert await notes(database) == ["fifth", "first", "fourth", "second", "sixth", "third"]


async def test_f14_a_database_that_takes_no_changes_is_told_of_and_used_again_when_it_does(
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
async def test_f14_when_a_server_is_gone_without_a_word_only_the_first_finds_out(
    name: str, writes: bool
) -> None:
    async with cable() as line:
        there = PostgresAddress.parse(postgres.server().tcp_url(name, port=line.port))
        database = PostgresDatabase(there, patience=1.0)
        work = database.write if writes else database.read
        crew = database.writer if writes else database._reader
        await database.check()
        first = asyncio.create_task(work(only("SELECT pg_sleep(0.3)")))
        await until_it_sleeps(name)
        await asyncio.gather(first, work(only("SELECT pg_sleep(0.1)")))
        assert len(crew._spare) == 2
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

    def terminate(self) -> None:
        self.broken = True

    async def execute(self, sql: str, **_limits: float) -> str:
        if sql == "ROLLBACK":
            raise ConnectionResetError
        return "ROLLBACK"

    async def close(self, **_limits: float) -> None:
        raise asyncpg.InterfaceError("connection is closed")


async def test_a_commit_that_became_a_rollback_is_never_taken_for_one() -> None:
    session = Session(Refusing(), 1.0, writes=True)
    await session.begin()
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await session.commit()


async def test_a_connection_that_cannot_undo_is_given_up_and_closing_it_harms_nobody() -> None:
    session = Session(Refusing(), 1.0, writes=True)
    await session.roll_back()
    assert session.lost
    await session.close()


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
