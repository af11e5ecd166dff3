"""How many requests of one service a process works on at a time: it may not take the place of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from core.model.errors import RateLimited

SHARE: Final = 9
"""How many times as many as are free a service may have: alone 90 %, two services 47 % each, and so on."""

_TRY_AGAIN: Final = 2.0


@dataclass(slots=True)
class Concurrency:
    """Counts requests that are at work, held ones too, by service.

    Attributes:
        most: requests that this process can have in all, which is connections.
    """

    most: int
    _at_work: Counter[str] = field(default_factory=Counter)
    _in_all: int = 0

    @contextmanager
    def one(self, service: str) -> Iterator[None]:
        """Count a request of this service for as long as it takes.

        Raises:
            RateLimited: the service has so many that others would find no place.
        """
        own = self._at_work[service]
        if own >= max(1, SHARE * (self.most - self._in_all)):
            raise RateLimited(
                f"{service} has {own:,} requests at work here, and the rest is kept for others. "
                "Wait for some of them, or ask with Prefer: respond-async and come back.",
                retry_after=_TRY_AGAIN,
            )
        self._at_work[service] = own + 1
        self._in_all += 1
        try:
            yield
        finally:
            self._in_all -= 1
            self._at_work[service] -= 1
            if not self._at_work[service]:
                del self._at_work[service]
