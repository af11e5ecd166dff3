"""Pacing: no faster than Telegram likes it, the urgent first, and every service its turn."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Self

from core.model.task import Task


class Urgency(IntEnum):
    """Who goes first when there is a queue."""

    PRESS = 0
    """Somebody looks at a spinner, or at buttons that mean nothing any more."""
    QUESTION = 1
    """Somebody will have to think, and a service waits for it."""
    MESSAGE = 2
    """Everything else that one service says in one chat."""

    @classmethod
    def of(cls, task: Task) -> Urgency:
        """How urgent a task is."""
        return cls.QUESTION if task.is_question else cls.MESSAGE


@dataclass(frozen=True, slots=True)
class Pace:
    """How often something may happen.

    Attributes:
        interval: seconds between two, in the long run.
        burst: so many may happen at once after a quiet time.
    """

    interval: float
    burst: int


BOT_BURST = 30
PRIVATE = Pace(1.0, 10)
"""A chat with one person. Source: https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this"""
GROUP = Pace(3.0, 20)
"""A group or channel: 20 messages a minute. Source: the same page."""

PER_SERVICE = 15
"""So many tasks of one service wait in memory for their turn; more wait in the database."""

IN_ALL = 60
"""So many tasks wait in memory, whoever they are of, before more are taken from the database."""

LONGEST_LINE = 5.0
"""Seconds that it takes, at the pace of the bot, until everybody who waits in memory had a turn."""


@dataclass(slots=True)
class Bucket:
    """Counts one kind of event (the generic cell rate algorithm, ITU-T I.371)."""

    pace: Pace
    _full_at: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next one may happen; 0 for now."""
        return max(0.0, self._full_at - self.pace.interval * (self.pace.burst - 1) - now)

    def left(self, now: float) -> int:
        """How many may happen at once now."""
        ahead = max(0.0, self._full_at - now)
        return max(0, self.pace.burst - math.ceil(ahead / self.pace.interval))

    def spend(self, now: float) -> None:
        """One has happened."""
        self._full_at = max(self._full_at, now) + self.pace.interval

    def is_idle(self, now: float) -> bool:
        """Whether it forgets nothing when it is thrown away."""
        return self._full_at <= now


@dataclass(slots=True)
class Place:
    """A place that is kept for a task on its way to its turn: between two awaits, others come.

    As a context manager it gives the place back, unless that was handed on.

    Args:
        free: gives it back.
        is_kept: whether there is one.
    """

    free: Callable[[], None]
    is_kept: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Let somebody else have it; a second time does nothing."""
        free, self.free = self.free, _nothing
        free()

    def handed_on(self) -> Place:
        """The same place in other hands."""
        free, self.free = self.free, _nothing
        return Place(free, self.is_kept)


def _nothing() -> None:
    """Give back what was given back already."""


@dataclass(slots=True)
class Pacer:
    """Who may send next.

    What Telegram allows is only known when it says "too many" (429), so this is a courtesy that makes such an
    answer rare, and keeps a flood of one service from delaying the others.

    Args:
        per_second: messages to all chats together; 0 for no limits at all, be it of the bot or of a chat.
        time: a monotonic clock, in seconds.
    """

    per_second: float
    time: Callable[[], float]
    _bot: Bucket | None = None
    _chats: dict[int | str, Bucket] = field(default_factory=dict)
    _waiting: Counter[str] = field(default_factory=Counter)
    _kept: Counter[str] = field(default_factory=Counter)
    _queues: dict[Urgency, OrderedDict[str, deque[asyncio.Future[None]]]] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _most: int = IN_ALL
    _most_chats: int = field(default_factory=lambda: _MOST_CHATS)

    def __post_init__(self) -> None:
        if self.per_second > 0:
            # Who waits in memory must not wait for longer than its lease lasts.
            self._most = max(1, min(IN_ALL, int(self.per_second * LONGEST_LINE)))
            self._bot = Bucket(Pace(1 / self.per_second, max(1, min(BOT_BURST, int(self.per_second)))))

    @property
    def room(self) -> int:
        """How many more tasks may be taken from the database now."""
        return max(0, self._most - self._waiting.total() - self._kept.total())

    @property
    def has_much_room(self) -> bool:
        """Whether it is worth to take more tasks from the database."""
        return self.room >= max(1, self._most // 2)

    def place_for(self, service: str) -> Place:
        """Keep a place for a new task of this service, if there is one; if not, it waits in the database."""
        if self._bot is None:
            return Place(_nothing, is_kept=True)
        taken = self._waiting.get(service, 0) + self._kept.get(service, 0)
        if taken >= min(PER_SERVICE, self._most) + self._bot.left(self.time()):
            return Place(_nothing, is_kept=False)
        self._kept[service] += 1
        return Place(partial(self._give_back, service), is_kept=True)

    def _give_back(self, service: str) -> None:
        self._kept[service] -= 1
        if not self._kept[service]:
            del self._kept[service]

    def delay(self, chat: int | str) -> float:
        """Seconds until this chat likes the next message; 0 for now."""
        bucket = self._chats.get(chat)
        return 0.0 if bucket is None else bucket.delay(self.time())

    async def rest(self, chat: int | str) -> None:
        """Sleep for as long as `delay` says."""
        if (sleep := self.delay(chat)) > 0:
            await asyncio.sleep(sleep)

    async def turn(self, chat: int | str, service: str, urgency: Urgency) -> None:
        """Wait until the bot may send one more message, and count it."""
        if self._bot is None:
            return
        if self._queues or self._bot.delay(self.time()) > 0:
            await self._queue(service, urgency)
        self._bot.spend(self.time())
        self._spend_in(chat)

    def _spend_in(self, chat: int | str) -> None:
        now = self.time()
        bucket = self._chats.get(chat)
        if bucket is None:
            if len(self._chats) >= self._most_chats:
                self._chats = {one: kept for one, kept in self._chats.items() if not kept.is_idle(now)}
                # Looking through all of them pays only once they are twice as many.
                self._most_chats = max(_MOST_CHATS, 2 * len(self._chats))
            is_private = isinstance(chat, int) and chat > 0
            bucket = self._chats[chat] = Bucket(PRIVATE if is_private else GROUP)
        bucket.spend(now)

    async def _queue(self, service: str, urgency: Urgency) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(urgency, OrderedDict()).setdefault(service, deque()).append(turn)
        self._waiting[service] += 1
        self._set_timer()
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(service, urgency, turn)
            raise
        finally:
            self._waiting[service] -= 1
            if not self._waiting[service]:
                del self._waiting[service]

    def _give_up(self, service: str, urgency: Urgency, turn: asyncio.Future[None]) -> None:
        services = self._queues.get(urgency)
        turns = None if services is None else services.get(service)
        if services is None or turns is None or turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del services[service]
        if not services:
            del self._queues[urgency]

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
            urgency = min(self._queues)
            services = self._queues[urgency]
            service, turns = services.popitem(last=False)
            turn = turns.popleft()
            if turns:
                services[service] = turns
            if not services:
                del self._queues[urgency]
            if not turn.done():
                return turn
        return None


_MOST_CHATS = 10_000
"""So many chats are counted before those that are quiet are forgotten."""
