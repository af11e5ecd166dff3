"""How many requests a service may make: its `rate` in permissions.yaml, as a token bucket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core.model.errors import RateLimited
from core.policy.policy import Rate


@dataclass(slots=True)
class ServiceRates:
    """A token bucket for each service, filled steadily at its rate; it counts the requests of this process.

    Attributes:
        time: a monotonic clock, in seconds.
    """

    time: Callable[[], float]
    _buckets: dict[str, tuple[Rate, float, float]] = field(default_factory=dict)
    """The rate, how many requests were left, and when that was."""

    def take(self, service: str, rate: Rate) -> None:
        """Let one request of this service pass; a service that was quiet may make a whole period's at once.

        Raises:
            RateLimited: it has used its rate up; `retry_after` says when the next request passes.
        """
        now = self.time()
        per_second = rate.requests / rate.seconds
        known, left, at = self._buckets.get(service, (rate, float(rate.requests), now))
        # A rate that the operator has changed begins with a full bucket.
        left = min(rate.requests, left + (now - at) * per_second) if known == rate else float(rate.requests)
        if left < 1:
            self._buckets[service] = (rate, left, now)
            raise RateLimited(
                f"{service} may make {rate.requests} requests in {rate.seconds} seconds. Slow down, "
                "or ask the operator for a higher rate.",
                retry_after=(1 - left) / per_second,
            )
        self._buckets[service] = (rate, left - 1, now)
