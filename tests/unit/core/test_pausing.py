"""Pauses that Telegram asks for: one chat's, and the whole bot's."""

from __future__ import annotations

from datetime import timedelta

from core.pausing import Pauses
from tests.fakes.clock import START
from tests.fakes.world import ADA, BEN, GROUP


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_nobody_waits_who_was_not_told_to() -> None:
    assert Pauses().end(ADA.id, START) is None


def test_a_chat_waits_until_its_pause_is_over_and_others_do_not() -> None:
    pauses = Pauses()
    pauses.note(ADA.id, START, START + after(17))
    assert pauses.end(ADA.id, START + after(16.9)) == START + after(17)
    assert pauses.end(ADA.id, START + after(17)) is None
    assert pauses.end(BEN.id, START) is None


def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    pauses = Pauses()
    pauses.note(ADA.id, START, START + after(60))
    pauses.note(ADA.id, START + after(1), START + after(2))
    assert pauses.end(ADA.id, START + after(3)) == START + after(60)


def test_two_chats_within_five_seconds_pause_the_whole_bot() -> None:
    pauses = Pauses()
    pauses.note(ADA.id, START, START + after(10))
    pauses.note(BEN.id, START + after(4.9), START + after(20))
    assert pauses.end(GROUP, START + after(5)) == START + after(20)
    assert pauses.end(GROUP, START + after(20)) is None


def test_two_chats_further_apart_pause_only_themselves() -> None:
    pauses = Pauses()
    pauses.note(ADA.id, START, START + after(10))
    pauses.note(BEN.id, START + after(5), START + after(20))
    assert pauses.end(GROUP, START + after(6)) is None


def test_one_chat_twice_pauses_only_itself() -> None:
    pauses = Pauses()
    pauses.note(ADA.id, START, START + after(10))
    pauses.note(ADA.id, START + after(1), START + after(10))
    assert pauses.end(BEN.id, START + after(1)) is None


def test_pauses_that_are_over_are_forgotten() -> None:
    pauses = Pauses()
    for chat in range(1000):
        pauses.note(chat, START + after(10 * chat), START + after(10 * chat + 1))
    assert len(pauses._chats) == 1
