"""What travels on the channel: it fits, it comes back as it was, and what others say there is ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.notify.payloads import MOST_IDS, Payload, packed

LONGEST = 7999
"""Bytes that PostgreSQL takes: https://www.postgresql.org/docs/current/sql-notify.html."""

IDS = [f"tsk_{number:026d}" for number in range(1000)]


def test_a_thousand_hints_fit_into_fifty_payloads_each_far_from_the_limit() -> None:
    payloads = packed(123456789012, "0123456789abcdef", IDS)
    assert len(payloads) == len(IDS) / MOST_IDS == 50
    assert max(len(str(payload).encode()) for payload in payloads) < LONGEST / 8
    assert [task_id for payload in payloads for task_id in payload.words] == IDS


@given(
    some.integers(1, 10**15), some.lists(some.from_regex(r"tsk_[0-9A-Z]{26}", fullmatch=True), max_size=99)
)
def test_what_is_packed_is_understood_as_it_was_meant(bot: int, task_ids: list[str]) -> None:
    payloads = packed(bot, "me", task_ids)
    assert [Payload.parsed(str(payload)) for payload in payloads] == payloads
    assert all(payload.words for payload in payloads)


def test_what_is_followed_travels_like_hints() -> None:
    [payload] = packed(42, "me", IDS[:3], "follow")
    assert Payload.parsed(str(payload)) == payload == Payload("follow", 42, "me", tuple(IDS[:3]))


def test_no_hints_are_no_payload() -> None:
    assert packed(42, "me", []) == []


def test_an_echo_is_understood_as_it_was_meant() -> None:
    echo = Payload("echo", 42, "me", ("0123",))
    assert Payload.parsed(str(echo)) == echo


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hints",
        "hints 42 me",
        "echo 42 me",
        "hints you me tsk_1",
        "hints -42 me tsk_1",
        "hints ²² me tsk_1",
        "hints2 42 me tsk_1",
        '{"hints": ["tsk_1"]}',
        "\n",
    ],
)
def test_what_is_not_understood_is_nothing(text: str) -> None:
    assert Payload.parsed(text) is None


@given(some.text())
def test_nothing_that_anybody_sends_is_an_error(text: str) -> None:
    parsed = Payload.parsed(text)
    assert parsed is None or parsed.kind in {"hints", "follow", "echo"}
