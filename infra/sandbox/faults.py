"""Faults on request: what goes wrong, for which calls, how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from types import TracebackType
from typing import Self


class FaultKind(StrEnum):
    """What can go wrong.

    The first group is done to Bot API calls, the second to the updates that go to the webhook.
    """

    TOO_MANY_REQUESTS = "too_many_requests"
    """429 with `retry_after`; nothing is done."""
    ERROR = "error"
    """An error with `status` and `description`."""
    RESET = "reset"
    """The request is read, then the connection is reset without an answer."""
    HANG = "hang"
    """No answer until the fault is lifted, and then a reset."""
    DRIP = "drip"
    """The right answer, one byte every `seconds`."""
    SLOW = "slow"
    """The right answer, after `seconds`."""
    NONSENSE = "nonsense"
    """200 with a page of HTML."""
    HUGE = "huge"
    """200 with JSON of `size` bytes."""

    DUPLICATE_UPDATE = "duplicate_update"
    """An update is posted a second time after it was accepted."""
    REORDER_UPDATES = "reorder_updates"
    """An update is held back until the one after it has been accepted."""
    HOLD_UPDATES = "hold_updates"
    """No update is posted until the fault is lifted, and `getWebhookInfo` tells no error."""


DONE_ANYWAY = frozenset({FaultKind.DRIP, FaultKind.SLOW, FaultKind.NONSENSE, FaultKind.HUGE})
ON_UPDATES = frozenset({FaultKind.DUPLICATE_UPDATE, FaultKind.REORDER_UPDATES, FaultKind.HOLD_UPDATES})


@dataclass(slots=True, eq=False)
class Fault:
    """One fault; a context manager that lifts it at the end.

    Attributes:
        kind: what goes wrong.
        method: only calls of this Bot API method; None for all.
        chat: only calls to this chat; None for all.
        times: for how many calls it still holds; None until it is lifted.
        effect: whether the call's work is done before it goes wrong.
        status: HTTP status of `error`.
        description: text of `error`, after the status's own words.
        retry_after: seconds, of `too_many_requests`.
        seconds: seconds between two bytes, of `drip`; before the answer, of `slow`.
        size: bytes, of `huge`.
        hits: how many calls it has met.
    """

    kind: FaultKind
    method: str | None = None
    chat: int | None = None
    times: int | None = 1
    effect: bool = False
    status: int = 500
    description: str = ""
    retry_after: int = 1
    seconds: float = 0.5
    size: int = 10_000_000
    number: int = 0
    hits: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)
    on_lift: Callable[[Fault], None] | None = field(default=None, repr=False)

    def matches(self, method: str, chat: int | str | None) -> bool:
        """Whether it is meant for such a call."""
        if self.kind in ON_UPDATES or self.times == 0:
            return False
        wanted = self.method is None or self.method.lower() == method.lower()
        return wanted and self.chat in (None, chat)

    def lift(self) -> None:
        """End it; calls that hang are let go."""
        self.times = 0
        self.lifted.set()
        if self.on_lift is not None:
            self.on_lift(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()


class FaultPlan:
    """The faults that hold now, first come first served."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._numbers = count(1)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults))

    def add(self, fault: Fault) -> Fault:
        """Let a fault hold from now on."""
        fault.number = next(self._numbers)
        fault.on_lift = self._forget
        self._faults.append(fault)
        return fault

    def take(self, method: str, chat: int | str | None) -> Fault | None:
        """The fault that meets this call, counted down; None when the call goes well."""
        if not self._faults:
            return None
        return self._use(next((fault for fault in self._faults if fault.matches(method, chat)), None))

    def take_update(self, kind: FaultKind) -> Fault | None:
        """The fault of that kind that meets this update, counted down."""
        return self._use(
            next((fault for fault in self._faults if fault.kind is kind and fault.times != 0), None)
        )

    async def until_updates_flow(self) -> None:
        """Return as soon as no fault holds updates back."""
        while holding := [fault for fault in self._faults if fault.kind is FaultKind.HOLD_UPDATES]:
            await holding[0].lifted.wait()

    def lift(self, number: int | None = None) -> int:
        """End one fault, or all; returns how many."""
        chosen = [fault for fault in self._faults if number in (None, fault.number)]
        for fault in chosen:
            fault.lift()
        return len(chosen)

    def _use(self, fault: Fault | None) -> Fault | None:
        if fault is None:
            return None
        fault.hits += 1
        if fault.times is not None:
            fault.times -= 1
        if fault.times == 0 and fault.kind is not FaultKind.HANG:
            self._forget(fault)
        return fault

    def _forget(self, fault: Fault) -> None:
        if fault in self._faults:
            self._faults.remove(fault)
