"""PostgreSQL: each transaction is one of its own, on a connection of a small pool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from core.incident import Incident
from core.metrics import QUICK, Histogram
from core.model.errors import StorageUnavailable
from infra.config.postgres_address import PostgresAddress
from infra.store.errors import StorageBusy
from infra.store.migrations import SchemaState, find_state, refuse_newer
from infra.store.postgres import errors
from infra.store.postgres.connection import begin_statement, commit, connect, run
from infra.store.postgres.errors import NotMigrated, in_words, is_weather, translate, unavailable, with_cause
from infra.store.postgres.pool import Pool
from infra.store.sql.transactions import Statement, Transaction, Worker

T = TypeVar("T")

Access: TypeAlias = Literal["read", "write", "reserved", "check"]

log = logging.getLogger("telegate.store")

_MOST_CALLS = 20_000
_MOST_TRIES = 3
_BUSY = "All connections to the database were busy for too long; nothing was done. Try again."
# Finds nothing and changes nothing. But a row may be locked only where it may be changed, so a server that
# takes no changes refuses even to look: https://www.postgresql.org/docs/current/hot-standby.html
_LOCK_NOTHING = Statement(
    "SELECT id FROM telegate_tasks WHERE bot = $1 AND id = $2 FOR NO KEY UPDATE", (0, "")
)


@dataclass(slots=True)
class _Counters:
    """See `Worker`; a group is one transaction here."""

    transactions: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(QUICK))


class PostgresDatabase:
    """The port `Database` on a PostgreSQL server. Made in the serving loop; it connects when it is asked.

    Args:
        address: of the database.
        on_contact: run once, before anything else, when the database answers for the first time.
        patience: seconds that a transaction may take, and that it may wait for a connection before that.
        connections: the most that it opens, at least three. Requests leave one of them to updates from
            Telegram, and both leave one to checks.
        idle: seconds after which a connection that nobody needs is closed, so that the database can sleep.
        most_calls: how many transactions may run and wait; more are refused.
    """

    def __init__(
        self,
        address: PostgresAddress,
        *,
        on_contact: Callable[[], Transaction[None]] | None = None,
        patience: float = 2.0,
        connections: int = 8,
        idle: float = 60.0,
        most_calls: int = _MOST_CALLS,
    ) -> None:
        self.address = address
        self._on_contact = on_contact
        self._patience = patience
        self._most_calls = most_calls
        self._pooled = address.pooled
        self._in_use = False
        self._closed = False
        self._outage = Incident(log)
        self._unreached_at = 0.0
        self._unreached: Exception = ConnectionError()
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(self._open, idle)
        self._calls: set[asyncio.Task[Any]] = set()
        requests, work = asyncio.Semaphore(connections - 2), asyncio.Semaphore(connections - 1)
        self._turns: Mapping[Access, tuple[AbstractAsyncContextManager[None], ...]] = {
            "read": (requests, work),
            "write": (requests, work),
            "reserved": (work, nullcontext()),
            "check": (asyncio.Semaphore(1), nullcontext()),
        }
        self._counters: Mapping[Access, _Counters] = {access: _Counters() for access in self._turns}

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        """See `Database.write`."""
        return await self._call("reserved" if reserved else "write", transaction)

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        """See `Database.read`; each of its statements sees what was committed before it."""
        return await self._call("read", transaction)

    async def check(self) -> None:
        """See `Database.check`; it must take changes, too, and have its tables; newer ones do no harm."""
        try:
            state = await self._call("check", _look)
        except StorageUnavailable as error:
            raise with_cause(error) from error.__cause__
        if state.found < state.newest:
            raise NotMigrated

    @property
    def workers(self) -> Mapping[str, Worker]:
        """See `Database.workers`."""
        return {access: counters for access, counters in self._counters.items() if access != "check"}

    async def close(self) -> None:
        """See `Database.close`."""
        self._closed = True
        while self._calls:
            await asyncio.wait(self._calls)
        self._pool.close_resting()
        # What was broken off is closed in the loop's next round, which may be its last.
        await asyncio.sleep(0)

    # One transaction

    async def _call(self, access: Access, transaction: Callable[[], Transaction[T]]) -> T:
        if self._closed:
            raise unavailable("The server is stopping; nothing was done. Try again.")
        if len(self._calls) >= self._most_calls:
            raise StorageBusy("Too much work is waiting for the database; nothing was done.", retry_after=1)
        call = self._loop.create_task(self._run_in_turn(access, transaction), name=f"a database {access}")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            # It is done even when nobody waits for it any more.
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(_log_failure)
            raise

    async def _run_in_turn(self, access: Access, transaction: Callable[[], Transaction[T]]) -> T:
        arrived = self._loop.time()
        counters = self._counters[access]
        first, second = self._turns[access]
        try:
            async with asyncio.timeout(self._patience) as waiting, first, second:
                waiting.reschedule(None)
                began = self._loop.time()
                try:
                    return await self._run(access, transaction, arrived, began + self._patience)
                except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it is
                    failure = translate(error)
                finally:
                    counters.seconds.observe(self._loop.time() - began)
        except TimeoutError:
            failure = StorageBusy(_BUSY, retry_after=1)
        finally:
            counters.transactions += 1
        raise failure

    async def _run(
        self, access: Access, transaction: Callable[[], Transaction[T]], arrived: float, until: float
    ) -> T:
        if arrived < self._unreached_at:
            # Others found out while it waited for its turn. To try as well would take as long again.
            raise self._unreached.with_traceback(None)
        tries_left = _MOST_TRIES
        while True:
            tries_left -= 1
            connection = await self._pool.acquire(until)
            try:
                if access in ("read", "check"):
                    return await run(connection, transaction(), until)
                await connection.execute(begin_statement(self._patience), timeout=until - self._loop.time())
                result = await run(connection, transaction(), until)
                await commit(connection, until - self._loop.time())
            except Exception as error:
                if await self._undo(connection, error, until) and tries_left:
                    continue
                if is_weather(error):
                    log.warning(
                        "The database could not do a transaction: %s",
                        in_words(error.__cause__ or error),
                        extra={"action": "store_failed"},
                    )
                raise
            else:
                return result
            finally:
                self._pool.release(connection)

    async def _undo(self, connection: Any, error: Exception, until: float) -> bool:
        """Undo a transaction that failed; returns whether it helps to run it again."""
        if isinstance(error, errors.FORGOTTEN) and not self._pooled:
            self._pooled = True
            log.warning(
                "The database forgets prepared statements, as a transaction pooler does; none are used from "
                "now on. Add ?pgbouncer=true to DATABASE_URL to say so from the start.",
                extra={"action": "pooler_found"},
            )
        if not isinstance(error, (TimeoutError, errors.CommitUnknown, errors.READ_ONLY, *errors.STALE)):
            with suppress(*errors.BROKEN):
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK", timeout=until - self._loop.time())
            if not connection.is_closed() and not connection.is_in_transaction():
                return isinstance(error, errors.CONTENDED)
        connection.terminate()
        # What befell it (the server is gone without a word, or takes no changes any more) may have befallen
        # those that rest, too. To find that out, each would take somebody's patience.
        self._pool.close_resting()
        return not isinstance(error, (TimeoutError, errors.CommitUnknown))

    # Connecting

    async def _open(self, until: float) -> Any:
        connecting = connect(self.address, until - self._loop.time(), pooled=self._pooled)
        try:
            # Whoever happens to need a connection is not who its later lines in the log are about.
            connection = await self._loop.create_task(connecting, context=Context())
        except Exception as error:
            if is_weather(error):
                told = ("The database %s cannot be reached: %s", self.address.place, in_words(error))
                self._outage.begin(*told, action="database_down", level=logging.ERROR)
            self._unreached_at, self._unreached = self._loop.time(), error
            raise
        try:
            if not self._in_use:
                await self._greet(connection, until)
        except BaseException:
            connection.terminate()
            raise
        self._outage.end("The database %s answers again.", self.address.place, action="database_back")
        return connection

    async def _greet(self, connection: Any, until: float) -> None:
        """Look whether the tables are what this version works with; nothing is done before they are."""
        state = await run(connection, find_state(), until)
        refuse_newer(state)
        if not state.current:
            raise NotMigrated
        if self._on_contact is not None:
            await run(connection, self._on_contact(), until)
        self._in_use = True


def _log_failure(call: asyncio.Task[Any]) -> None:
    """Say what became of a transaction that nobody waits for any more."""
    if not call.cancelled() and (error := call.exception()):
        log.info(
            "A transaction that nobody waited for any more failed: %s",
            in_words(error),
            extra={"action": "abandoned_failed"},
        )


def _look() -> Transaction[SchemaState]:
    state = yield from find_state()
    yield _LOCK_NOTHING
    return state
