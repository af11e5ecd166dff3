"""Ids of tasks: ULIDs, so that they sort by time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from ulid import ULID

_RANDOM_BITS = 80


class UlidSequence:
    """Gives ULIDs, each greater than the one before: within a millisecond, and when the clock goes back.

    The order of ids is the order in which a chat gets its messages, so it must be that of the requests.
    Any thread may ask for one.
    Source: https://github.com/ulid/spec#monotonicity

    Args:
        milliseconds: the time, since 1970.
    """

    def __init__(self, milliseconds: Callable[[], int]) -> None:
        self._milliseconds = milliseconds
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> ULID:
        """The next one; written, it has 26 characters."""
        # The library's own randomness goes on, within a millisecond, from what it gave before a fork.
        # Python's generator is seeded anew in each process; an id is no secret, so it will do.
        new = self._milliseconds() << _RANDOM_BITS | random.getrandbits(_RANDOM_BITS)
        with self._lock:
            self._last = given = max(new, self._last + 1)
        return ULID.from_int(given)
