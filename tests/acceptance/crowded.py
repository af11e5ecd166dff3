"""Gateways for tests of crowds: one that counts what it asks the database, one where few tasks may wait."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from handlers.keys import Services
from infra import app
from infra.server.runner import GatewayRunner
from infra.store.sql.transactions import Transaction

T = TypeVar("T")

log = logging.getLogger("telegate.counting")

TELL = signal.SIGRTMIN
"""What makes it write down its counts."""

OF_ONE_SERVICE = 5
IN_ALL = 8


class CountingGateway(app.Gateway):
    """A gateway that counts its transactions, and the looks at what its requests wait for."""

    def services(self) -> Services:
        """See `infra.app.Gateway.services`."""
        counts: Counter[str] = Counter()
        self._count_transactions(counts)
        look = self.store.final_among

        async def counted_look(task_ids: Collection[str]) -> Sequence[str]:
            counts["looks"] += 1
            counts["looked_at"] = len(task_ids)
            return await look(task_ids)

        self.store.final_among = counted_look  # type: ignore[method-assign]  # counted on its way
        asyncio.get_running_loop().add_signal_handler(TELL, _tell, counts)
        return super().services()

    def _count_transactions(self, counts: Counter[str]) -> None:
        database = self.store.database
        read, write = database.read, database.write

        async def counted_read(transaction: Callable[[], Transaction[T]]) -> T:
            counts["transactions"] += 1
            return await read(transaction)

        async def counted_write(transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
            counts["transactions"] += 1
            return await write(transaction, reserved=reserved)

        database.read, database.write = counted_read, counted_write  # type: ignore[method-assign]  # the same


class CrampedGateway(app.Gateway):
    """A gateway in whose database only a few tasks may wait."""

    def services(self) -> Services:
        """See `infra.app.Gateway.services`."""
        self.sender.backlog.of_one_service, self.sender.backlog.in_all = OF_ONE_SERVICE, IN_ALL
        return super().services()


def _tell(counts: Counter[str]) -> None:
    log.info("This was counted.", extra={"action": "counted", **counts})


async def counting() -> GatewayRunner:
    """See `infra.app.create_app`."""
    return await app.create_app(CountingGateway)


async def cramped() -> GatewayRunner:
    """See `infra.app.create_app`."""
    return await app.create_app(CrampedGateway)
