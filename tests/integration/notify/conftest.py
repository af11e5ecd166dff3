"""A new database for each test, and the channel as an outsider sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from infra.notify.postgres import CHANNEL
from tests.integration.notify.processes import connection
from tests.postgres import PostgresServer, server


class Overhear(Protocol):
    """Collects the payloads that are sent in a database."""

    def __call__(self, url: str) -> AbstractAsyncContextManager[list[str]]: ...


@pytest.fixture
def postgres() -> PostgresServer:
    return server()


@pytest.fixture
def name(postgres: PostgresServer) -> str:
    """Of a new database."""
    return postgres.fresh_name()


@pytest.fixture
def url(postgres: PostgresServer, name: str) -> str:
    """Of a new database, by the UNIX socket."""
    return postgres.url(name)


@pytest.fixture
def overhear() -> Overhear:
    @asynccontextmanager
    async def listen(url: str) -> AsyncIterator[list[str]]:
        payloads: list[str] = []
        async with connection(url) as outsider:
            await outsider.add_listener(CHANNEL, lambda *notification: payloads.append(notification[-1]))
            yield payloads
            # What was sent before this answer has been handed over before it.
            await outsider.execute("SELECT 1")
            await asyncio.sleep(0)

    return listen
