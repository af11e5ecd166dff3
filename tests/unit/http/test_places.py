"""Who gives way when all connections are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from infra.server.places import Use, holder_of, sacrificed


@dataclass(eq=False)
class Place:
    name: str
    holder: str = "a"
    use: Use = Use.IDLE
    since: float = 0.0
    is_leaving: bool = False


def names(places: Sequence[Place], newcomer: str = "a", count: int = 10, before: float = 100.0) -> list[str]:
    return [place.name for place in sacrificed(places, newcomer, before=before, count=count)]


def test_the_biggest_holder_gives_way_first_then_the_least_useful_then_the_longest_unused() -> None:
    places = [
        Place("small", "b", Use.NOT_READING),
        Place("idle", since=1),
        Place("idle for longer", since=0),
        Place("silent", use=Use.SILENT, since=5),
        Place("deaf", use=Use.NOT_READING, since=9),
        Place("at work", use=Use.WORK),
        Place("leaving", is_leaving=True),
    ]
    assert names(places) == ["deaf", "silent", "idle for longer", "idle", "small"]
    assert names(places, count=1) == ["deaf"]


def test_what_was_used_only_just_now_gives_way_to_whoever_has_fewer() -> None:
    places = [Place("first", since=200), Place("second", since=201), Place("other", "b", since=200)]
    assert names(places, "a") == []
    assert names(places, "b") == ["first", "second"]
    assert names(places, "c") == ["first", "second", "other"]


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
