"""Ids of tasks: ULIDs, so that they sort by time."""

from __future__ import annotations

from collections.abc import Callable

from ulid import ULID


class UlidSequence:
    """Gives ULIDs, each greater than the one before: within a millisecond, and when the clock goes back.

    The order of ids is the order in which a chat gets its messages, so it must be that of the requests.
    Source: https://github.com/ulid/spec#monotonicity

    Args:
        milliseconds: the time, since 1970.
    """

    def __init__(self, milliseconds: Callable[[], int]) -> None:
        self._milliseconds = milliseconds
        self._last = 0

    def __call__(self) -> str:
        """The next one: 26 characters."""
        new = ULID.from_timestamp(self._milliseconds())
        self._last = max(int(new), self._last + 1)
        return str(ULID.from_int(self._last))
