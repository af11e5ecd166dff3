"""How long and how often: the full run, and the quick one for while one works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run.

    Attributes:
        rounds: how often the contenders take turns; medians are taken over them.
        seconds: how long each load lasts.
        answers: presses that answer a question, in each round.
        asks: questions asked one after the other, for the round trip.
        crowds: how many requests wait at once, one size after the other.
        probing: seconds for which other requests are timed beside a crowd.
        starts: how often each server is started.
    """

    rounds: int
    seconds: float
    answers: int
    asks: int
    crowds: tuple[int, ...]
    probing: float
    starts: int


FULL = Plan(rounds=5, seconds=3.0, answers=3000, asks=1000, crowds=(2000, 10_000), probing=5.0, starts=9)
QUICK = Plan(rounds=3, seconds=1.0, answers=800, asks=200, crowds=(2000,), probing=2.5, starts=3)
