"""Tables are made and changed by numbered steps, by one migrator at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from core.model.errors import StorageUnavailable
from core.model.transition import Step
from infra.store import SchemaTooNew, StoreRefused, migrations, open_sqlite
from infra.store.migrations import MIGRATIONS, NEWEST
from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Statement
from infra.store.sqlite.file import migrate, schema_state
from tests.contract.store.samples import BOT, Recorded, a_message, add, history


def test_migrations_are_numbered_without_gaps() -> None:
    assert sorted(MIGRATIONS) == list(range(1, NEWEST + 1))


def test_an_empty_place_has_schema_0_and_looking_makes_no_file(path: Path) -> None:
    state = schema_state(path)
    assert (state.found, state.current, state.too_new) == (0, False, False)
    assert not path.exists()


def test_a_file_without_tables_has_schema_0(path: Path) -> None:
    path.write_bytes(b"")
    assert schema_state(path).found == 0


def test_migrating_brings_the_file_up_to_date_once(path: Path) -> None:
    assert migrate(path) == tuple(range(1, NEWEST + 1))
    assert migrate(path) == ()
    assert schema_state(path).current


def test_migrators_at_the_same_time_do_the_work_once(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [path] * 4))
    assert sorted(applied) == [(), (), (), tuple(range(1, NEWEST + 1))]


async def test_history_from_before_stays_as_it_is_and_tells_nothing_of_what_was_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "NEWEST", 3)
    migrate(path)
    monkeypatch.undo()
    with closing(sqlite3.connect(path, isolation_level=None)) as before:
        before.execute("PRAGMA foreign_keys = OFF")
        before.execute("INSERT INTO history VALUES (?, 'tsk_1', 1, 7, 'answered', 815, 9, NULL)", (BOT,))
    async with open_sqlite(path, BOT, lock_wait=0) as store:
        assert await history(store, "tsk_1") == [Recorded(1, 7, Step.ANSWERED, 815, 9, None)]


async def test_a_schema_that_is_too_new_is_refused_with_what_to_do(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("INSERT INTO schema_version VALUES (99, 0, 7)")
    assert schema_state(path).too_new
    with pytest.raises(SchemaTooNew, match=r"has schema 99, but .* Start the newer version") as refusal:
        async with open_sqlite(path, BOT, lock_wait=0):
            pass
    assert isinstance(refusal.value, StorageUnavailable)
    assert str(path) in refusal.value.detail


@pytest.mark.parametrize("compatible_from", [NEWEST, 6])
async def test_a_newer_schema_that_this_version_can_live_with_is_served_and_left_alone(
    path: Path, compatible_from: int
) -> None:
    migrate(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        newer.execute("INSERT INTO schema_version VALUES (99, 0, ?)", (compatible_from,))
    state = schema_state(path)
    assert (state.found, state.current, state.too_new) == (99, True, False)
    assert migrate(path) == ()
    async with open_sqlite(path, BOT, lock_wait=0) as store:
        await add(store, a_message())


def test_each_step_since_the_sixth_says_which_versions_can_live_with_it(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT version, compatible_from FROM schema_version ORDER BY version")
        said = dict(rows.fetchall())
    assert said == {**dict.fromkeys(range(1, 6)), 6: 6}


def test_a_migration_that_fails_leaves_everything_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(dialect: Dialect) -> Iterator[Statement]:
        yield Statement("CREATE TABLE half (id BIGINT)")
        yield Statement("CREATE TABLE telegate_tasks (id BIGINT)")

    migrate(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", {**MIGRATIONS, NEWEST + 1: broken})
    monkeypatch.setattr(migrations, "NEWEST", NEWEST + 1)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(path)
    assert schema_state(path).found == NEWEST
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchone() is None


def test_what_is_no_database_is_told_in_words(poem: Path) -> None:
    with pytest.raises(StoreRefused, match="not a database"):
        schema_state(poem)
