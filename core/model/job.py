"""Jobs: pieces of work that must happen, now or later; each is stored with the effect that causes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from core.model.effect import Decision
from core.model.failure import Failure
from core.model.frozen import changed

TELEGRAM: Final = "telegram"
"""The queue of everything that calls Telegram."""

TIMERS: Final = "timers"
"""The queue of what happens by the clock, and calls nobody."""


EXPIRY_GRACE: Final = timedelta(seconds=2)
"""So long after `expires_at` a job may still be in the middle of a call."""


class Priority(IntEnum):
    """Which of several due jobs goes first."""

    URGENT = 0
    """Somebody looks at a spinner, or at buttons that no longer mean anything."""
    HIGH = 1
    """Somebody will have to think, and a service waits for the answer."""
    NORMAL = 2
    LOW = 3


@dataclass(frozen=True, slots=True)
class Lane:
    """What jobs of a queue share: their order, how many run at once, and a hold that stops them all.

    Attributes:
        name: unique in its queue; for Telegram it is the chat's id.
        width: how many of its jobs run at the same time. With 1 they run in the order in which they were
            stored; a wider lane keeps no order.
    """

    name: str
    width: int = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job.

    Attributes:
        holder: the process that has it.
        until: when another process may take it.
        epoch: counts the job's leases; whoever comes with an earlier one is refused (a fencing token).
    """

    holder: str
    until: datetime
    epoch: int = 1


NO_PAYLOAD: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work that must happen. It is gone as soon as its outcome is stored.

    Attributes:
        kind: names the handler.
        queue: jobs of one queue share a rate limiter, and a hold on the whole queue stops all of them.
        subject: the id of the task, command or chat that it is about; cancelling goes by it.
        run_at: it does not run before.
        expires_at: it is given up when it has not run by then; None for never.
        lane: what it keeps order with; None for nothing.
        overtakes: whether it waits neither for its lane's order nor for its width, only for a hold.
        key: replaces a waiting job of the same key; while one runs, this one waits for it.
        service: whose turn it uses up; the services of a queue take turns.
        attempts: how often it was tried in vain.
        in_doubt: whether an earlier attempt may have been done, although nobody knows.
        payload: what its handler needs besides the subject.
        lease: who runs it; None while it waits.
        id: given by the store; it grows in the order in which jobs were stored.
    """

    kind: str
    queue: str
    subject: str
    run_at: datetime
    expires_at: datetime | None = None
    lane: Lane | None = None
    overtakes: bool = False
    priority: Priority = Priority.NORMAL
    key: str | None = None
    service: str = ""
    attempts: int = 0
    in_doubt: bool = False
    payload: Mapping[str, str] = field(default_factory=lambda: NO_PAYLOAD)
    lease: Lease | None = None
    id: int = 0

    def leased(self, lease: Lease | None) -> Job:
        """The same job in other hands, or in nobody's."""
        return changed(self, lease=lease)


# What a kind's handler says came of an attempt.


@dataclass(frozen=True, slots=True)
class Done:
    """It is done.

    Attributes:
        decide: what follows from it.
        proof: whether this still holds when the lease was lost meanwhile: what Telegram has said it did,
            it did, whoever was in charge.
    """

    decide: Decision
    proof: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """It was certainly not done, and may succeed later.

    Attributes:
        reason: why; None when nothing went wrong.
        after: seconds to wait as the other side asked for; None leaves it to the retry policy.
        counts: whether it uses up an attempt.
        hold: whether its whole lane waits as well.
    """

    reason: Failure | None
    after: float | None = None
    counts: bool = True
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have been done."""

    reason: Failure


@dataclass(frozen=True, slots=True)
class Refused:
    """It was certainly not done, and never will be."""

    reason: Failure


Outcome: TypeAlias = Done | Later | Unclear | Refused
