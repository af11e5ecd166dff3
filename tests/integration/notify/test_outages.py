"""What happens to hints when connections end, hang, or lie; tasks never depend on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types
import pytest

from infra.notify.postgres import CHANNEL, PostgresNotifier
from tests.integration.notify.processes import (
    BOT,
    LIMIT,
    QUICK,
    Process,
    TransactionPooler,
    connection,
    process,
    running,
)
from tests.postgres import PASSWORD, PostgresServer

STEADY = replace(QUICK, echo_every=60.0)
"""Nothing but hints is sent, after the first echo."""


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What was logged; the password never is."""
    caplog.set_level("DEBUG", "telegate")
    yield caplog
    assert PASSWORD not in caplog.text


@pytest.fixture
async def pooler(postgres: PostgresServer) -> AsyncIterator[TransactionPooler]:
    async with TransactionPooler(postgres.port) as pooler:
        yield pooler


def actions(log: pytest.LogCaptureFixture) -> list[str]:
    """What we told people, by its name for machines; of what asyncpg leaves behind, asyncio tells."""
    ours = [record for record in log.records if record.name.startswith("telegate.")]
    return [vars(record)["action"] for record in ours if record.levelname != "DEBUG"]


async def tell_each_other(one: Process, other: Process, task_id: str) -> None:
    one.notifier.hint([task_id])
    await other.until(lambda heard: task_id in heard)


async def test_after_its_connections_were_ended_it_connects_anew_and_looks(
    postgres: PostgresServer, name: str, log: pytest.LogCaptureFixture
) -> None:
    url = postgres.url(name)
    async with process(url, timing=STEADY) as one, process(url, timing=STEADY) as other:
        assert postgres.kill_connections(name) == 4
        await one.until_missed()
        await other.until_missed()
        await tell_each_other(one, other, "tsk_1")
        assert one.notifier.trouble is None
    assert sorted(actions(log)) == ["hints_back"] * 2 + ["hints_lost"] * 2


@pytest.mark.parametrize("place", [0, 1])
async def test_one_of_two_connections_is_not_enough(postgres: PostgresServer, name: str, place: int) -> None:
    url = postgres.url(name)
    async with process(url, timing=STEADY) as one:
        mine = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - a test's own name
        chosen = f"{mine} ORDER BY backend_start OFFSET {place} LIMIT 1"
        postgres.sql(f"SELECT pg_terminate_backend(pid) FROM ({chosen}) AS chosen")  # noqa: S608 - as above
        await one.until_missed()
        async with process(url) as other:
            await tell_each_other(one, other, "tsk_1")
            await tell_each_other(other, one, "tsk_2")


async def test_connections_that_end_before_anybody_listens_are_a_failure_like_any_other(url: str) -> None:
    async def connect() -> asyncpg.Connection:
        opened = await asyncpg.connect(url, ssl=False)
        opened.terminate()
        return opened

    async with running(PostgresNotifier(connect=connect, bot=BOT, timing=QUICK)) as one:
        assert "The connection to PostgreSQL has ended." in await one.until_trouble()


async def test_a_connection_that_ends_in_the_middle_of_a_hint_costs_that_hint(
    postgres: PostgresServer, name: str, pooler: TransactionPooler
) -> None:
    pooler.keeps_back = False
    async with process(postgres.tcp_url(name, port=pooler.port), timing=STEADY) as one:
        postgres.pause()
        try:
            pooler.asked.clear()
            one.notifier.hint(["tsk_lost"])
            await asyncio.wait_for(pooler.asked.wait(), LIMIT)
            await pooler.cut()
        finally:
            postgres.resume()
        await one.until_missed()
        assert one.notifier.dropped == 1
        async with process(postgres.url(name)) as other:
            await tell_each_other(one, other, "tsk_1")


async def test_a_server_that_stops_is_told_of_once_and_found_again_when_it_is_back(
    postgres: PostgresServer, url: str, log: pytest.LogCaptureFixture
) -> None:
    async with process(url) as one, process(url) as other:
        postgres.stop()
        try:
            trouble = await one.until_trouble()
            for number in range(100):
                one.notifier.hint([f"tsk_{number}"])
        finally:
            postgres.start()
        assert trouble.startswith("LISTEN connection failed; polling every 0.5 s. ")
        assert len(one.heard) == one.notifier.dropped == 100
        await one.until_well()
        await other.until_well()
        async with asyncio.timeout(LIMIT):
            while "tsk_back" not in other.heard:
                one.notifier.hint(["tsk_back"])
                await asyncio.sleep(0.02)
    told = actions(log)
    assert len([action for action in told if action == "hints_lost"]) == 2
    assert "Hints not sent meanwhile: 100." in log.text
    assert set(told) == {"hints_lost", "hints_given_up", "hints_back"}


async def test_a_connection_that_is_dead_without_an_end_is_noticed(
    postgres: PostgresServer, url: str
) -> None:
    async with process(url) as one, process(url) as other:
        postgres.pause()
        try:
            trouble = await one.until_trouble()
        finally:
            postgres.resume()
        assert "PostgreSQL does not answer within 1 s." in trouble
        await one.until_well()
        await other.until_well()
        await tell_each_other(one, other, "tsk_1")


async def test_behind_a_transaction_pooler_nobody_relies_on_hints_until_they_arrive(
    postgres: PostgresServer, name: str, pooler: TransactionPooler, log: pytest.LogCaptureFixture
) -> None:
    url = postgres.tcp_url(name, port=pooler.port)
    async with process(url, connected=False) as one:
        trouble = await one.until_trouble()
        assert "A connection pooler in transaction mode would explain it" in trouble
        assert actions(log) == ["hints_lost", "hints_given_up"]
        pooler.keeps_back = False
        await one.until_well()
        async with process(url) as other:
            await tell_each_other(one, other, "tsk_1")
    assert actions(log) == ["hints_lost", "hints_given_up", "hints_back"]


async def test_a_pooler_that_begins_to_keep_hints_back_is_noticed_later(
    postgres: PostgresServer, name: str, pooler: TransactionPooler
) -> None:
    pooler.keeps_back = False
    async with process(postgres.tcp_url(name, port=pooler.port)) as one:
        pooler.keeps_back = True
        await one.until_trouble()


async def test_through_such_a_pooler_a_connection_hears_itself_and_nobody_else(
    postgres: PostgresServer, name: str, pooler: TransactionPooler
) -> None:
    heard: list[str] = []
    url = postgres.tcp_url(name, port=pooler.port)
    async with connection(url) as one, connection(url) as other:
        await one.add_listener(CHANNEL, lambda *notification: heard.append(notification[-1]))
        await other.execute("SELECT pg_notify($1, 'from the other')", CHANNEL)
        await one.execute("SELECT pg_notify($1, 'from itself')", CHANNEL)
        await one.execute("SELECT 1")
    assert "from itself" in heard


async def test_a_hint_that_postgresql_refuses_is_dropped_and_told_once(
    url: str, log: pytest.LogCaptureFixture
) -> None:
    async with process(url, timing=STEADY) as one, process(url) as other:
        for _ in range(3):
            before = one.notifier.dropped
            one.notifier.hint(["x" * 9000])
            async with asyncio.timeout(LIMIT):
                while one.notifier.dropped == before:  # noqa: ASYNC110 - a counter rings no bell
                    await asyncio.sleep(0.01)
        await tell_each_other(one, other, "tsk_1")
        assert one.notifier.dropped == 3
        one.notifier.hint(["x" * 9000])
        async with asyncio.timeout(LIMIT):
            while one.notifier.dropped == 3:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
    assert actions(log) == ["hints_refused", "hints_back", "hints_refused"]
    assert "hints to other processes are dropped. PostgreSQL says: payload string too long." in log.text


@pytest.fixture
def small_queue() -> Iterator[PostgresServer]:
    """A server with the smallest queue of notifications that there is: half a megabyte."""
    own = PostgresServer(max_notify_queue_pages="64")
    own.start()
    yield own
    own.remove()


async def test_a_full_queue_drops_hints_until_it_is_empty_again(
    small_queue: PostgresServer, log: pytest.LogCaptureFixture
) -> None:
    url = small_queue.fresh_database()
    async with process(url) as one, process(url) as other, connection(url) as reader:
        # Whoever listens, and stays in a transaction, keeps everything in the queue.
        for command in ("LISTEN telegate_hints", "BEGIN", "SELECT 1"):
            await reader.execute(command)
        with pytest.raises(asyncpg.PostgresError, match="too many notifications"):
            await fill_queue(url)
        one.notifier.hint(["tsk_lost"])
        trouble = await one.until_trouble()
        assert one.notifier.dropped == 1
        assert trouble.startswith("LISTEN connection failed; polling")
        assert "too many notifications in the NOTIFY queue" in log.text
        await reader.execute("ROLLBACK")
        await one.until_well()
        await other.until_well()
        await tell_each_other(one, other, "tsk_1")


async def fill_queue(url: str) -> None:
    """Send half a megabyte and more, which nobody reads."""
    async with connection(url) as writer:
        for _ in range(200):
            await writer.execute("SELECT pg_notify('telegate_hints', repeat('x', 7900))")


async def test_a_wrong_password_is_told_without_it(postgres: PostgresServer, name: str) -> None:
    url = postgres.tcp_url(name).replace("canary", "wrong-canary")
    async with process(url, connected=False) as one:
        trouble = await one.until_trouble()
    assert 'password authentication failed for user "postgres"' in trouble
    assert "canary" not in trouble


async def test_an_address_where_nobody_listens_is_told_without_the_password(postgres: PostgresServer) -> None:
    async with process(postgres.tcp_url(port=1), connected=False) as one:
        trouble = await one.until_trouble()
    assert "PostgreSQL cannot be reached" in trouble
    assert "canary" not in trouble
