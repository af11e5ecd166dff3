"""Whose connections make room for others, when all are taken."""

from __future__ import annotations

import heapq
import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Protocol, TypeVar

_NETWORK_BITS = 64
"""Of an IPv6 address: whoever has one has 2^64 of them."""


class Use(IntEnum):
    """What a connection is good for at present; the least is closed first."""

    NOT_READING = 0
    SILENT = 1
    LINGERING = 2
    IDLE = 3
    WORK = 4


class Candidate(Protocol):
    """A connection, as far as room is concerned."""

    holder: str
    since: float
    is_leaving: bool

    @property
    def use(self) -> Use:
        """What it is good for."""


CandidateT = TypeVar("CandidateT", bound=Candidate)


def victims(
    candidates: Iterable[CandidateT], newcomer: str, *, before: float, count: int
) -> Sequence[CandidateT]:
    """The connections that are closed for others: of the biggest holder the least useful, unused the longest.

    What is at work is never closed. What was used only just now is closed for a newcomer who has fewer
    connections than its holder, and for nobody else: one holder's new connections push each other out no
    faster than a client needs to ask.

    Args:
        candidates: all open connections.
        newcomer: the holder of the one that waits to be let in.
        before: connections that were last used then are unused for long enough for anybody (seconds).
        count: at most so many.
    """
    staying = [candidate for candidate in candidates if not candidate.is_leaving]
    holders = Counter(candidate.holder for candidate in staying)
    own = holders[newcomer]
    spare = (
        candidate
        for candidate in staying
        if candidate.use is not Use.WORK and (candidate.since <= before or holders[candidate.holder] > own)
    )
    return heapq.nsmallest(
        count, spare, key=lambda candidate: (-holders[candidate.holder], candidate.use, candidate.since)
    )


def holder_of(peer: Sequence[Any] | str | None) -> str:
    """Who has a connection: its address, for IPv6 the network; empty for a UNIX socket and for no address.

    Args:
        peer: what a transport tells of its other end, or an address as a router writes it.
    """
    return _network(str(peer[0])) if peer and not isinstance(peer, str) else ""


@lru_cache(maxsize=4096)
def _network(text: str) -> str:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]  # some routers add the port
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
