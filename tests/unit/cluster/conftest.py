"""Processes that share one row."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from core.cluster.heartbeat import Heartbeat
from core.cluster.leader import Leadership
from core.cluster.outage import Outages
from core.jobs.alarm import Alarm
from tests.fakes.clock import HandClock
from tests.fakes.heartbeat import MemoryHeartbeats


@dataclass
class Cluster:
    """A clock and a row that processes share."""

    clock: HandClock = field(default_factory=HandClock)
    store: MemoryHeartbeats = field(default_factory=MemoryHeartbeats)

    def process(self, holder: str = "one") -> Heartbeat:
        """Another process, which has not sent a heartbeat yet."""
        return Heartbeat(
            store=self.store,
            clock=self.clock,
            leadership=Leadership(holder=holder),
            outages=Outages(store=self.store, alarm=Alarm(self.clock)),
        )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()
