"""So much may wait to be sent, and no more."""

from __future__ import annotations

from core.jobs.backlog import Backlog
from core.model.errors import Overloaded, RateLimited


def test_t21_a_service_is_refused_when_too_much_of_it_waits_and_others_are_not() -> None:
    backlog = Backlog(30, of_one_service=3, in_all=10)
    for _ in range(3):
        assert backlog.refusal("flood") is None
        backlog.add("flood")
    refusal = backlog.refusal("flood")
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == 1
    assert refusal.detail.startswith("3 tasks of flood wait to be sent already")
    assert backlog.refusal("ci") is None


def test_everybody_is_refused_when_too_much_waits() -> None:
    backlog = Backlog(2, of_one_service=9, in_all=4)
    backlog.replace({"one": 5, "two": 5})
    refusal = backlog.refusal("three")
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after == 3.5
    backlog.replace({"one": 3})
    assert (backlog.size, backlog.refusal("three")) == (3, None)


def test_nobody_is_told_to_wait_for_more_than_a_minute() -> None:
    backlog = Backlog(0.5, of_one_service=1)
    backlog.replace({"flood": 1000})
    refusal = backlog.refusal("flood")
    assert refusal is not None
    assert refusal.retry_after == 60
    unlimited = Backlog(0, of_one_service=1)
    unlimited.replace({"flood": 1000})
    assert (refused := unlimited.refusal("flood")) is not None
    assert refused.retry_after == 1
