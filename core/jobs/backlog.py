"""The backlog: how much waits in the database to be sent, and how much is too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.model.errors import Overloaded, RateLimited, TelegateError

OF_ONE_SERVICE = 10_000
"""So many tasks of one service may wait; Telegram takes them in five to six minutes at best."""

IN_ALL = 50_000
"""So many tasks may wait, whoever they are of."""

_LONGEST_RETRY = 60.0


@dataclass(slots=True)
class Backlog:
    """How many tasks of each service wait, as the database has told, and what was added since.

    Args:
        per_second: how many a second go out, to tell when there may be room again; 0 for no limit.
    """

    per_second: float
    of_one_service: int = OF_ONE_SERVICE
    in_all: int = IN_ALL
    _waiting: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many wait."""
        return sum(self._waiting.values())

    def add(self, service: str) -> None:
        """One more waits."""
        self._waiting[service] = self._waiting.get(service, 0) + 1

    def replace(self, waiting: Mapping[str, int]) -> None:
        """The database has told anew."""
        self._waiting = dict(waiting)

    def refusal(self, service: str) -> TelegateError | None:
        """Why this service cannot hand in one more task now; None when it can."""
        of_service = self._waiting.get(service, 0)
        if of_service >= self.of_one_service:
            return RateLimited(
                f"{of_service:,} tasks of {service} wait to be sent already, because Telegram takes only so "
                "many a second. Nothing was done; try again later.",
                retry_after=self._retry_after(of_service - self.of_one_service + 1),
            )
        if self.size >= self.in_all:
            return Overloaded(
                f"{self.size:,} tasks wait to be sent already, because Telegram takes only so many a second. "
                "Nothing was done; try again later.",
                retry_after=self._retry_after(self.size - self.in_all + 1),
            )
        return None

    def _retry_after(self, too_many: int) -> float:
        return min(_LONGEST_RETRY, max(1.0, too_many / self.per_second if self.per_second else 1.0))
