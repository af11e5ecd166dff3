"""The stores that keep the same promises; a new one is added to `BACKENDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from infra.config.postgres_address import PostgresAddress
from infra.store import Store, open_postgres, open_sqlite
from infra.store.postgres.schema import migrate
from tests import postgres
from tests.contract.store.samples import BOT, StoppedClock
from tests.fakes.store import MemoryStore


class OpenStore(Protocol):
    """Opens the store of one database; a second time, it is the same database."""

    def __call__(self) -> AbstractAsyncContextManager[Store]: ...


def _sqlite(folder: Path) -> OpenStore:
    return partial(open_sqlite, folder / "telegate.db", BOT, lock_wait=0, clock=StoppedClock())


def _postgres(folder: Path) -> OpenStore:
    del folder
    address = PostgresAddress.parse(postgres.fresh_database())

    @asynccontextmanager
    async def open_migrated() -> AsyncIterator[Store]:
        await migrate(address)
        async with open_postgres(address, BOT, clock=StoppedClock()) as store:
            yield store

    return open_migrated


def _memory(folder: Path) -> OpenStore:
    del folder
    store = MemoryStore(StoppedClock(), BOT)

    @asynccontextmanager
    async def open_again() -> AsyncIterator[Store]:
        yield store

    return open_again


BACKENDS: dict[str, Callable[[Path], OpenStore]] = {
    "memory": _memory,
    "postgres": _postgres,
    "sqlite": _sqlite,
}


@pytest.fixture(params=sorted(BACKENDS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    async with open_store() as store:
        yield store
