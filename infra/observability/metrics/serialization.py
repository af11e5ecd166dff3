"""Serialization: metrics go from one process to another as JSON, of which the reader takes what it knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from core.metrics import Labels
from infra.observability.metrics.families import FAMILIES, Family, Samples, Value


def serialize(samples: Samples) -> str:
    """The metrics of a process as text."""
    return json.dumps(samples, separators=(",", ":"))


def deserialize(text: str) -> Samples:
    """The metrics of another process, which may be of an older or a newer version.

    Metrics that this version does not know, or knows with other labels or bounds, are left out.
    """
    samples: dict[str, Any] = json.loads(text)
    return {
        name: list(_fitting(family, samples[name])) for name, family in FAMILIES.items() if name in samples
    }


def _fitting(family: Family, series: list[tuple[list[str], Value]]) -> Iterator[tuple[Labels, Value]]:
    numbers = len(family.bounds) + 2 if family.bounds else 0
    for labels, value in series:
        found = len(value) if isinstance(value, list) else 0
        if (len(labels), found) == (len(family.labels), numbers):
            yield tuple(labels), value
