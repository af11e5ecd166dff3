"""Figures are plain numbers: what fell into which bucket, and how often something was counted."""

from __future__ import annotations

import bisect
import math
import threading

from hypothesis import given
from hypothesis import strategies as st

from core.metrics import QUICK, SLOW, Counts, Durations, UpdateFigures


def test_what_is_counted_is_told_by_its_labels() -> None:
    counts = Counts()
    for labels in (("message", "sent"), ("message", "sent"), ("question", "answered")):
        counts.count(*labels)
    assert dict(counts.items()) == {("message", "sent"): 2, ("question", "answered"): 1}


def test_what_can_happen_is_told_before_it_does() -> None:
    assert set(dict(UpdateFigures().effects.items()).values()) == {0}
    assert dict(UpdateFigures().effects.items())["quarantined",] == 0


def test_a_bound_belongs_to_its_own_bucket() -> None:
    durations = Durations((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.5):
        durations.observe(seconds, "x")
    assert dict(durations.items()) == {("x",): (7.0, 2, 2, 1)}


def test_without_labels_there_is_one_series_once_something_was_observed() -> None:
    durations = Durations((1.0,))
    assert dict(durations.items()) == {}
    durations.observe(0.5)
    assert dict(durations.items()) == {(): (0.5, 1, 0)}


def test_bounds_go_upwards() -> None:
    assert list(QUICK) == sorted(set(QUICK))
    assert list(SLOW) == sorted(set(SLOW))


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observation_is_in_exactly_one_bucket(observed: list[float]) -> None:
    durations = Durations(SLOW)
    for seconds in observed:
        durations.observe(seconds)
    total, *buckets = dict(durations.items()).get((), (0.0, *([0.0] * (len(SLOW) + 1))))
    assert math.isclose(total, sum(observed), abs_tol=1e-6)
    assert sum(buckets) == len(observed)
    for index, bound in enumerate(SLOW):
        assert sum(buckets[: index + 1]) == bisect.bisect_right(sorted(observed), bound)


def test_one_may_look_while_a_thread_observes() -> None:
    durations, over = Durations(QUICK), threading.Event()

    def observe() -> None:
        number = 0
        while not over.is_set():
            durations.observe(0.001, str(number % 5_000))
            number += 1

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        while len(seen := dict(durations.items())) < 1_000:
            assert all(len(series) == len(QUICK) + 2 for series in seen.values())
    finally:
        over.set()
        observer.join()
