"""Metrics are plain numbers: what fell into which bucket, and how often something was counted."""

from __future__ import annotations

import bisect
import math
import threading

from hypothesis import given
from hypothesis import strategies as st

from core.metrics import QUICK, SLOW, Counter, Histogram, UpdateMetrics


def test_what_happens_is_counted_by_its_labels() -> None:
    counter = Counter()
    for labels in (("message", "sent"), ("message", "sent"), ("question", "answered")):
        counter.count(*labels)
    assert dict(counter.items()) == {("message", "sent"): 2, ("question", "answered"): 1}


def test_what_can_happen_is_there_as_zero_before_it_does() -> None:
    assert set(dict(UpdateMetrics().effects.items()).values()) == {0}
    assert dict(UpdateMetrics().effects.items())["quarantined",] == 0


def test_a_bound_belongs_to_its_own_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(seconds, "x")
    assert dict(histogram.items()) == {("x",): (7.0, 2, 2, 1)}


def test_without_labels_there_is_one_series_once_something_was_observed() -> None:
    histogram = Histogram((1.0,))
    assert dict(histogram.items()) == {}
    histogram.observe(0.5)
    assert dict(histogram.items()) == {(): (0.5, 1, 0)}


def test_bounds_go_upwards() -> None:
    assert list(QUICK) == sorted(set(QUICK))
    assert list(SLOW) == sorted(set(SLOW))


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observation_is_in_exactly_one_bucket(observed: list[float]) -> None:
    histogram = Histogram(SLOW)
    for seconds in observed:
        histogram.observe(seconds)
    total, *buckets = dict(histogram.items()).get((), (0.0, *([0.0] * (len(SLOW) + 1))))
    assert math.isclose(total, sum(observed), abs_tol=1e-6)
    assert sum(buckets) == len(observed)
    for index, bound in enumerate(SLOW):
        assert sum(buckets[: index + 1]) == bisect.bisect_right(sorted(observed), bound)


def test_one_may_look_while_a_thread_observes() -> None:
    histogram, over = Histogram(QUICK), threading.Event()

    def observe() -> None:
        number = 0
        while not over.is_set():
            histogram.observe(0.001, str(number % 5_000))
            number += 1

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        while len(seen := dict(histogram.items())) < 1_000:
            assert all(len(series) == len(QUICK) + 2 for series in seen.values())
    finally:
        over.set()
        observer.join()
