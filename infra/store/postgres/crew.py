"""Crews: a few connections that share one line of waiting transactions, and take what waits as one group."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

from core.metrics import QUICK, Durations
from infra.store.errors import StorageBusy
from infra.store.postgres.errors import (
    CONTENDED,
    OUTCOME_UNKNOWN,
    READ_ONLY,
    STALE,
    in_words,
    is_weather,
    translate,
    unavailable,
)
from infra.store.postgres.group import Call, Member, Tangled, run_side_by_side
from infra.store.postgres.session import CommitUnknown, Session
from infra.store.sql.transactions import MovedOn, Transaction

T = TypeVar("T")

log = logging.getLogger("telegate.store")

_MOST_IN_GROUP = 128
_MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class CrewSettings:
    """How a crew works.

    Attributes:
        connections: the most that it opens.
        patience: seconds that a transaction waits for a connection.
        idle: seconds after which a connection that nobody needs is closed.
        most_waiting: how many transactions may wait; more are refused.
    """

    connections: int
    patience: float
    idle: float
    most_waiting: int


class Crew:
    """Runs transactions in the loop that it is made in.

    Args:
        settings: how it works.
        connect: opens a session that is fit for use; what it raises is told to everybody who waits.

    Attributes:
        transactions: how many have ended, well or not.
        groups: how many groups were committed for them.
        seconds: how long each group took, with its commit.
    """

    def __init__(self, settings: CrewSettings, connect: Callable[[], Awaitable[Session]]) -> None:
        self.transactions = 0
        self.groups = 0
        self.seconds = Durations(QUICK)
        self._settings = settings
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Call] = deque()
        self._spare: list[tuple[Session, float]] = []
        self._at_work = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        self._closed = False

    def submit(self, transaction: Callable[[], Transaction[T]]) -> asyncio.Future[T]:
        """Queue a transaction. It is done even when nobody waits for the future any more.

        Raises:
            StorageBusy: too many are waiting.
            StorageUnavailable: the crew was closed.
        """
        if self._closed:
            raise unavailable("The server is stopping; nothing was done. Try again.")
        if len(self._pending) >= self._settings.most_waiting:
            raise StorageBusy("Too much work is waiting for the database; nothing was done.", retry_after=1)
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(Call(transaction, future, self._loop.time()))
        if self._at_work < self._settings.connections:
            self._at_work += 1
            self._keep(self._work(), "working on the database")
        else:
            self._ring_by(self._loop.time() + self._settings.patience)
        return future

    async def close(self) -> None:
        """Finish what is waiting, then close the connections."""
        self._closed = True
        while self._at_work:
            await asyncio.wait(self._tasks)
        if self._alarm is not None:
            self._alarm.cancel()
        self._close_spare(0)
        while self._tasks:
            await asyncio.wait(self._tasks)
        # A connection that was broken off is closed in the loop's next round, which may be its last.
        await asyncio.sleep(0)

    # One connection's work

    async def _work(self) -> None:
        try:
            while self._pending:
                await self._work_on_group()
        finally:
            # Not by the task's callback, which comes later: a call could slip in between and wait for nobody.
            self._at_work -= 1

    async def _work_on_group(self) -> None:
        groups: list[list[Call]] = []
        session: Session | None = None
        try:
            session = await self._begun()
            groups.append(self._take_group())
            while groups:
                if session.lost:
                    session = await self._begun()
                elif not session.begun:
                    await session.begin()
                again = await self._run(session, [Member(call) for call in groups[0]])
                groups[:1] = again
        except Exception as error:  # noqa: BLE001 - the outermost loop: everybody who waits is told
            # Nobody can be served just now; to wait for longer would help nobody.
            self._fail([call for group in groups for call in group], translate(error))
            self._fail(self._take_all(), translate(error))
        finally:
            if session is not None:
                self._put_back(session)

    async def _begun(self) -> Session:
        """A session on which a group has begun; one that broke while nobody used it is replaced."""
        while self._spare:
            session, _ = self._spare.pop()
            if session.lost:
                continue
            begun = self._loop.time()
            try:
                await session.begin()
            except Exception as error:
                self._drop_spare(begun)
                if not is_weather(error) or isinstance(error, TimeoutError):
                    raise
            else:
                return session
        session = await self._connect()
        await session.begin()
        return session

    def _take_group(self) -> list[Call]:
        return [self._pending.popleft() for _ in range(min(len(self._pending), _MOST_IN_GROUP))]

    def _take_all(self) -> list[Call]:
        waiting = [*self._pending]
        self._pending.clear()
        return waiting

    async def _run(self, session: Session, members: list[Member]) -> list[list[Call]]:
        """Run a group, and tell those whose transactions have ended; returns what has to run again."""
        begun = self._loop.time()
        try:
            await run_side_by_side(members, session.run)
            await session.commit()
        except Tangled:
            await session.roll_back()
            return self._sort_out(members)
        except CommitUnknown as error:
            session.drop()
            self._drop_spare(begun)
            self._warn("The outcome of %d transactions is not known: %s", members, error.__cause__ or error)
            self._settle(members, unavailable(OUTCOME_UNKNOWN))
            return []
        except Exception as error:  # noqa: BLE001 - the driver's errors have no common base; somebody is told each
            return await self._recover(session, members, error, begun)
        self.seconds.observe(self._loop.time() - begun)
        self.groups += bool(members)
        self._settle(members)
        return []

    # When it does not go well

    def _sort_out(self, members: list[Member]) -> list[list[Call]]:
        """A group was undone: some of it failed after they had written, or waited for each other."""
        late = [member for member in members if member.failed_late]
        if not late:
            return [[member.call] for member in members]
        if len(members) == 1:
            self._settle(members)
            return []
        # What they saw may have been undone with the group, so they are judged by runs of their own. Those
        # who came second with something succeed together once the others are stored.
        others = [member.call for member in members if not member.failed_late]
        second = [member.call for member in late if isinstance(member.error, MovedOn)]
        failed = [[member.call] for member in late if not isinstance(member.error, MovedOn)]
        if not others:
            return [[member.call] for member in members]
        return [others, second, *failed] if second else [others, *failed]

    async def _recover(
        self, session: Session, members: list[Member], error: Exception, begun: float
    ) -> list[list[Call]]:
        """The database refused a statement of the group, or broke off: nothing of it is stored."""
        timed_out = isinstance(error, TimeoutError)
        if timed_out or session.lost or isinstance(error, READ_ONLY):
            self._drop_spare(begun)
        if timed_out or isinstance(error, (*STALE, READ_ONLY)):
            session.drop()
        await session.roll_back()
        calls = [member.call for member in members]
        worth_it = session.lost or len(calls) > 1 or isinstance(error, CONTENDED)
        if timed_out or not worth_it or max(call.tries for call in calls) >= _MOST_TRIES:
            if is_weather(error):
                self._warn("The database could not do %d transactions: %s", members, error)
            self._settle(members, translate(error))
            return []
        for call in calls:
            call.tries += 1
        # Whose statement it was cannot be told, so each gets a try of its own.
        return [calls] if session.lost else [[call] for call in calls]

    def _fail(self, calls: list[Call], error: Exception) -> None:
        self.transactions += len(calls)
        for call in calls:
            call.settle(None, error)

    def _settle(self, members: list[Member], error: Exception | None = None) -> None:
        self.transactions += len(members)
        for member in members:
            member.call.settle(member.result, error or (member.error and translate(member.error)))

    def _warn(self, text: str, members: list[Member], error: BaseException) -> None:
        log.warning(
            text,
            len(members),
            in_words(error),
            extra={"action": "store_failed", "transactions": len(members)},
        )

    # Connections that rest, and calls that have waited for too long

    def _put_back(self, session: Session) -> None:
        if not session.lost:
            now = self._loop.time()
            self._spare.append((session, now))
            self._ring_by(now + self._settings.idle)

    def _drop_spare(self, until: float) -> None:
        """Break off the connections that nobody has used since this time of the loop, when one has failed.

        What it failed of (the server is gone without a word, or takes no changes any more) may have befallen
        them, too. To find that out, each would take somebody's patience.
        """
        for session, since in self._spare:
            if since <= until:
                session.drop()
        self._spare = [(session, since) for session, since in self._spare if since > until]

    def _ring_by(self, time: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= time:
                return
            self._alarm.cancel()
        # Kept here: for a time that is past, uvloop gives a handle that does not know it.
        self._alarm_at = time
        self._alarm = self._loop.call_at(time, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._close_spare(self._settings.idle)
        too_old = self._loop.time() - self._settings.patience
        while self._pending and self._pending[0].asked_at <= too_old:
            self.transactions += 1
            busy = "All connections to the database were busy for too long; nothing was done. Try again."
            self._pending.popleft().settle(None, StorageBusy(busy, retry_after=1))
        times = [since + self._settings.idle for _, since in self._spare]
        times += [call.asked_at + self._settings.patience for call in list(self._pending)[:1]]
        if times:
            self._ring_by(min(times))

    def _close_spare(self, older_than: float) -> None:
        latest = self._loop.time() - older_than
        for session, since in self._spare:
            if since <= latest:
                self._keep(session.close(), "closing a connection")
        self._spare = [(session, since) for session, since in self._spare if since > latest]

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        # Whoever happens to need a connection is not who its later lines in the log are about.
        task = self._loop.create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
