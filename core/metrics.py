"""Figures: what is counted and measured while the work is done; plain numbers, for whoever tells them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Labels: TypeAlias = tuple[str, ...]
"""What was counted, in words of a bounded number; never an id, never what somebody sent."""

QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: bounds for what should take milliseconds."""

SLOW: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Seconds: bounds for what waits for somebody else."""


@dataclass(slots=True)
class Counts:
    """Counts what happens, by labels.

    Args:
        counted: what is told from the start, as 0; without that, the first event would look like none.
    """

    counted: dict[Labels, int] = field(default_factory=dict)

    @classmethod
    def of(cls, *words: str) -> Counts:
        """Counts by one label, of which these are the words."""
        return cls({(word,): 0 for word in words})

    def count(self, *labels: str) -> None:
        """It has happened once more."""
        self.counted[labels] = self.counted.get(labels, 0) + 1

    def items(self) -> Iterator[tuple[Labels, int]]:
        """How often each has happened."""
        yield from list(self.counted.items())


@dataclass(slots=True)
class Durations:
    """How long something takes, by labels: a histogram.

    One thread may observe while another one looks.

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
        """The seconds in all, then how often it took as long as each bound, and longer than the last one."""
        for labels, series in list(self._series.items()):
            yield labels, tuple(series)


EFFECTS: Final = ("taken", "duplicate", "ignored", "quarantined", "refused")
"""What becomes of an update. `refused`: nothing was stored, and Telegram brings it again."""


@dataclass(slots=True)
class UpdateFigures:
    """What became of updates, and how long that took."""

    effects: Counts = field(default_factory=lambda: Counts.of(*EFFECTS))
    seconds: Durations = field(default_factory=lambda: Durations(QUICK))


@dataclass(frozen=True, slots=True)
class Exposition:
    """All figures as text.

    Attributes:
        content_type: the whole value of the header.
        body: UTF-8.
    """

    content_type: str
    body: bytes
