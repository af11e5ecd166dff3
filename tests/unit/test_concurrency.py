"""How many requests of one service are at work: never so many that others find no place."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from core.model.errors import RateLimited
from core.policy.concurrency import Concurrency


def fill(concurrency: Concurrency, stack: ExitStack, service: str) -> int:
    """Let the service have as many as it may; how many that is."""
    for number in range(concurrency.most + 1):
        try:
            stack.enter_context(concurrency.one(service))
        except RateLimited:
            return number
    pytest.fail("It may have all places.")


def test_one_service_alone_may_have_nine_tenths() -> None:
    with ExitStack() as stack:
        assert fill(Concurrency(12_000), stack, "greedy") == 10_800


@pytest.mark.parametrize("most", [100, 1000])
def test_however_many_services_take_all_they_may_the_next_finds_a_place(most: int) -> None:
    concurrency = Concurrency(most)
    with ExitStack() as stack:
        for number in range(5):
            assert fill(concurrency, stack, f"greedy-{number}") >= 1
            with concurrency.one("other"):
                pass


def test_a_place_is_free_again_when_its_request_is_over_or_fails() -> None:
    concurrency = Concurrency(10)
    for _ in range(100):
        with concurrency.one("ci"):
            pass
        with pytest.raises(LookupError), concurrency.one("ci"):
            raise LookupError("a bug")
    with ExitStack() as stack:
        assert fill(concurrency, stack, "ci") == 9


def test_who_is_refused_is_told_when_to_come_back() -> None:
    concurrency = Concurrency(2)
    taken = (concurrency.one("ci") for _ in range(3))
    with next(taken), next(taken), pytest.raises(RateLimited) as caught, next(taken):
        pass
    assert caught.value.retry_after


@pytest.mark.parametrize("most", [1, 2, 3])
def test_even_the_smallest_server_serves_one_request(most: int) -> None:
    with Concurrency(most).one("ci"):
        pass
