"""Attending: who is here to take updates, when nobody was, and who does what one does for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from core.model.errors import StorageUnavailable
from core.model.task import Lease
from core.model.update import Update
from core.services.factory import Drafter

log = logging.getLogger("telegate.attending")

OUTAGE = timedelta(seconds=120)
"""A longer time without anybody to take updates may have cost presses: Telegram keeps one for 150 s."""

BEAT = 20.0
"""Seconds between two signs of life of a process."""

BEAT_AGAIN = 3.0
"""Seconds until the next try when the database could not be told."""

LAST_SIGN = 1.0
"""Seconds that a process which ends waits for the database."""

DUTY = timedelta(seconds=50)
"""How long a process is on duty without a sign of life: two may get lost."""

_FRESH = timedelta(seconds=15)
_CLOCK_PUT_BACK = timedelta(hours=1)
"""What lies further ahead than this was written by a clock that has been put right since."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nobody could take updates, so that button presses may have been lost."""

    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """What the process on duty found out for all: `ok`, or a sentence that says what is wrong.

    Attributes:
        telegram: about Telegram.
        webhook: about the webhook.
    """

    telegram: str
    webhook: str


@dataclass(frozen=True, slots=True)
class Presence:
    """What all processes of one bot know together; one row.

    Attributes:
        served_at: when one of them could last take updates.
        received_at: when Telegram last brought an update; None when it never did.
        duty: which of them looks after what one does for all, and until when.
        finding: what that one has found out.
    """

    served_at: datetime
    received_at: datetime | None = None
    duty: Lease | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Sign:
    """A process's sign of life.

    Attributes:
        lease: the process, and for how long it would be on duty.
        received_at: when it last received an update.
        finding: what it has found out, when it believes that it is on duty.
    """

    at: datetime
    lease: Lease
    received_at: datetime | None = None
    finding: Finding | None = None

    def entered(self, before: Presence | None) -> tuple[Presence, Outage | None]:
        """The row after this sign, and the outage that it ends, if it ends one.

        Whoever is the first to come back takes the duty, since no duty lasts as long as an outage.
        """
        if before is None:
            return Presence(self.at, self.received_at, self.lease, self.finding), None
        gap = self.at - before.served_at
        outage = Outage(before.served_at, self.at) if gap > OUTAGE else None
        # A row that says nothing new is not written: with many processes, one sign in a while is enough.
        served_at = self.at if gap >= _FRESH or gap < -_CLOCK_PUT_BACK else before.served_at
        on_duty = self._may_have(before.duty)
        finding = self.finding if on_duty and self.finding is not None else before.finding
        received_at = _latest(before.received_at, self.received_at)
        return Presence(served_at, received_at, self.lease if on_duty else before.duty, finding), outage

    def left(self, before: Presence | None) -> tuple[Presence, Outage | None]:
        """The row after this process has gone: somebody else may be on duty at once."""
        after, outage = self.entered(before)
        mine = after.duty is not None and after.duty.holder == self.lease.holder
        return replace(
            after, served_at=max(after.served_at, self.at), duty=None if mine else after.duty
        ), outage

    def _may_have(self, duty: Lease | None) -> bool:
        if duty is None or duty.holder == self.lease.holder:
            return True
        return duty.until <= self.at or duty.until - self.at > _CLOCK_PUT_BACK


Entry = Callable[[Presence | None], tuple[Presence, Outage | None]]


class PresenceStore(Protocol):
    """The row of presence. Raises `StorageUnavailable`."""

    async def attend(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """Read the row (None: there is none yet), let `entry` decide what it becomes, and store that.

        An outage that `entry` tells disarms the open questions (`RearmingStore.disarm`). All of it is one
        transaction, and nobody else changes the row meanwhile; `entry` must be pure.
        """


@dataclass(slots=True)
class Attending:
    """Says again and again that this process can take updates, and learns what the others say.

    Attributes:
        is_serving: whether updates are taken; not while the process is shutting down.
        on_outage: told when an outage has ended.
        finding: what this process has found out for all; told to the others while it is on duty.
    """

    store: PresenceStore
    drafter: Drafter
    is_serving: Callable[[], bool] = lambda: True
    on_outage: Callable[[], None] = lambda: None
    finding: Finding | None = None
    _received_at: datetime | None = None
    _presence: Presence | None = None
    _alarm: asyncio.Event = field(default_factory=asyncio.Event)
    _entered: asyncio.Event = field(default_factory=asyncio.Event)
    _failing: bool = False

    @property
    def on_duty(self) -> bool:
        """Whether this process looks after what one process does for all, as far as it knows.

        While the database is away nobody can take over, so whoever had the duty keeps it.
        """
        duty = None if self._presence is None else self._presence.duty
        return duty is not None and duty.holder == self.drafter.identity.holder

    @property
    def received_at(self) -> datetime | None:
        """When Telegram last brought an update, to whichever process."""
        told = None if self._presence is None else self._presence.received_at
        return _latest(told, self._received_at)

    @property
    def told(self) -> Finding | None:
        """What the process on duty has found out, as the row tells it."""
        return None if self._presence is None else self._presence.finding

    def noticing(self, parse: Callable[[bytes], Update]) -> Callable[[bytes], Update]:
        """The same parser of updates, but each one that comes is noticed."""

        def parse_noticed(raw: bytes) -> Update:
            self._received_at = self.drafter.clock.now()
            return parse(raw)

        return parse_noticed

    async def until_on_duty(self) -> None:
        """Return as soon as this process is on duty."""
        while not self.on_duty:
            self._entered.clear()
            await self._entered.wait()

    def hurry(self) -> None:
        """Give the next sign at once: there is something to tell."""
        self._alarm.set()

    async def run(self) -> None:
        """Give signs for as long as the process lives."""
        while True:
            self._alarm.clear()
            well = await self.attend() if self.is_serving() else True
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT if well else BEAT_AGAIN):
                    await self._alarm.wait()

    async def attend(self) -> bool:
        """Give one sign; returns whether the database took it."""
        outage = await self._enter(self._sign().entered)
        if outage is not None:
            log.warning(
                "Nobody could take updates from %s to %s. Telegram keeps a tap for 150 seconds only, so "
                "open questions now ask for another one.",
                *(f"{at:%Y-%m-%d %H:%M:%S} UTC" for at in (outage.began, outage.ended)),
                extra={"action": "outage", "seconds": (outage.ended - outage.began).total_seconds()},
            )
            self.on_outage()
        return not self._failing

    async def leave(self) -> None:
        """Give the last sign: this process takes no more updates, and somebody else may have its duty.

        A database that is slow to answer does not keep the process from ending.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SIGN):
                await self._enter(self._sign().left)

    async def _enter(self, entry: Entry) -> Outage | None:
        try:
            self._presence, outage = await self.store.attend(entry)
        except StorageUnavailable as error:
            if not self._failing:
                log.warning(
                    "The database could not be told that this process takes updates: %s",
                    error.detail,
                    extra={"action": "attend_failed"},
                )
            self._failing = True
            return None
        self._failing = False
        self._entered.set()
        return outage

    def _sign(self) -> Sign:
        now = self.drafter.clock.now()
        lease = Lease(self.drafter.identity.holder, now + DUTY)
        return Sign(now, lease, self._received_at, self.finding if self.on_duty else None)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)
