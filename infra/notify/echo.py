"""The echo test: a channel that swallows notifications looks just like one on which nothing happens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from infra.notify.line import LineBroken


@dataclass(slots=True)
class EchoTest:
    """Says when to send a word that has to come back, and when it is too late. Times are the loop's.

    Attributes:
        every: seconds between an echo and the next test.
        limit: seconds that an echo may take.
        next: when to ask `due` again.
        proven: whether any has come back.
    """

    every: float
    limit: float
    next: float
    proven: bool = False
    _awaited: str | None = None

    def due(self, now: float) -> str | None:
        """A word to be sent now, or None.

        Raises:
            LineBroken: the last one has not come back in time.
        """
        if now < self.next:
            return None
        if self._awaited is not None:
            raise LineBroken(
                f"What this process sends to itself does not come back within {self.limit:g} s. A connection "
                "pooler in transaction mode would explain it: let DATABASE_URL name the database itself."
            )
        self._awaited = secrets.token_hex(8)
        self.next = now + self.limit
        return self._awaited

    def heard(self, word: str, now: float) -> bool:
        """Whether this is the word that was awaited."""
        if word != self._awaited:
            return False
        self._awaited = None
        self.proven = True
        self.next = now + self.every
        return True
