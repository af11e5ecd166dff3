"""Who gives way when all connections are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from infra.server.eviction import Use, holder_of, victims


@dataclass(eq=False)
class Candidate:
    name: str
    holder: str = "a"
    use: Use = Use.IDLE
    since: float = 0.0
    is_leaving: bool = False


def names(
    candidates: Sequence[Candidate], newcomer: str = "a", count: int = 10, before: float = 100.0
) -> list[str]:
    return [candidate.name for candidate in victims(candidates, newcomer, before=before, count=count)]


def test_the_biggest_holder_gives_way_first_then_the_least_useful_then_the_longest_unused() -> None:
    candidates = [
        Candidate("small", "b", Use.NOT_READING),
        Candidate("idle", since=1),
        Candidate("idle for longer", since=0),
        Candidate("silent", use=Use.SILENT, since=5),
        Candidate("deaf", use=Use.NOT_READING, since=9),
        Candidate("at work", use=Use.WORK),
        Candidate("leaving", is_leaving=True),
    ]
    assert names(candidates) == ["deaf", "silent", "idle for longer", "idle", "small"]
    assert names(candidates, count=1) == ["deaf"]


def test_what_was_used_only_just_now_gives_way_to_whoever_has_fewer() -> None:
    candidates = [
        Candidate("first", since=200),
        Candidate("second", since=201),
        Candidate("other", "b", since=200),
    ]
    assert names(candidates, "a") == []
    assert names(candidates, "b") == ["first", "second"]
    assert names(candidates, "c") == ["first", "second", "other"]


@pytest.mark.parametrize(
    ("told", "holder"),
    [
        (("192.0.2.1", 443), "192.0.2.1"),
        (("192.0.2.1:8080",), "192.0.2.1"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("[2001:db8:1:2::9]:443",), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 0), "fe80::/64"),
        (("unknown",), ""),
        (("",), ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_holder_is_an_address_or_an_ipv6_network(told: tuple[object, ...] | None, holder: str) -> None:
    assert holder_of(told) == holder
