"""Hints between processes that share a PostgreSQL database."""

from __future__ import annotations

import asyncio
import time

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types

from infra.notify.postgres import CHANNEL, MAX_IDS, PostgresNotifier
from tests.integration.notify.conftest import Overhear
from tests.integration.notify.processes import BOT, LIMIT, QUICK, connection, process
from tests.postgres import PostgresServer

IDS = [f"tsk_{number:026d}" for number in range(1000)]


async def test_a_hint_arrives_in_the_other_process(url: str) -> None:
    async with process(url) as one, process(url) as other:
        one.notifier.hint(["tsk_1", "tsk_2"])
        await other.until(lambda heard: heard == ["tsk_1", "tsk_2"])
        other.notifier.hint(["tsk_3"])
        await one.until(lambda heard: "tsk_3" in heard)


async def test_in_its_own_process_a_hint_counts_at_once_and_once(url: str) -> None:
    async with process(url) as one, process(url) as other:
        one.notifier.hint(["tsk_1"])
        assert one.heard == ["tsk_1"]
        await other.until(lambda heard: heard == ["tsk_1"])
        # PostgreSQL hands notifications over in the order of commits: after this one, its own has arrived.
        other.notifier.hint(["tsk_2"])
        await one.until(lambda heard: "tsk_2" in heard)
        assert one.heard == ["tsk_1", "tsk_2"]


async def test_another_bot_in_the_same_database_hears_nothing(url: str) -> None:
    async with process(url) as one, process(url, BOT + 1) as stranger, process(url) as other:
        one.notifier.hint(["tsk_1"])
        await other.until(lambda heard: heard == ["tsk_1"])
        stranger.notifier.hint(["tsk_2"])
        one.notifier.hint(["tsk_3"])
        await other.until(lambda heard: "tsk_3" in heard)
        assert other.heard == ["tsk_1", "tsk_3"]
        assert stranger.heard == ["tsk_2"]


async def test_a_thousand_hints_at_once_are_few_notifications(url: str, overhear: Overhear) -> None:
    async with process(url) as one, process(url) as other:
        async with overhear(url) as payloads:
            for task_id in IDS:
                one.notifier.hint([task_id, task_id])
                one.notifier.hint([task_id])
            await other.until(lambda heard: len(heard) == len(IDS))
        assert other.heard == IDS
        assert len([text for text in payloads if text.startswith("hints ")]) == len(IDS) / MAX_IDS


async def test_hints_one_after_the_other_travel_together(url: str, overhear: Overhear) -> None:
    async with process(url) as one, process(url) as other:
        async with overhear(url) as payloads:
            began = time.monotonic()
            for task_id in IDS:
                one.notifier.hint([task_id])
                await asyncio.sleep(0)
            took = time.monotonic() - began
            await other.until(lambda heard: len(heard) == len(IDS))
        assert other.heard == IDS
        sent = len([text for text in payloads if text.startswith("hints ")])
        # In each sending at most one payload is not full: the first sending, the last, and those in between.
        assert sent <= len(IDS) / MAX_IDS + took / QUICK.gather + 2


async def test_whoever_says_something_else_on_the_channel_is_ignored(url: str) -> None:
    async with process(url) as one, process(url) as other:
        async with connection(url) as outsider:
            for text in ("", "hello", "hints", f"hints {BOT}", f"hints {BOT} ", "echo 42 somebody 0123"):
                await outsider.execute("SELECT pg_notify($1, $2)", CHANNEL, text)
        one.notifier.hint(["tsk_1"])
        await other.until(lambda heard: heard == ["tsk_1"])


async def test_a_hint_is_never_an_error_even_if_nobody_ever_connects() -> None:
    async def connect() -> asyncpg.Connection:
        raise AssertionError("Nobody runs this notifier.")

    notifier, heard = PostgresNotifier(connect=connect, bot=BOT), list[str]()
    notifier.subscribe(heard.extend)
    notifier.hint(["tsk_1", "tsk_2"])
    assert heard == ["tsk_1", "tsk_2"]
    assert notifier.dropped == 2


async def test_it_leaves_no_connection_behind(postgres: PostgresServer, name: str) -> None:
    async with process(postgres.url(name)):
        assert _connections(postgres, name) == 2
    async with asyncio.timeout(LIMIT):
        while _connections(postgres, name):  # noqa: ASYNC110 - PostgreSQL does not tell when a connection ends
            await asyncio.sleep(0.01)


def _connections(postgres: PostgresServer, name: str) -> int:
    return int(postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"))  # noqa: S608 - a test's own name
