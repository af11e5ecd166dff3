"""Databases: where the servers keep their rows, what can befall them, and what stands in them in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from core.policy.policy import GATEWAY_SERVICE
from tests.nemesis.facts import Reply, Row, Step
from tests.nemesis.plan import Torment
from tests.postgres import PASSWORD, PostgresServer

T = TypeVar("T")

UNFINISHED = """
SELECT id FROM telegate_tasks WHERE state IN ('queued', 'sending', 'asked')
  OR EXISTS (SELECT 1 FROM telegate_jobs WHERE subject = telegate_tasks.id AND kind = 'finalize')
"""
_TASKS = """
SELECT id, kind, state, service, chat, of_task, created_at, expires_at, message_ids, metadata, content,
  progress, NOT EXISTS (SELECT 1 FROM telegate_jobs WHERE subject = telegate_tasks.id AND kind = 'finalize')
FROM telegate_tasks ORDER BY id
"""
_HISTORY = "SELECT task, seq, at, what, person, update_id FROM telegate_history ORDER BY task, seq"

_BUSY = 10.0
"""Seconds that a reader waits for its turn."""


class DatabaseUnderTest(Protocol):
    """A database, seen from behind everybody's back."""

    url: str
    secrets: Sequence[str]

    async def select(self, query: str) -> list[list[Any]]:
        """What a query finds."""

    async def befall(self, torment: Torment, seconds: float) -> None:
        """Let something happen to it; returns when that is over."""

    async def remove(self) -> None:
        """Throw it away."""


class SqliteDatabase:
    """A file."""

    secrets: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self._path = folder / "telegate.db"
        self.url = f"sqlite:///{self._path}"

    async def select(self, query: str) -> list[list[Any]]:
        """What a query finds."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY)) as connection:
            return [list(row) for row in connection.execute(query)]

    async def befall(self, torment: Torment, seconds: float) -> None:
        """Somebody, a backup for example, keeps it locked for so long."""
        assert torment is Torment.DATABASE_LOCK, torment
        with contextlib.closing(await asyncio.to_thread(self._locked)) as connection:
            await asyncio.sleep(seconds)
            connection.rollback()

    async def remove(self) -> None:
        """Nothing is left to do: the folder goes as a whole."""

    def _locked(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection


class PostgresDatabase:
    """A server of its own. One thread does everything to it, since it ends with the thread that starts it."""

    secrets: Sequence[str] = (PASSWORD,)

    def __init__(self, server: PostgresServer, name: str, thread: ThreadPoolExecutor) -> None:
        self._server = server
        self._name = name
        self._thread = thread
        self.url = server.tcp_url(name)

    @classmethod
    async def started(cls) -> PostgresDatabase:
        """A new server with an empty database."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nemesis-postgresql")

        def start() -> tuple[PostgresServer, str]:
            server = PostgresServer()
            server.start()
            return server, server.fresh_name()

        server, name = await asyncio.get_running_loop().run_in_executor(thread, start)
        return cls(server, name, thread)

    async def select(self, query: str) -> list[list[Any]]:
        """What a query finds."""
        rows = f"SELECT coalesce(json_agg(found), '[]') FROM ({query}) AS found"  # noqa: S608 - our own queries
        found = json.loads(await self._do(lambda: self._server.sql(rows, self._name)))
        return [list(row.values()) for row in found]

    async def befall(self, torment: Torment, seconds: float) -> None:
        """Let something happen to it; returns when that is over."""
        match torment:
            case Torment.CONNECTIONS_KILLED:
                await self._do(lambda: self._server.kill_connections(self._name))
            case Torment.DATABASE_PAUSE:
                await self._do(self._server.pause)
                await asyncio.sleep(seconds)
                await self._do(self._server.resume)
            case _:
                crashes = torment is Torment.DATABASE_CRASH
                await self._do(lambda: self._server.stop("immediate" if crashes else "fast"))
                await asyncio.sleep(seconds)
                await self._do(self._server.start)

    async def remove(self) -> None:
        """Stop the server, and delete its files."""
        await self._do(self._server.remove)
        self._thread.shutdown()

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


async def rows_of(database: DatabaseUnderTest, corrections: Mapping[tuple[str, str], str]) -> tuple[Row, ...]:
    """All tasks.

    Args:
        database: which one.
        corrections: the markers of edits and deletions, by their kind and the id of what they are about.
    """
    return tuple(_row(found, corrections) for found in await database.select(_TASKS))


async def steps_of(database: DatabaseUnderTest) -> tuple[Step, ...]:
    """The history of all tasks."""
    found = await database.select(_HISTORY)
    return tuple(
        Step(task, seq, at / 1000, what, person, update) for task, seq, at, what, person, update in found
    )


def _row(found: Sequence[Any], corrections: Mapping[tuple[str, str], str]) -> Row:
    id_, kind, state, service, chat, of, created, expires, ids, metadata, content, progress, closed = found
    known = json.loads(progress)
    decision = known.get("decision")
    marker = None if service == GATEWAY_SERVICE else json.loads(metadata).get("marker")
    return Row(
        id=id_,
        kind=kind,
        state=state,
        chat=int(chat),
        created_at=created / 1000,
        expires_at=expires / 1000,
        marker=marker or corrections.get((kind, of or "")),
        of=of,
        message_ids=tuple(map(int, ids.split())),
        reply=decision and reply_of(decision),
        answers=len(known.get("answers") or ()),
        reply_to=json.loads(content).get("reply_to"),
        closed=bool(closed),
    )


def reply_of(answer: dict[str, Any]) -> Reply:
    """An answer as a row or a response tells it."""
    by = answer.get("by")
    return Reply(answer.get("choice"), answer.get("text"), by["id"] if by else None)
