"""Gateways for tests of crowds: one that counts what it asks the database, one where few tasks may wait."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from core.model.job import TELEGRAM
from core.model.task import Progress
from handlers.keys import Services
from infra import app
from infra.server.runner import GatewayRunner
from infra.store import Store
from infra.store.sql.transactions import Transaction

T = TypeVar("T")

log = logging.getLogger("telegate.counting")

TELL = signal.SIGRTMIN
"""What makes it write down its counts."""

OF_ONE_SERVICE = 5
IN_ALL = 8


async def counting() -> GatewayRunner:
    """A gateway that counts its transactions, and the looks at what its requests wait for."""
    return await app.create_app(app.Substitutes(services=_counted))


async def cramped() -> GatewayRunner:
    """A gateway in whose database only a few tasks may wait."""
    return await app.create_app(app.Substitutes(services=_cramped))


def _counted(services: Services) -> Services:
    counts: Counter[str] = Counter()
    store = services.tasks.store
    assert isinstance(store, Store)
    look, database = store.progress, store.database
    read, write = database.read, database.write

    async def counted_look(task_ids: Collection[str]) -> Mapping[str, Progress]:
        counts["looks"] += 1
        counts["looked_at"] = len(task_ids)
        return await look(task_ids)

    async def counted_read(transaction: Callable[[], Transaction[T]]) -> T:
        counts["transactions"] += 1
        return await read(transaction)

    async def counted_write(transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        counts["transactions"] += 1
        return await write(transaction, reserved=reserved)

    store.progress = counted_look  # type: ignore[method-assign]  # counted on its way
    database.read, database.write = counted_read, counted_write  # type: ignore[method-assign]  # the same
    asyncio.get_running_loop().add_signal_handler(TELL, _tell, counts)
    return services


def _cramped(services: Services) -> Services:
    backlog = services.tasks.runner.limits[TELEGRAM].backlog
    backlog.of_one_service, backlog.in_all = OF_ONE_SERVICE, IN_ALL
    return services


def _tell(counts: Counter[str]) -> None:
    log.info("This was counted.", extra={"action": "counted", **counts})
