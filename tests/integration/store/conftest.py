"""An SQLite file, and a writer that can be held back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.store import Store
from infra.store.sqlite.database import SqliteDatabase
from tests.contract.store.samples import BOT, store_over


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telegate.db"


@pytest.fixture
def poem(path: Path) -> Path:
    """A file that is no database."""
    path.write_text("Whose woods these are I think I know.\n" * 100)
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(path, lock_wait=0, patience=0.3)
    yield database
    await database.close()


@pytest.fixture
async def store(database: SqliteDatabase) -> Store:
    return await store_over(database, BOT)
