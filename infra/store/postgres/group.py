"""Groups: transactions that are run side by side on one connection, and share its commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from infra.store.postgres.statements import Form, Values, form_of
from infra.store.sql.transactions import Row, Statement, Transaction

Run: TypeAlias = Callable[[Form, Sequence[Values]], Awaitable[list[list[Row]]]]
"""Runs one form of statement for several callers' values, and returns each caller's rows."""


class Tangled(Exception):
    """The transactions of a group got into each other's way: nothing of it may be kept, all run again."""


@dataclass(slots=True, eq=False)
class Call:
    """A transaction that somebody waits for.

    Attributes:
        transaction: makes it.
        future: for whoever waits.
        asked_at: the loop's time at which it was asked for.
        tries: how often it was run in vain, for reasons that are not its own.
    """

    transaction: Callable[[], Transaction[Any]]
    future: asyncio.Future[Any]
    asked_at: float
    tries: int = 0

    def settle(self, result: object, error: Exception | None) -> None:
        """Tell whoever waits, if somebody still does."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Member:
    """A transaction on its way.

    Attributes:
        call: who asked for it.
        statement: what it wants to have run next; None when it has ended.
        wrote: whether it has changed something.
        result: what it returned.
        error: what it raised.
    """

    __slots__ = ("_transaction", "call", "error", "result", "statement", "wrote")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.wrote = False
        self.result: object = None
        self.error: Exception | None = None
        self.statement: Statement | None = None
        self._transaction = call.transaction()
        self._advance(lambda: next(self._transaction))

    @property
    def failed_late(self) -> bool:
        """Whether it failed after it had changed something, which must be undone."""
        return self.error is not None and self.wrote

    def give(self, rows: Sequence[Row]) -> None:
        """Hand it the rows of its statement, and have its next one."""
        self._advance(lambda: self._transaction.send(rows))

    def _advance(self, step: Callable[[], Statement]) -> None:
        try:
            self.statement = step()
        except StopIteration as end:
            self.statement, self.result = None, end.value
        except Exception as error:  # noqa: BLE001 - whatever a transaction raises goes to whoever asked for it
            self.statement, self.error = None, error


class _Rows:
    """Whose a row is that was read to be changed: within one connection the database does not guard it."""

    def __init__(self) -> None:
        self._owners: dict[object, Member] = {}
        self._waiting: dict[object, deque[Member]] = {}

    def take(self, member: Member, names: Iterable[object]) -> bool:
        """Make these rows the member's, until it ends; or let it wait for the first that is another's."""
        wanted = list(names)
        for name in wanted:
            if self._owners.get(name, member) is not member:
                self._waiting.setdefault(name, deque()).append(member)
                return False
        self._owners.update(dict.fromkeys(wanted, member))
        return True

    def release_ended(self) -> list[Member]:
        """Free the rows of members that have ended; returns one who waited for each, who may look again."""
        for name in [name for name, owner in self._owners.items() if owner.statement is None]:
            del self._owners[name]
        woken = [line.popleft() for name, line in self._waiting.items() if name not in self._owners]
        self._waiting = {name: line for name, line in self._waiting.items() if line}
        return woken


async def run_side_by_side(members: Sequence[Member], run: Run) -> None:
    """Run transactions to their ends, sending what they want at the same time together.

    Rows that one has read `for_update` are kept from the others until it ends, as the database itself would
    keep them from other connections.

    Raises:
        Tangled: they did not; nothing must be committed.
    """
    rows = _Rows()
    ready = [member for member in members if member.statement is not None]
    unended = len(ready)
    while ready:
        going_on: list[Member] = []
        for form, batch in _batches(ready):
            await _run_batch(form, batch, rows, run, going_on)
        ended = sum(member.statement is None for member in ready)
        unended -= ended
        ready = going_on + rows.release_ended()
    if unended:
        raise Tangled


def _batches(ready: Iterable[Member]) -> Iterable[tuple[Form, list[Member]]]:
    batches: dict[Form, list[Member]] = {}
    for member in ready:
        if member.statement is not None:
            batches.setdefault(form_of(member.statement), []).append(member)
    for form, batch in batches.items():
        if len(batch) > 1 and batch[0].statement is not None and batch[0].statement.for_update:
            # Groups that lock in the same order do not lock each other out.
            batch.sort(key=lambda member: str(member.statement and member.statement.params))
        yield form, batch


async def _run_batch(form: Form, batch: list[Member], rows: _Rows, run: Run, going_on: list[Member]) -> None:
    statements = [member.statement for member in batch if member.statement is not None]
    found = await run(form, [statement.params for statement in statements])
    for member, statement, its_rows in zip(batch, statements, found, strict=True):
        if statement.for_update and not rows.take(member, [row[0] for row in its_rows]):
            continue
        member.wrote = member.wrote or (form.changes and (bool(its_rows) or not form.numbered))
        member.give(its_rows)
        if member.statement is not None:
            going_on.append(member)
    if any(member.failed_late for member in batch):
        raise Tangled
