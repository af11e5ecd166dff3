"""What ends a benchmark: a comparison that cannot be made."""

from __future__ import annotations


class BenchmarkFailed(Exception):
    """A measurement is impossible or makes no sense; the text says why."""
