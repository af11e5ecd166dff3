"""The time of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """See `core.ports.Clock`."""

    def now(self) -> datetime:
        """The time in UTC, to the millisecond: what the store keeps, and nothing finer."""
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
