"""The time of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SystemClock:
    """See `core.ports.Clock`."""

    def now(self) -> datetime:
        """The time in UTC, to the millisecond: what the store keeps, and nothing finer."""
        return _EPOCH + timedelta(milliseconds=time.time_ns() // 1_000_000)
