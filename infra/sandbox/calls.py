"""The log of Bot API calls: what the sandbox was asked, and what it answered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Call:
    """One Bot API call.

    Attributes:
        number: 1, 2, 3 … in the order of arrival.
        method: its name as the Bot API writes it, or as it was asked when unknown.
        parameters: as they came, files left out.
        chat: the `chat_id`, as a number when it is one; None when there is none.
        at: Unix time of arrival, in seconds.
        monotonic: the same on the monotonic clock, for differences.
        status: HTTP status of the answer; None while there is none, or when there never was one.
        outcome: `ok`, the error's description, the name of a fault, or `pending`.
    """

    number: int
    method: str
    parameters: dict[str, Any]
    chat: int | str | None = None
    at: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)
    status: int | None = None
    outcome: str = "pending"

    def text(self, name: str) -> str:
        """A parameter as text; empty when it was not given."""
        return str(self.parameters.get(name, ""))


class CallLog:
    """The newest calls, oldest first; iterate over it or ask for a method's.

    Args:
        kept: how many calls are kept; older ones are forgotten.
    """

    def __init__(self, kept: int = 10_000) -> None:
        self._calls: deque[Call] = deque(maxlen=kept)
        self.total = 0

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: int) -> Call:
        return self._calls[index]

    def begin(self, method: str, parameters: dict[str, Any], chat: int | str | None) -> Call:
        """Write down a call that has just been read."""
        self.total += 1
        call = Call(self.total, method, parameters, chat)
        self._calls.append(call)
        return call

    def of(self, method: str, chat: int | None = None) -> list[Call]:
        """The calls of one method, optionally to one chat."""
        return [call for call in self._calls if call.method == method and chat in (None, call.chat)]

    def clear(self) -> None:
        """Forget all calls; the numbers go on."""
        self._calls.clear()
