"""Effects: what a decision changes. One is stored whole, in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from core.model.job import Job
    from core.model.task import Change, Task


@dataclass(frozen=True, slots=True)
class Notice:
    """What the person who tapped a button sees at once: a toast, or a popup that must be closed."""

    press_id: str
    text: str
    popup: bool = False


@dataclass(frozen=True, slots=True)
class Orphan:
    """A message of ours with the buttons of a question that is no longer known."""

    chat: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What one decision changes, and what has to happen because of it.

    Attributes:
        changes: steps of tasks.
        tasks: new tasks.
        jobs: what must happen; stored in this order.
        cancels: subjects whose waiting jobs are needless now; they go before `jobs` come.
        notice: acknowledges a tap after the commit; losing it loses no answer.
        orphan: a message that loses its buttons after the commit; losing that costs nothing.
    """

    changes: tuple[Change, ...] = ()
    tasks: tuple[Task, ...] = ()
    jobs: tuple[Job, ...] = ()
    cancels: tuple[str, ...] = ()
    notice: Notice | None = None
    orphan: Orphan | None = None


NOTHING: Final = Effect()
"""The decision that nothing changes."""

Decision: TypeAlias = "Callable[[Task | None], Effect]"
"""Decides what becomes of the task that a job is about, or of no task.

It runs inside a transaction, perhaps in another thread and perhaps twice: it is pure and quick. It mints no
ids, reads no clock, and logs nothing.
"""

UpdateDecision: TypeAlias = "Callable[[Sequence[Task]], Effect]"
"""Decides what an update does to the tasks that its look-up found. It is pure, as any decision."""


@dataclass(frozen=True, slots=True)
class Committed:
    """An effect as it was stored.

    Attributes:
        effect: what was decided.
        rows: the tasks that it touched, by id, as they now stand.
        jobs: as they were stored; those with a lease are this process's, to be run at once.
        lease_lost: whether another process has the job that this came of.
    """

    effect: Effect
    rows: Mapping[str, Task] = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()
    lease_lost: bool = False

    @property
    def task(self) -> Task | None:
        """The task that it touched, as it now stands; None when it touched none, or several."""
        return next(iter(self.rows.values())) if len(self.rows) == 1 else None
