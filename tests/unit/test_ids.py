"""Ids of tasks: they sort by time, and neither two processes nor two threads are given the same."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from infra.ids import UlidSequence

_NOW = 1_790_000_000_000


def _ids(times: Iterator[int]) -> UlidSequence:
    return UlidSequence(lambda: next(times))


def test_an_id_tells_its_millisecond() -> None:
    assert _ids(iter([_NOW]))().milliseconds == _NOW


@pytest.mark.parametrize(
    "times", [[_NOW] * 1_000, [_NOW - step for step in range(1_000)]], ids=["one millisecond", "back in time"]
)
def test_every_id_is_greater_than_the_one_before(times: list[int]) -> None:
    ids = _ids(iter(times))
    given = [str(ids()) for _ in times]
    assert all(earlier < later for earlier, later in pairwise(given))
    assert {len(one) for one in given} == {26}


def test_threads_that_ask_at_once_get_different_ids_each_in_order() -> None:
    ids = UlidSequence(lambda: _NOW)
    given: list[list[str]] = [[] for _ in range(4)]
    begin = threading.Barrier(len(given))

    def ask(own: list[str]) -> None:
        begin.wait()
        own.extend(str(ids()) for _ in range(5_000))

    threads = [threading.Thread(target=ask, args=(own,)) for own in given]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert len({one for own in given for one in own}) == 20_000
    assert all(earlier < later for own in given for earlier, later in pairwise(own))


def test_processes_that_were_forked_from_one_give_different_ids() -> None:
    # In one process, `random` has given something already; whoever is forked must not go on from there.
    UlidSequence(lambda: _NOW)()
    with multiprocessing.get_context("fork").Pool(4) as processes:
        given = processes.map(_first_id, range(4), chunksize=1)
    assert len(set(given)) == len(given)


def _first_id(_process: int) -> str:
    return str(UlidSequence(lambda: _NOW)())
