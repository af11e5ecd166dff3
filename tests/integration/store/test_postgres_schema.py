"""A PostgreSQL database that is not migrated, too new, down or encrypted when the store is opened."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # it brings no types
import pytest

from core.model.errors import StorageUnavailable
from infra.config.postgres_address import PostgresAddress
from infra.server.tls import self_signed_pair
from infra.store import SchemaTooNew, StoreRefused, open_postgres
from infra.store.migrations import NEWEST, SchemaState
from infra.store.postgres.errors import NOT_MIGRATED, translate, with_cause
from infra.store.postgres.schema import migrate, schema_state
from tests import postgres
from tests.contract.store.samples import BOT, a_question, add
from tests.integration.store.postgres_cable import cable

ALL = tuple(range(1, NEWEST + 1))


@pytest.fixture
def server() -> Iterator[postgres.PostgresServer]:
    """This process's server, which runs again afterwards."""
    own = postgres.server()
    yield own
    own.start()


@pytest.fixture
def address() -> PostgresAddress:
    return PostgresAddress.parse(postgres.fresh_database())


async def pretend(address: PostgresAddress, version: int, compatible_from: int) -> None:
    """Let another version of Telegate have migrated the database."""
    connection = await asyncpg.connect(address.url.reveal())
    insert = "INSERT INTO schema_version (version, applied_at, compatible_from) VALUES ($1, 0, $2)"
    await connection.execute(insert, version, compatible_from)
    await connection.close()


async def test_migrating_says_what_it_did_and_a_second_time_does_nothing(address: PostgresAddress) -> None:
    assert await schema_state(address) == SchemaState(0)
    assert await migrate(address) == ALL
    assert await migrate(address) == ()
    assert await schema_state(address) == SchemaState(NEWEST)


async def test_of_several_migrators_one_does_the_work(address: PostgresAddress) -> None:
    done = await asyncio.gather(*(migrate(address) for _ in range(4)))
    assert sorted(done) == [(), (), (), ALL]


async def test_a_migration_that_fails_changes_nothing(address: PostgresAddress) -> None:
    connection = await asyncpg.connect(address.url.reveal())
    await connection.execute("CREATE TABLE quarantine (x BIGINT)")
    await connection.close()
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate(address)
    assert await schema_state(address) == SchemaState(0)


async def test_a_schema_that_is_too_new_is_neither_served_nor_migrated(address: PostgresAddress) -> None:
    await migrate(address)
    await pretend(address, NEWEST + 1, NEWEST + 1)
    with pytest.raises(SchemaTooNew, match="Start the newer version again"):
        await migrate(address)
    with pytest.raises(SchemaTooNew, match=f"knows schemas up to {NEWEST}"):
        async with open_postgres(address, BOT):
            pass


async def test_a_newer_schema_that_this_version_can_live_with_is_served(address: PostgresAddress) -> None:
    await migrate(address)
    await pretend(address, NEWEST + 1, NEWEST)
    assert await migrate(address) == ()
    async with open_postgres(address, BOT) as store:
        await store.check()
        await add(store, a_question())


async def test_a_server_at_work_goes_on_when_a_newer_version_migrates(address: PostgresAddress) -> None:
    await migrate(address)
    async with open_postgres(address, BOT) as store:
        await pretend(address, NEWEST + 1, NEWEST + 1)
        await store.check()
        await add(store, a_question())


async def test_a_database_that_is_not_migrated_is_served_as_soon_as_it_is(address: PostgresAddress) -> None:
    async with open_postgres(address, BOT) as store:
        for attempt in (store.check(), add(store, a_question()), store.find("tsk_1")):
            with pytest.raises(StorageUnavailable) as caught:
                await attempt
            assert (caught.value.detail, caught.value.retry_after) == (NOT_MIGRATED, 3)
        await migrate(address)
        await store.check()
        assert (await add(store, question := a_question())).id == question.id
        assert len(store.button_keys()) == 1


async def test_tables_that_are_too_old_are_not_served(address: PostgresAddress) -> None:
    await migrate(address)
    connection = await asyncpg.connect(address.url.reveal())
    await connection.execute("UPDATE schema_version SET version = version - $1", NEWEST)
    await connection.close()
    async with open_postgres(address, BOT) as store:
        with pytest.raises(StorageUnavailable, match="Run telegate migrate"):
            await store.check()


async def test_a_backup_of_older_tables_put_back_under_a_server_is_told_of(address: PostgresAddress) -> None:
    await migrate(address)
    async with open_postgres(address, BOT) as store:
        connection = await asyncpg.connect(address.url.reveal())
        await connection.execute("UPDATE schema_version SET version = version - $1", NEWEST)
        await connection.close()
        with pytest.raises(StorageUnavailable, match="Run telegate migrate"):
            await store.check()


async def test_tables_that_vanish_are_told_of(address: PostgresAddress) -> None:
    await migrate(address)
    async with open_postgres(address, BOT) as store:
        connection = await asyncpg.connect(address.url.reveal())
        await connection.execute("DROP TABLE telegate_tasks, schema_version CASCADE")
        await connection.close()
        for attempt in (store.check(), store.find("tsk_1")):
            with pytest.raises(StorageUnavailable, match="Run telegate migrate"):
                await attempt


async def test_a_database_that_is_down_at_the_start_is_found_when_it_comes(
    address: PostgresAddress, server: postgres.PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await migrate(address)
    server.stop()
    async with open_postgres(address, BOT) as store:
        assert "The server starts without its database." in caplog.text
        keys = store.button_keys()
        with pytest.raises(StorageUnavailable, match="not reached so far"):
            _ = keys[-1]
        with pytest.raises(StorageUnavailable, match="not reached so far"):
            list(keys)
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match="cannot be reached") as caught:
                await store.check()
        assert caught.value.detail.endswith("The log tells more.")
        assert "try again" not in caught.value.detail
        server.start()
        await store.check()
        assert tuple(keys) == tuple(store.button_keys())
        assert len(keys) == 1
        assert keys[0:1] == (keys[-1],)
    assert f"The database {address.place} answers again." in caplog.text
    downs = [record for record in caplog.records if vars(record).get("action") == "database_down"]
    assert [record.levelname for record in downs] == ["ERROR"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            asyncpg.InvalidPasswordError("for user canary"),
            "The user or the password in DATABASE_URL is wrong.",
        ),
        (asyncpg.InvalidCatalogNameError("canary"), "It has no database of the name in DATABASE_URL."),
        (asyncpg.CannotConnectNowError("canary"), "It is starting or stopping."),
        (socket.gaierror(-2, "canary"), "The host's name in DATABASE_URL cannot be resolved."),
        (ConnectionRefusedError(111, "canary"), "nothing listens at the address in DATABASE_URL."),
        (TimeoutError(), "TimeoutError."),
    ],
)
def test_why_the_database_is_away_is_told_without_its_address_or_names(error: Exception, why: str) -> None:
    translated = translate(error)
    assert isinstance(translated, StorageUnavailable)
    told = with_cause(translated).detail
    assert told.endswith(f"{why} The log tells more.")
    assert "canary" not in told
    assert "Nothing was done" not in told


async def test_migrating_a_database_that_is_down_is_refused_in_words(
    address: PostgresAddress, server: postgres.PostgresServer
) -> None:
    there = PostgresAddress.parse(server.tcp_url("telegate"))
    server.stop()
    for attempt in (migrate(there), schema_state(there)):
        with pytest.raises(StoreRefused, match="Check that it runs, that DATABASE_URL is right") as caught:
            await attempt
        assert f"telegate on 127.0.0.1:{server.port}" in caught.value.detail
        assert postgres.PASSWORD not in caught.value.detail


async def test_tls_is_used_as_the_address_asks_for(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    for path, text in zip((certificate, key), self_signed_pair("127.0.0.1"), strict=True):
        path.write_bytes(text)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    name = postgres.server().fresh_name()
    async with cable(tls) as encrypted, cable() as plain:
        encrypted_url, plain_url = (
            postgres.server().tcp_url(name, port=line.port) for line in (encrypted, plain)
        )
        for asked in ("", "?sslmode=require", f"?sslmode=verify-full&sslrootcert={certificate}"):
            assert await schema_state(PostgresAddress.parse(encrypted_url + asked)) == SchemaState(0)
        assert await schema_state(PostgresAddress.parse(plain_url)) == SchemaState(0)
        for url in (
            plain_url + "?sslmode=require",
            encrypted_url + "?sslmode=verify-full&sslrootcert=system",
        ):
            with pytest.raises(StoreRefused, match=r"rejected SSL upgrade|CERTIFICATE_VERIFY_FAILED"):
                await schema_state(PostgresAddress.parse(url))
