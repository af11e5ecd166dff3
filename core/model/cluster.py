"""The cluster: what all processes of one bot know together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nobody could take updates, so that button presses may have been lost."""

    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """What the leader found out for all: `ok`, or a sentence that says what is wrong.

    Attributes:
        telegram: about Telegram.
        webhook: about the webhook.
    """

    telegram: str
    webhook: str


@dataclass(frozen=True, slots=True)
class Leader:
    """The process that does what one does for all.

    Attributes:
        holder: the process.
        until: when another one may lead.
    """

    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """What all processes of one bot know together; one row.

    Attributes:
        served_at: when one of them could last take updates.
        received_at: when Telegram last brought an update; None when it never did.
        leader: which of them looks after what one does for all, and until when.
        finding: what that one has found out.
    """

    served_at: datetime
    received_at: datetime | None = None
    leader: Leader | None = None
    finding: Finding | None = None


Entry: TypeAlias = Callable[[Presence | None], tuple[Presence, Outage | None]]
"""What a heartbeat makes of the row, and the outage that it ends, if it ends one. Pure."""
