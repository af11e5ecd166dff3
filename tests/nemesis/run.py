"""One run: everything is started, tortured, left to recover, stopped; its facts are what remains."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp

from tests.acceptance.gateway import (
    BOT_TOKEN,
    JWT_SECRET,
    derived_webhook_secret,
    server_settings,
)
from tests.acceptance.policies import POLICY
from tests.nemesis.clients import Clients
from tests.nemesis.databases import (
    UNFINISHED,
    DatabaseUnderTest,
    PostgresDatabase,
    SqliteDatabase,
    rows_of,
    steps_of,
)
from tests.nemesis.door import Door
from tests.nemesis.facts import Facts, Mention
from tests.nemesis.faults import Nemesis
from tests.nemesis.people import People
from tests.nemesis.plan import PEOPLE, Database, Plan, marker
from tests.nemesis.servers import VictimServer
from tests.nemesis.truth import Telegram, nap
from tests.ports import reserved_port

RECOVERY_LIMIT = 90.0
"""Seconds after the last fault in which everything must be over: two leases, and some."""

LONGEST_OVERTIME = 600.0
"""Seconds beyond twice the plan's span after which a run is broken off."""

_NEVER_LOGGED = ("Traceback (most recent call last)", "was never awaited", "Task was destroyed", "Unclosed ")
_BEFORE, _AFTER = 600, 1800


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a run takes place: all that was started for it."""

    plan: Plan
    database: DatabaseUnderTest
    telegram: Telegram
    servers: Sequence[VictimServer]
    clients: Clients
    people: People
    nemesis: Nemesis


async def run(plan: Plan, folder: Path, application: str = "infra.app:create_app") -> Facts:
    """Carry out a plan.

    Args:
        plan: what is to be done.
        folder: for the database, the policy and the logs.
        application: what gunicorn loads.

    Raises:
        TimeoutError: it did not come to an end by itself.
    """
    async with asyncio.timeout(2 * plan.span + LONGEST_OVERTIME), _staged(plan, folder, application) as stage:
        began = time.time()
        stage.people.watch()
        await asyncio.gather(stage.clients.run(began), _torture(stage, began))
        await stage.people.done()
        await _recovered(stage)
        return await _facts(stage, began)


@contextlib.asynccontextmanager
async def _staged(plan: Plan, folder: Path, application: str) -> AsyncIterator[Stage]:
    (folder / "permissions.yaml").write_text(POLICY)
    door = reserved_port()
    async with contextlib.AsyncExitStack() as stack:
        database = await _database(plan.database, folder)
        stack.push_async_callback(database.remove)
        telegram = await stack.enter_async_context(Telegram.started(plan))
        settings = {"DATABASE_URL": database.url, "PUBLIC_URL": f"http://127.0.0.1:{door}"}
        servers = [
            VictimServer(
                number, folder, server_settings(folder, telegram.sandbox.api_url, settings), application
            )
            for number in range(plan.servers)
        ]
        for server in servers:
            server.may_refuse = plan.database is Database.POSTGRESQL
            stack.callback(server.destroy)
        await stack.enter_async_context(Door([int(each.settings["PORT"]) for each in servers]).opened(door))
        await telegram.point_webhook_at(settings["PUBLIC_URL"])
        await servers[0].migrate()
        await asyncio.gather(*(server.start() for server in servers))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        yield Stage(
            plan=plan,
            database=database,
            telegram=telegram,
            servers=servers,
            clients=Clients(plan, servers, session),
            people=People(telegram, plan),
            nemesis=Nemesis(plan, servers, database, telegram),
        )


async def _database(kind: Database, folder: Path) -> DatabaseUnderTest:
    return SqliteDatabase(folder) if kind is Database.SQLITE else await PostgresDatabase.started()


async def _torture(stage: Stage, began: float) -> None:
    await asyncio.gather(stage.nemesis.rage(began), stage.people.command(began))
    stage.telegram.sandbox.faults.lift()
    stage.clients.calm_since = time.time()
    # An update that is held back to come late needs one after it.
    await stage.people.say_whoami(PEOPLE[0])


async def _recovered(stage: Stage) -> None:
    """Wait until Telegram has no update left and no task is unfinished; what remains is for the checker."""
    deadline = time.monotonic() + RECOVERY_LIMIT
    await stage.telegram.until_quiet(RECOVERY_LIMIT)
    while await stage.database.select(UNFINISHED) and time.monotonic() < deadline:
        await nap(0.25)


async def _facts(stage: Stage, began: float) -> Facts:
    ended = time.time()
    standing = stage.telegram.standing()
    await asyncio.gather(*(server.end() for server in stage.servers))
    return Facts(
        began=began,
        ended=ended,
        exchanges=tuple(stage.clients.exchanges),
        calls=stage.telegram.calls(),
        deeds=stage.telegram.deeds(),
        acts=tuple(stage.people.acts),
        posts=stage.telegram.posts(),
        rows=await rows_of(stage.database, _corrections(stage)),
        steps=await steps_of(stage.database),
        standing=standing,
        faults=tuple(stage.nemesis.done),
        uptimes=tuple(up for server in stage.servers for up in server.uptimes),
        mentions=tuple(_mentions(stage)),
        gave_up=tuple(sorted(stage.clients.gave_up)),
        mishaps=tuple(mishap for server in stage.servers for mishap in server.mishaps),
    )


def _corrections(stage: Stage) -> dict[tuple[str, str], str]:
    """The markers of edits and deletions, by their kind and the id of what they are about."""
    ids = {each.marker: each.told.id for each in stage.clients.exchanges if each.told}
    return {
        (task.kind.value, ids[marker(task.of)]): task.marker
        for task in stage.plan.tasks
        if task.of is not None and marker(task.of) in ids
    }


def _mentions(stage: Stage) -> Iterator[Mention]:
    """Everything in a log that no log may have."""
    secrets = {
        "the bot token": BOT_TOKEN.partition(":")[2],
        "JWT_SECRET": JWT_SECRET,
        "the webhook's secret": derived_webhook_secret(),
        "a token's signature": stage.clients.token.rpartition(".")[2],
    }
    for number, secret in enumerate(stage.database.secrets):
        secrets |= {
            f"the database's password {number}": secret,
            f"the same in a URL {number}": quote(secret, safe=""),
        }
    for server in stage.servers:
        text = server.log.read_text(errors="replace")
        for what, canary in (*secrets.items(), *((mark, mark) for mark in _NEVER_LOGGED)):
            at = text.find(canary)
            if at >= 0:
                excerpt = text[max(0, at - _BEFORE) : at + _AFTER] if what == canary else "…"
                yield Mention(server.log.name, what, excerpt)
