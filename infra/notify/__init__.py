"""Wakers: how hints travel from whoever changes a task to whoever waits for it, in all processes.

The one for PostgreSQL is in `infra.notify.postgres`, and imported only where there is one.
"""

from __future__ import annotations

from infra.notify.local import LocalWaker
from infra.notify.sweep import SWEEP_EVERY, SWEEP_EVERY_WITHOUT_HINTS, sweep_waiting_room

__all__ = ["SWEEP_EVERY", "SWEEP_EVERY_WITHOUT_HINTS", "LocalWaker", "sweep_waiting_room"]
