"""RetryPolicy: how long to wait after an attempt that failed, and whether there is another one."""

from __future__ import annotations

import pytest

from core.model.retry import RetryPolicy


def test_waits_double_until_they_are_as_long_as_they_may_be() -> None:
    policy = RetryPolicy(first=1.0, longest=60.0)
    assert [policy.delay(attempts) for attempts in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_however_often_it_failed_the_wait_stays_the_longest() -> None:
    assert RetryPolicy(first=0.25, longest=2.0).delay(100_000) == 2.0


def test_a_schedule_names_each_wait_and_then_there_is_no_other_attempt() -> None:
    policy = RetryPolicy(schedule=(0.5, 1.0, 2.0))
    assert [policy.delay(attempts) for attempts in range(1, 6)] == [0.5, 1.0, 2.0, None, None]


@pytest.mark.parametrize(
    "policy", [RetryPolicy(first=8.0, jitter=0.2), RetryPolicy(schedule=(8.0,), jitter=0.2)]
)
def test_a_part_of_the_wait_is_left_to_chance_both_ways(policy: RetryPolicy) -> None:
    waits = [policy.delay(1) or 0.0 for _ in range(1000)]
    assert min(waits) >= 8.0 * 0.8
    assert max(waits) <= 8.0 * 1.2
    assert min(waits) < 8.0 * 0.9
    assert max(waits) > 8.0 * 1.1


def test_with_full_jitter_a_wait_is_anything_up_to_twice_as_long() -> None:
    waits = [RetryPolicy(first=8.0, jitter=1.0).delay(1) or 0.0 for _ in range(1000)]
    assert 0 <= min(waits) < 4
    assert 12 < max(waits) <= 16


@pytest.mark.parametrize(
    ("tries", "repeated"),
    [(0, [False, False, False]), (2, [True, True, False]), (None, [True, True, True])],
    ids=["never", "twice", "always"],
)
def test_what_may_have_been_done_is_repeated_as_often_as_the_policy_says(
    tries: int | None, repeated: list[bool]
) -> None:
    policy = RetryPolicy(unclear_tries=tries)
    assert [policy.repeats_unclear(attempts) for attempts in range(3)] == repeated
