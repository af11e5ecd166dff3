"""Metrics: counters and histograms of this process, as plain numbers for whoever exposes them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Labels: TypeAlias = tuple[str, ...]
"""The values of labels, out of a bounded number of words; never an id, never what somebody sent."""

QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: bounds for what should take milliseconds."""

SLOW: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds: bounds for what waits for somebody else."""


@dataclass(slots=True)
class Counter:
    """Counts what happens, by labels.

    Attributes:
        counts: how often each has happened. One that is there from the start, as 0, shows its first event as
            an increase; Prometheus sees none when a series begins at 1.
    """

    counts: dict[Labels, int] = field(default_factory=dict)

    @classmethod
    def of(cls, *values: str) -> Counter:
        """A counter with one label, which has these values and is at 0 for each."""
        return cls({(value,): 0 for value in values})

    def count(self, *labels: str) -> None:
        """It has happened once more."""
        self.counts[labels] = self.counts.get(labels, 0) + 1

    def items(self) -> Iterator[tuple[Labels, int]]:
        """How often each has happened."""
        yield from list(self.counts.items())


@dataclass(slots=True)
class Histogram:
    """How long something takes, by labels.

    One thread may observe while another one reads.

    Args:
        bounds: seconds, in order; each is the longest time that its bucket takes.
    """

    bounds: tuple[float, ...]
    _series: dict[Labels, list[float]] = field(default_factory=dict)

    def observe(self, seconds: float, *labels: str) -> None:
        """It has taken this long."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = [0.0] * (len(self.bounds) + 2)
        series[0] += seconds
        series[1 + bisect_left(self.bounds, seconds)] += 1

    def items(self) -> Iterator[tuple[Labels, Sequence[float]]]:
        """Of each series the sum in seconds, then how many fell into each bucket; the last has no bound."""
        for labels, series in list(self._series.items()):
            yield labels, tuple(series)


EFFECTS: Final = ("taken", "duplicate", "ignored", "quarantined", "refused")
"""What becomes of an update. `refused`: nothing was stored, and Telegram brings it again."""


@dataclass(slots=True)
class UpdateMetrics:
    """What became of updates, and how long that took."""

    effects: Counter = field(default_factory=lambda: Counter.of(*EFFECTS))
    seconds: Histogram = field(default_factory=lambda: Histogram(QUICK))


@dataclass(frozen=True, slots=True)
class Exposition:
    """All metrics as text.

    Attributes:
        content_type: the whole value of the header.
        body: UTF-8.
    """

    content_type: str
    body: bytes
