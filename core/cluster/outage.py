"""Outages: a long time without updates may have cost taps, so open questions ask for another one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from core.jobs.alarm import Alarm
from core.model.cluster import Outage
from core.ports import HeartbeatStore

log = logging.getLogger("telegate.cluster")

OUTAGE: Final = timedelta(seconds=120)
"""A longer time without updates may have cost taps: Telegram keeps one for 150 s."""


def outage_between(began: datetime, ended: datetime) -> Outage | None:
    """The outage that this time without updates was, if it was long enough."""
    return Outage(began, ended) if ended - began > OUTAGE else None


@dataclass(slots=True, kw_only=True)
class Outages:
    """What follows when an outage is over: a `reprompt` job for each open question.

    Attributes:
        alarm: is set, because these jobs are due at once.
    """

    store: HeartbeatStore
    alarm: Alarm

    def ended(self, outage: Outage) -> None:
        """A heartbeat has ended this one; the jobs were stored with it."""
        log.warning(
            "Nobody could take updates from %s to %s. Telegram keeps a tap for 150 seconds only, so "
            "open questions now ask for another one.",
            *_in_words(outage),
            extra={"action": "outage", "seconds": (outage.ended - outage.began).total_seconds()},
        )
        self.alarm.set(outage.ended)

    async def reprompt(self, outage: Outage) -> None:
        """Somebody was there, but Telegram brought no updates: let every open question ask for another tap.

        Raises:
            StorageUnavailable: the jobs could not be stored.
        """
        count = await self.store.reprompt(outage)
        log.warning(
            "No update arrived from %s to %s. Open questions that now ask for another tap: %d.",
            *_in_words(outage),
            count,
            extra={"action": "disarmed", "questions": count},
        )
        self.alarm.set(outage.ended)


def _in_words(outage: Outage) -> tuple[str, str]:
    return f"{outage.began:%Y-%m-%d %H:%M:%S} UTC", f"{outage.ended:%Y-%m-%d %H:%M:%S} UTC"
