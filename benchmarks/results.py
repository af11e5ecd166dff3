"""What a measurement finds: rows of one table."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """What a value may be at most, or has to be at least.

    Attributes:
        text: as it is shown.
        met: whether it is kept.
    """

    text: str
    met: bool

    @classmethod
    def at_least(cls, limit: float, value: float, unit: str = "") -> Budget:
        """The value must not be smaller."""
        return cls._judge("≥", operator.ge, limit, value, unit)

    @classmethod
    def at_most(cls, limit: float, value: float, unit: str = "") -> Budget:
        """The value must not be larger."""
        return cls._judge("≤", operator.le, limit, value, unit)

    @classmethod
    def _judge(
        cls, sign: str, compare: Callable[[float, float], bool], limit: float, value: float, unit: str
    ) -> Budget:
        return cls(f"{sign} {limit:g}{unit}", compare(value, limit))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured.
        value: with its unit.
        ratio: to the bare server in the same run, or None where that says nothing.
        budgets: what it is held to.
    """

    what: str
    value: str
    ratio: float | None = None
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one measurement found.

    Attributes:
        title: of its table.
        rows: the table.
        notes: what a reader has to know to read it, one sentence or more each.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
