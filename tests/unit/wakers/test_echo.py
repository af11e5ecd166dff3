"""The echo test: when a word is sent, when it counts, and when it is too late."""

from __future__ import annotations

import pytest

from infra.notify.echo import EchoTest
from infra.notify.line import LineBroken


def begun() -> tuple[EchoTest, str]:
    test = EchoTest(every=10, limit=5, next=100)
    word = test.due(100)
    assert word is not None
    return test, word


def test_the_first_word_is_due_at_once_and_the_next_one_after_its_interval() -> None:
    test, word = begun()
    assert test.due(100.1) is None
    assert test.heard(word, 100.2)
    assert test.next == pytest.approx(110.2)
    assert test.due(110.1) is None
    assert test.due(110.2) not in {None, word}


def test_it_is_proven_by_the_first_word_that_comes_back() -> None:
    test, word = begun()
    assert not test.proven
    test.heard(word, 101)
    assert test.proven


def test_a_word_that_nobody_waits_for_proves_nothing() -> None:
    test, word = begun()
    assert not test.heard("another", 101)
    assert not test.proven
    assert test.heard(word, 102)
    assert not test.heard(word, 103)


def test_a_word_that_does_not_come_back_in_time_means_that_the_line_is_broken() -> None:
    test, _ = begun()
    assert test.due(104.9) is None
    with pytest.raises(LineBroken, match=r"does not come back within 5 s.*pooler in transaction mode"):
        test.due(105)


def test_an_earlier_success_does_not_help_later() -> None:
    test, word = begun()
    test.heard(word, 100)
    assert test.due(110) is not None
    with pytest.raises(LineBroken):
        test.due(115)
