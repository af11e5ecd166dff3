"""How many requests a service may make: a period's worth at once, then as fast as the rate refills."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.errors import RateLimited
from core.policy.policy import Rate
from core.policy.rate_limit import ServiceRates


class Seconds:
    """A monotonic clock that tests move by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: ServiceRates, rate: Rate, tries: int, service: str = "ci") -> int:
    """How many of so many requests pass."""
    passed = 0
    for _ in range(tries):
        try:
            rates.take(service, rate)
        except RateLimited:
            continue
        passed += 1
    return passed


def test_a_quiet_service_may_make_a_whole_period_s_requests_at_once() -> None:
    assert taken(ServiceRates(Seconds()), Rate(5, 60), 10) == 5


def test_whoever_is_refused_is_told_when_the_next_request_passes() -> None:
    seconds = Seconds()
    rates = ServiceRates(seconds)
    rate = Rate(2, 60)
    assert taken(rates, rate, 2) == 2
    with pytest.raises(RateLimited, match="ci may make 2 requests in 60 seconds") as caught:
        rates.take("ci", rate)
    assert caught.value.retry_after == pytest.approx(30)
    seconds.now += 29
    assert taken(rates, rate, 1) == 0
    seconds.now += 1.001
    assert taken(rates, rate, 2) == 1


def test_one_service_s_requests_do_not_count_for_another() -> None:
    rates = ServiceRates(Seconds())
    assert taken(rates, Rate(1, 60), 3) == 1
    assert taken(rates, Rate(1, 60), 3, "billing") == 1


def test_a_new_rate_counts_at_once() -> None:
    rates = ServiceRates(Seconds())
    assert taken(rates, Rate(1, 60), 3) == 1
    assert taken(rates, Rate(3, 60), 5) == 3


@given(
    st.integers(1, 20),
    st.integers(1, 600),
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 30)), max_size=30),
)
def test_nobody_ever_makes_more_than_the_first_burst_and_the_rate_allow(
    requests: int, period: int, bursts: list[tuple[float, int]]
) -> None:
    seconds = Seconds()
    rates, rate = ServiceRates(seconds), Rate(requests, period)
    passed = 0
    for pause, tries in bursts:
        seconds.now += pause
        passed += taken(rates, rate, tries)
    assert passed <= requests + seconds.now * requests / period + 1e-6
