"""Faults: each is done when its time has come, and ended; what really happened is written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.sandbox import Fault as SandboxFault
from infra.sandbox import FaultKind
from tests.nemesis.databases import DatabaseUnderTest
from tests.nemesis.facts import Fault
from tests.nemesis.plan import OF_DATABASE, OF_SERVERS, Plan, PlannedFault, Torment
from tests.nemesis.servers import VictimServer
from tests.nemesis.truth import Telegram, nap

_KINDS = {
    Torment.FLOOD: FaultKind.TOO_MANY_REQUESTS,
    Torment.ERROR: FaultKind.ERROR,
    Torment.RESET: FaultKind.RESET,
    Torment.HANG: FaultKind.HANG,
    Torment.NONSENSE: FaultKind.NONSENSE,
    Torment.DUPLICATE_UPDATES: FaultKind.DUPLICATE_UPDATE,
    Torment.REORDERED_UPDATES: FaultKind.REORDER_UPDATES,
}

BREATH = 0.7
"""Seconds in which a server is left alone after a torment, so that it gets to work in between."""

UNUSED_AFTER = 5.0
"""Seconds after which a fault that met nothing is taken away again."""


@dataclass(slots=True, eq=False)
class Nemesis:
    """Does what the plan says: one thing after another to each server and to the database, the rest at once.

    Attributes:
        done: what really happened.
    """

    plan: Plan
    servers: Sequence[VictimServer]
    database: DatabaseUnderTest
    telegram: Telegram
    done: list[Fault] = field(default_factory=list)
    _database_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _outage_turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rage(self, begun: float) -> None:
        """Do everything, at its time after `begun` (Unix time); returns when all of it is over."""
        await asyncio.gather(*(self._strike(fault, begun) for fault in self.plan.faults))

    async def _strike(self, planned: PlannedFault, begun: float) -> None:
        await nap(begun + planned.at - time.time())
        if planned.torment in OF_SERVERS:
            await self._torment_server(planned)
        elif planned.torment in OF_DATABASE:
            async with self._database_turn:
                await self._write_down(planned, self.database.befall(planned.torment, planned.seconds))
        elif planned.torment is Torment.DOWN:
            async with self._outage_turn:
                await self._write_down(planned, self._outage(planned.seconds))
        else:
            await self._write_down(planned, self._fail(planned))

    async def _torment_server(self, planned: PlannedFault) -> None:
        victim = self.servers[planned.server % len(self.servers)]
        async with victim.turn:
            match planned.torment:
                case Torment.KILL:
                    work = victim.kill()
                case Torment.KILL_WORKER:
                    work = victim.kill_worker()
                case Torment.TERMINATE:
                    work = victim.restart()
                case _:
                    work = victim.freeze(planned.seconds)
            await self._write_down(planned, work, victim.number)
            await asyncio.sleep(BREATH)

    async def _write_down(
        self, planned: PlannedFault, work: Coroutine[Any, Any, None], server: int | None = None
    ) -> None:
        begun = time.time()
        await work
        self.done.append(Fault(planned.torment, begun, time.time(), server))

    async def _outage(self, seconds: float) -> None:
        async with self.telegram.sandbox.down():
            await asyncio.sleep(seconds)

    async def _fail(self, planned: PlannedFault) -> None:
        fault = SandboxFault(
            _KINDS[planned.torment],
            method=planned.method,
            chat=planned.chat,
            times=planned.times,
            effect=planned.effect,
            status=planned.status,
            retry_after=int(planned.seconds),
        )
        self.telegram.add(fault)
        await asyncio.sleep(planned.seconds if planned.torment is Torment.HANG else UNUSED_AFTER)
        fault.lift()
