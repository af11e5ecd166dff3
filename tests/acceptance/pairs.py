"""Several servers on one PostgreSQL, and what tests do with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from infra.config.postgres_address import PostgresAddress
from infra.sandbox import Sandbox
from infra.store.postgres.schema import migrate
from tests import postgres
from tests.acceptance.gateway import BOT_TOKEN, Gate, Server, Service, server_settings
from tests.acceptance.policies import POLICY


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers with one database and one Telegram, which knows the address of the second one only.

    Attributes:
        here: the server that tests ask.
        there: the server that Telegram posts to.
    """

    here: Gate
    there: Gate

    def at(self, number: int) -> Gate:
        """Now this one, now that one."""
        return (self.here, self.there)[number % 2]

    async def end_test(self) -> None:
        """See `Gate.end_test`."""
        for gate in (self.here, self.there):
            await gate.end_test()

    async def until_waiting(self, count: int) -> None:
        """Wait until so many requests wait, at both together."""
        async with asyncio.timeout(10):
            while await self.here.waiters() + await self.there.waiters() != count:  # noqa: ASYNC110 - other processes cannot set an Event here
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def servers(
    folder: Path, count: int, database: str, **settings: str
) -> AsyncIterator[tuple[Gate, ...]]:
    """So many servers on this database; Telegram posts to the last one."""
    async with (
        Sandbox.start(token=BOT_TOKEN, time_scale=0.05) as sandbox,
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=40), connector=aiohttp.TCPConnector(limit=0)
        ) as session,
    ):
        own = {"DATABASE_URL": database, "LOG_FORMAT": "json", **settings}
        gates = [
            Gate(_server(folder / str(number), sandbox, own), sandbox, session) for number in range(count)
        ]
        try:
            await gates[-1].set_webhook()
            for gate in gates:
                await gate.server.start()
                await until_hints(gate, lambda said: said == "ok")
            yield tuple(gates)
        finally:
            for gate in gates:
                await gate.server.stop()
        for gate in gates:
            gate.server.check_log()


async def until_hints(gate: Gate, enough: Callable[[str], bool], within: float = 10) -> str:
    """Wait until this is true of what `/readyz` says about hints; returns that."""
    async with asyncio.timeout(within):
        while not enough(said := (await gate.request("GET", "/readyz")).document["checks"]["hints"]):  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.02)
    return str(said)


def _server(folder: Path, sandbox: Sandbox, settings: dict[str, str]) -> Server:
    folder.mkdir()
    (folder / "permissions.yaml").write_text(POLICY)
    return Server(folder, server_settings(folder, sandbox.api_url, settings))


async def migrated_database() -> str:
    """The URL of a new database with its tables."""
    url = postgres.fresh_database()
    await migrate(PostgresAddress.parse(url))
    return url


def same_service(pair: Pair) -> tuple[Service, Service]:
    """One service, once at each server."""
    here = pair.here.service()
    return here, Service(pair.there, here.name, pair.there.token(here.name, "everything"))


def told(gate: Gate, action: str) -> set[str]:
    """The tasks that a server's log names under this action."""
    records = (json.loads(line) for line in gate.server.log.splitlines() if f'"{action}"' in line)
    return {task_id for record in records if record.get("action") == action for task_id in record["tasks"]}
