"""Hints between processes that share a PostgreSQL database, by its notifications."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from core.model.errors import StorageUnavailable
from infra.notify.echo import EchoTest
from infra.notify.followed import FollowedElsewhere
from infra.notify.line import Connect, Line, NotSent, open_line
from infra.notify.local import LocalWaker
from infra.notify.outage import Outage
from infra.notify.payloads import Payload, packed

log = logging.getLogger("telegate.wakers")


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly things happen, in seconds.

    Attributes:
        gather: between two notifications; hints that come in between travel together.
        echo_every: between two tests whether notifications arrive.
        limit: that PostgreSQL may take for anything.
        first_pause: at most, until a connection that was just lost is tried again; it doubles each time.
        longest_pause: at most, however often it was tried.
    """

    gather: float = 0.005
    echo_every: float = 10.0
    limit: float = 5.0
    first_pause: float = 0.5
    longest_pause: float = 5.0


class PostgresWaker:
    """Carries hints inside this process at once, and to all others by PostgreSQL's `NOTIFY`.

    A notification has a transaction of its own, after the task's: inside, it would make commits wait for
    one another. The first hint goes out at once, those that follow it closely travel together.

    Args:
        connect: opens a connection; two are kept open.
        bot: the bot's numeric id; hints at other bots' tasks are ignored.
        pace: how quickly things happen.

    Attributes:
        dropped: how many hints were never sent to other processes.
    """

    def __init__(self, connect: Connect, bot: int, pace: Pace | None = None) -> None:
        self.dropped = 0
        self._connect = connect
        self._bot = bot
        self._pace = pace or Pace()
        self._sender = secrets.token_hex(8)
        self._here = LocalWaker()
        self._rung = asyncio.Event()
        self._missed = asyncio.Event()
        self._unsent: dict[str, None] = {}
        self._announcing: dict[str, None] = {}
        self._elsewhere = FollowedElsewhere()
        self._carrying = False
        self._outage = Outage()
        self._refused = False

    @property
    def trouble(self) -> str | None:
        """See `core.ports.Waker.trouble`."""
        return self._outage.trouble

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint`."""
        ids = tuple(task_ids)
        self._here.hint(ids)
        self._pass_on(ids)

    def hint_step(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint_step`."""
        ids = tuple(task_ids)
        self._here.hint_step(ids)
        followed = self._elsewhere.stepped(ids, _now())
        if followed:
            self._pass_on(followed)

    def announce(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.announce`."""
        if self._carrying:
            self._announcing.update(dict.fromkeys(task_ids))
            self._rung.set()

    def subscribe(
        self, wake: Callable[[Iterable[str]], None], wake_followers: Callable[[Iterable[str]], None]
    ) -> None:
        """See `core.ports.Waker.subscribe`."""
        self._here.subscribe(wake, wake_followers)

    async def missed(self) -> None:
        """See `core.ports.Waker.missed`."""
        await self._missed.wait()
        self._missed.clear()

    async def run(self) -> None:
        """See `core.ports.Waker.run`; connects anew whenever the connection fails."""
        while True:
            try:
                await self._connect_and_carry()
            except StorageUnavailable as error:
                if self._outage.failed(error.detail, self.dropped):
                    # From now on the tasks that are waited for are looked at more often.
                    self._missed.set()
            longest = min(
                self._pace.longest_pause, self._pace.first_pause * 2 ** min(self._outage.failures, 10)
            )
            # A whole deployment must not come back at the same instant.
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - this hides nothing

    def _pass_on(self, task_ids: Sequence[str]) -> None:
        if self._carrying:
            self._unsent.update(dict.fromkeys(task_ids))
            self._rung.set()
        else:
            self.dropped += len(task_ids)

    async def _connect_and_carry(self) -> None:
        pace = self._pace
        echo = EchoTest(pace.echo_every, pace.limit, next=_now())
        hear = partial(self._hear, echo)
        async with open_line(self._connect, hear, self._rung.set, pace.limit) as line:
            self._carrying = True
            try:
                while True:
                    await self._take_turn(line, echo)
            finally:
                self._carrying = False
                self.dropped += len(self._unsent)
                self._unsent.clear()
                self._announcing.clear()

    async def _take_turn(self, line: Line, echo: EchoTest) -> None:
        """Wait until there is something to do, and do it; nobody else uses the line meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(echo.next):
                await self._rung.wait()
        self._rung.clear()
        line.check()
        word = echo.due(_now())
        hints, self._unsent = self._unsent, {}
        payloads = packed(self._bot, self._sender, hints)
        payloads += packed(self._bot, self._sender, self._announcing, "follow")
        self._announcing = {}
        if word is not None:
            payloads.append(Payload("echo", self._bot, self._sender, (word,)))
        if payloads:
            await self._send(line, payloads, len(hints))
            await asyncio.sleep(self._pace.gather)

    async def _send(self, line: Line, payloads: Iterable[Payload], hints: int) -> None:
        try:
            await line.send(map(str, payloads))
        except StorageUnavailable as error:
            self.dropped += hints
            if not isinstance(error, NotSent):
                raise
            if not self._refused:
                log.warning(
                    "Hints to other processes are dropped. %s",
                    error.detail,
                    extra={"action": "hints_refused"},
                )
            self._refused = True
        else:
            self._refused = False

    def _hear(self, echo: EchoTest, text: str) -> None:
        payload = Payload.parsed(text)
        if payload is None or payload.bot != self._bot:
            return
        is_own = payload.sender == self._sender
        if payload.kind == "echo" and is_own:
            self._hear_echo(echo, payload.words[0])
        elif payload.kind == "follow" and not is_own:
            self._hear_of_followers(payload.words)
        elif payload.kind == "hints" and not is_own:
            log.debug(
                "Another process hints at tasks: %d.",
                len(payload.words),
                extra={"action": "hints_received", "tasks": payload.words},
            )
            self._here.hint(payload.words)

    def _hear_of_followers(self, task_ids: Sequence[str]) -> None:
        log.debug(
            "Another process follows tasks: %d.",
            len(task_ids),
            extra={"action": "followers_heard", "tasks": task_ids},
        )
        missed = self._elsewhere.heard(task_ids, _now())
        if missed:
            self._pass_on(missed)

    def _hear_echo(self, echo: EchoTest, word: str) -> None:
        was_proven = echo.proven
        if echo.heard(word, _now()) and not was_proven:
            self._outage.ended(self.dropped)
            # What was hinted at before this connection listened was missed.
            self._missed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
