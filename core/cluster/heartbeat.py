"""The heartbeat: every process says again and again that it can take updates, in one row that all share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from core.cluster.leader import CLOCK_PUT_BACK, Leadership, leader_after
from core.cluster.outage import Outages, outage_between
from core.incident import Incident
from core.model.cluster import Entry, Finding, Outage, Presence
from core.model.errors import StorageUnavailable
from core.model.retry import RetryPolicy
from core.model.update import Update
from core.ports import Clock, HeartbeatStore

log = logging.getLogger("telegate.cluster")

INTERVAL: Final = 20.0
"""Seconds between two heartbeats of a process."""

RETRY: Final = RetryPolicy(first=3.0, longest=3.0)
"""When a heartbeat that the database did not take is repeated."""

LAST_BEAT: Final = 1.0
"""Seconds that a process which ends waits for the database."""

FRESH: Final = timedelta(seconds=15)
"""A younger `served_at` stands as it is: with many processes, not every heartbeat has to be written."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat, and what it makes of the row. Its methods are pure.

    Attributes:
        at: the time.
        holder: the process.
        received_at: when that last received an update; None when it never did.
        finding: what it has found out for all; counts only when it leads.
    """

    at: datetime
    holder: str
    received_at: datetime | None = None
    finding: Finding | None = None

    def update(self, before: Presence | None) -> tuple[Presence, Outage | None]:
        """The row after this heartbeat, and the outage that it ends, if it ends one.

        Whoever is the first to come back leads, since no leader's lease lasts as long as an outage.
        """
        before = before or Presence(self.at)
        gap = self.at - before.served_at
        served_at = self.at if gap >= FRESH or gap < -CLOCK_PUT_BACK else before.served_at
        leader = leader_after(before.leader, self.holder, self.at)
        finding = self.finding if leader.holder == self.holder else None
        received_at = _latest(before.received_at, self.received_at)
        after = Presence(served_at, received_at, leader, finding or before.finding)
        return after, outage_between(before.served_at, self.at)

    def leave(self, before: Presence | None) -> tuple[Presence, Outage | None]:
        """The row after the last heartbeat of a process: another one may lead at once."""
        after, outage = self.update(before)
        leads = after.leader is not None and after.leader.holder == self.holder
        served_at = max(after.served_at, self.at)
        return replace(after, served_at=served_at, leader=None if leads else after.leader), outage


@dataclass(slots=True, kw_only=True)
class Heartbeat:
    """Says that this process can take updates, and learns what the other processes say.

    Attributes:
        leadership: is told who leads.
        outages: is told of an outage that a heartbeat has ended.
        is_serving: whether updates are taken; False once the process is shutting down.
    """

    store: HeartbeatStore
    clock: Clock
    leadership: Leadership
    outages: Outages
    is_serving: bool = True
    _received_at: datetime | None = None
    _finding: Finding | None = None
    _presence: Presence | None = None
    _early: asyncio.Event = field(default_factory=asyncio.Event)
    _incident: Incident = field(default_factory=lambda: Incident(log))

    @property
    def received_at(self) -> datetime | None:
        """When Telegram last brought an update, to whichever process."""
        return _latest(self._received_at, None if self._presence is None else self._presence.received_at)

    @property
    def finding(self) -> Finding | None:
        """What the leader has found out for all; None before it has."""
        if self.leadership.is_leader:
            return self._finding
        return None if self._presence is None else self._presence.finding

    def report(self, finding: Finding) -> None:
        """This process, which leads, has found something out: the others are told at once if it is new."""
        if finding != self._finding:
            self._finding = finding
            self._early.set()

    def observed(self, parse: Callable[[bytes], Update]) -> Callable[[bytes], Update]:
        """The same parser of updates, but it is noted when one comes."""

        def parse_observed(raw: bytes) -> Update:
            self._received_at = self.clock.now()
            return parse(raw)

        return parse_observed

    async def run(self) -> None:
        """Send heartbeats for as long as the process lives."""
        failures = 0
        while True:
            self._early.clear()
            failures = 0 if not self.is_serving or await self.beat() else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY.delay(failures) if failures else INTERVAL):
                    await self._early.wait()

    async def beat(self) -> bool:
        """Send one heartbeat; returns whether the database took it."""
        return await self._send(self._beat().update)

    async def leave(self) -> None:
        """Send the last heartbeat: this process takes no more updates, and another one may lead.

        A database that is slow to answer does not keep the process from ending.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_BEAT):
                await self._send(self._beat().leave)

    def _beat(self) -> Beat:
        finding = self._finding if self.leadership.is_leader else None
        return Beat(self.clock.now(), self.leadership.holder, self._received_at, finding)

    async def _send(self, entry: Entry) -> bool:
        try:
            self._presence, outage = await self.store.beat(entry)
        except StorageUnavailable as error:
            self._incident.begin(
                "The database could not be told that this process takes updates: %s",
                error.detail,
                action="attend_failed",
            )
            return False
        self._incident.end(
            "The database is told again that this process takes updates.", action="attend_well"
        )
        self.leadership.learn(self._presence.leader)
        if outage is not None:
            self.outages.ended(outage)
        return True


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)
