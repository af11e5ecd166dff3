"""Limits: what a queue's jobs wait for before they run. Holds, rates, and the turns of other services."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Self

from core.model.errors import Overloaded, RateLimited, StorageUnavailable, TelegateError
from core.model.job import Job, Priority
from core.ports import Clock, JobStore

log = logging.getLogger("telegate.jobs")

BOT_BURST: Final = 30

PER_SERVICE: Final = 15
"""So many jobs of one service wait in memory for their turn; more wait in the database."""

IN_MEMORY: Final = 60
"""So many jobs wait in memory, whoever they are of, before more are claimed from the database."""

LONGEST_QUEUE: Final = 5.0
"""Seconds that it takes, at the rate of the bot, until everybody who waits in memory had a turn."""

LONGEST_SLEEP: Final = 2.0
"""Seconds that a job waits in memory for its lane; for a longer time it goes back to the database."""

LONGEST_TURN: Final = 10.0
"""Seconds that a job waits in memory for its turn; then it goes back to the database."""

SOON: Final = timedelta(seconds=5)
"""Two lanes told to wait within this time mean that the whole queue is too fast."""

REFRESH_EVERY: Final = 5.0
"""Seconds after which a process that calls nobody knows what another one was told."""

FRESH: Final = 1.0
"""Seconds for which what another process was told is not asked for again."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something may happen.

    Attributes:
        interval: seconds between two, in the long run.
        burst: so many may happen at once after a quiet time.
    """

    interval: float
    burst: int


PRIVATE: Final = Rate(1.0, 10)
"""A chat with one person. Source: https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this"""
GROUP: Final = Rate(3.0, 20)
"""A group or channel: 20 messages a minute. Source: the same page."""


@dataclass(slots=True)
class Bucket:
    """Tells when the next one may happen (the generic cell rate algorithm, ITU-T I.371)."""

    rate: Rate
    _full_at: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next one may happen; 0 for now."""
        return max(0.0, self._full_at - self.rate.interval * (self.rate.burst - 1) - now)

    def left(self, now: float) -> int:
        """How many may happen at once now."""
        ahead = max(0.0, self._full_at - now)
        return max(0, self.rate.burst - math.ceil(ahead / self.rate.interval))

    def spend(self, now: float) -> None:
        """One has happened."""
        self._full_at = max(self._full_at, now) + self.rate.interval

    def is_idle(self, now: float) -> bool:
        """Whether it forgets nothing when it is thrown away."""
        return self._full_at <= now


@dataclass(slots=True)
class Slot:
    """A place in memory that is reserved for a new job until it queues for its turn.

    As a context manager it is given back, unless it was handed on.

    Args:
        free: gives it back.
        reserved: whether there is one; if not, the job has to wait in the database.
    """

    free: Callable[[], None]
    reserved: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Let somebody else have it; a second time does nothing."""
        free, self.free = self.free, _nothing
        free()

    def handed_on(self) -> Slot:
        """The same slot in other hands."""
        free, self.free = self.free, _nothing
        return Slot(free, self.reserved)


def _nothing() -> None:
    """Give back what was given back already."""


@dataclass(slots=True)
class RateLimiter:
    """Decides which job of a queue is next, and when.

    What Telegram allows is only known when it says "too many requests" (429), so this is a courtesy that
    makes such answers rare, and keeps a flood of one service from delaying the others.

    Args:
        per_second: calls for all lanes together; 0 for no limits at all.
        time: a monotonic clock, in seconds.
    """

    per_second: float
    time: Callable[[], float]
    _bot: Bucket | None = None
    _lanes: dict[str, Bucket] = field(default_factory=dict)
    _waiting: Counter[str] = field(default_factory=Counter)
    _reserved: Counter[str] = field(default_factory=Counter)
    _queues: dict[Priority, OrderedDict[str, deque[asyncio.Future[None]]]] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _most: int = IN_MEMORY
    _most_lanes: int = field(default_factory=lambda: _MOST_LANES)

    def __post_init__(self) -> None:
        if self.per_second > 0:
            # What waits in memory must not wait for longer than its lease lasts.
            self._most = max(1, min(IN_MEMORY, int(self.per_second * LONGEST_QUEUE)))
            self._bot = Bucket(Rate(1 / self.per_second, max(1, min(BOT_BURST, int(self.per_second)))))

    @property
    def room(self) -> int:
        """How many more jobs may be claimed from the database now."""
        return max(0, self._most - self._waiting.total() - self._reserved.total())

    @property
    def has_much_room(self) -> bool:
        """Whether it is worth to claim more jobs from the database."""
        return self.room >= max(1, self._most // 2)

    @property
    def is_busy(self) -> bool:
        """Whether the next job has to wait for its turn."""
        return self._bot is not None and (bool(self._queues) or self._bot.delay(self.time()) > 0)

    def slot_for(self, service: str) -> Slot:
        """Reserve a slot for a new job of this service, if there is one."""
        if self._bot is None:
            return Slot(_nothing, reserved=True)
        taken = self._waiting.get(service, 0) + self._reserved.get(service, 0)
        if taken >= min(PER_SERVICE, self._most) + self._bot.left(self.time()):
            return Slot(_nothing, reserved=False)
        self._reserved[service] += 1
        return Slot(partial(self._give_back, service), reserved=True)

    def _give_back(self, service: str) -> None:
        self._reserved[service] -= 1
        if not self._reserved[service]:
            del self._reserved[service]

    def delay(self, lane: str) -> float:
        """Seconds until this lane may have its next call; 0 for now."""
        bucket = self._lanes.get(lane)
        return 0.0 if bucket is None else bucket.delay(self.time())

    async def turn(self, lane: str, service: str, priority: Priority) -> None:
        """Wait until the bot may make one more call, and count it."""
        if self._bot is None:
            return
        if self._queues or self._bot.delay(self.time()) > 0:
            await self._queue(service, priority)
        now = self.time()
        self._bot.spend(now)
        bucket = self._lanes.get(lane)
        if bucket is None:
            if len(self._lanes) >= self._most_lanes:
                self._lanes = {one: kept for one, kept in self._lanes.items() if not kept.is_idle(now)}
                # Looking through all of them pays only once they are twice as many.
                self._most_lanes = max(_MOST_LANES, 2 * len(self._lanes))
            # Telegram gives persons positive ids, groups negative ones; a channel may have a name.
            bucket = self._lanes[lane] = Bucket(PRIVATE if lane.isdecimal() else GROUP)
        bucket.spend(now)

    async def _queue(self, service: str, priority: Priority) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        services = self._queues.setdefault(priority, OrderedDict())
        services.setdefault(service, deque()).append(turn)
        self._waiting[service] += 1
        self._set_timer()
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(service, priority, turn)
            raise
        finally:
            self._waiting[service] -= 1
            if not self._waiting[service]:
                del self._waiting[service]

    def _give_up(self, service: str, priority: Priority, turn: asyncio.Future[None]) -> None:
        services = self._queues.get(priority)
        turns = None if services is None else services.get(service)
        if services is None or turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del services[service]
        if not services:
            del self._queues[priority]

    def _set_timer(self) -> None:
        if self._timer is None and self._queues and self._bot is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._bot.delay(self.time()), self._ring)

    def _ring(self) -> None:
        """Give the next turn; whoever has it counts it before anybody else gets one."""
        self._timer = None
        if self._bot is None or self._bot.delay(self.time()) > 0:
            self._set_timer()
            return
        turn = self._next()
        if turn is not None:
            turn.set_result(None)
            asyncio.get_running_loop().call_soon(self._set_timer)

    def _next(self) -> asyncio.Future[None] | None:
        """The most urgent; among equals the service that has waited longest since its last turn."""
        while self._queues:
            priority = min(self._queues)
            services = self._queues[priority]
            service, turns = services.popitem(last=False)
            turn = turns.popleft()
            if turns:
                services[service] = turns
            if not services:
                del self._queues[priority]
            if not turn.done():
                return turn
        return None


_MOST_LANES: Final = 10_000
"""So many lanes are counted before those that are quiet are forgotten."""

OF_ONE_SERVICE: Final = 10_000
"""So many jobs of one service may wait; Telegram takes them in five to six minutes at best."""

IN_ALL: Final = 50_000
"""So many jobs may wait, whoever they are of."""

_LONGEST_RETRY: Final = 60.0


@dataclass(slots=True)
class Backlog:
    """How many jobs of each service wait in the database, as it has told, and what was added since.

    Args:
        per_second: how many go out in a second, to tell when there may be room again; 0 for no limit.
    """

    per_second: float
    of_one_service: int = OF_ONE_SERVICE
    in_all: int = IN_ALL
    _waiting: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many wait."""
        return sum(self._waiting.values())

    def add(self, service: str) -> None:
        """One more waits."""
        self._waiting[service] = self._waiting.get(service, 0) + 1

    def replace(self, waiting: Mapping[str, int]) -> None:
        """The database has told anew."""
        self._waiting = dict(waiting)

    def refusal(self, service: str) -> TelegateError | None:
        """Why this service cannot hand in one more task now; None when it can."""
        of_service = self._waiting.get(service, 0)
        if of_service >= self.of_one_service:
            return RateLimited(
                f"{of_service:,} tasks of {service} wait to be sent already, because Telegram takes only so "
                "many a second. Nothing was done; try again later.",
                retry_after=self._retry_after(of_service - self.of_one_service + 1),
            )
        if self.size >= self.in_all:
            return Overloaded(
                f"{self.size:,} tasks wait to be sent already, because Telegram takes only so many a second. "
                "Nothing was done; try again later.",
                retry_after=self._retry_after(self.size - self.in_all + 1),
            )
        return None

    def _retry_after(self, too_many: int) -> float:
        return min(_LONGEST_RETRY, max(1.0, too_many / self.per_second if self.per_second else 1.0))


@dataclass(slots=True)
class Holds:
    """Until when the lanes of one queue wait because the other side said "later" (429).

    They are kept in the database, so that they outlive the process and bind all of them.

    Attributes:
        shared: whether other processes hold lanes, too, so that they have to be read again and again.
        jitter: gives a number from 0 to 1.
        count: how often this process was told to wait.
    """

    store: JobStore
    queue: str
    clock: Clock
    shared: bool = False
    jitter: Callable[[], float] = random.random
    count: int = 0
    _held: Mapping[str, datetime] = field(default_factory=dict)
    _read_at: datetime | None = None

    @property
    def everything(self) -> datetime | None:
        """Until when the whole queue is held, as far as this process knows."""
        return self._held.get("")

    async def end(self, lane: str) -> datetime | None:
        """When the next call for this lane may be made; None for now.

        When the database is unavailable, what was known last counts.
        """
        now = self.clock.now()
        if self._read_at is None or (self.shared and (now - self._read_at).total_seconds() >= FRESH):
            try:
                await self.refresh()
            except StorageUnavailable as error:
                log.debug(
                    "The holds could not be read; the last known ones count: %s",
                    error.detail,
                    extra={"action": "holds_unread"},
                )
        if not self._held:
            return None
        end = max((self._held[name] for name in ("", lane) if name in self._held), default=now)
        return end if end > now else None

    def is_held(self, job: Job) -> bool:
        """Whether this job has to wait for a hold, as far as this process knows."""
        now = self.clock.now()
        lane = "" if job.lane is None else job.lane.name
        return any(self._held[name] > now for name in ("", lane) if name in self._held)

    async def hold(self, lane: str, seconds: float) -> datetime:
        """The other side has told this lane to wait; up to a tenth more spreads what waits for the same end.

        Returns:
            When the next call for this lane may be made.
        """
        now = self.clock.now()
        longer = seconds * (1 + 0.1 * self.jitter())
        await self.store.hold(self.queue, lane, now, now + timedelta(seconds=longer))
        self.count += 1
        await self.refresh()
        return await self.end(lane) or now

    async def ready(self) -> None:
        """Know what earlier processes have left.

        Raises:
            StorageUnavailable: it could not be read.
        """
        if self._read_at is None:
            await self.refresh()

    async def run(self) -> None:
        """Learn what other processes hold, for as long as this one lives; with nobody else, return."""
        while self.shared:
            try:
                await self.refresh()
            except StorageUnavailable as error:
                log.debug("The holds could not be read: %s", error.detail, extra={"action": "holds_unread"})
            await asyncio.sleep(REFRESH_EVERY)

    async def refresh(self) -> None:
        """Read what is held.

        Raises:
            StorageUnavailable: it could not be read.
        """
        now = self.clock.now()
        self._held, self._read_at = await self.store.holds(self.queue, now), now


@dataclass(frozen=True, slots=True)
class Limits:
    """What the jobs of one queue have to wait for."""

    rate: RateLimiter
    holds: Holds
    backlog: Backlog

    async def turn(self, job: Job, slot: Slot | None = None) -> datetime | None:
        """Wait until a job may run; when that takes too long, say when to look again.

        Args:
            job: with a lane.
            slot: was reserved for it; given back as soon as it queues.
        """
        lane = "" if job.lane is None else job.lane.name
        now = self.holds.clock.now()
        held = await self.holds.end(lane)
        if held is not None:
            return held
        rest = 0.0 if job.overtakes else self.rate.delay(lane)
        if rest > LONGEST_SLEEP:
            return now + timedelta(seconds=rest)
        at_once = rest == 0 and not self.rate.is_busy
        left = math.inf if job.expires_at is None else (job.expires_at - now).total_seconds()
        try:
            async with asyncio.timeout(None if at_once else min(LONGEST_TURN, left)):
                if rest > 0:
                    await asyncio.sleep(rest)
                if slot is not None:
                    slot.give_back()
                await self.rate.turn(lane, job.service, job.priority)
        except TimeoutError:
            return self.holds.clock.now()
        # Last of all: while it waited, another one may have been told to wait for longer.
        return None if at_once else await self.holds.end(lane)
