"""Diagnosis: what is wrong with the webhook, concluded from one look at it after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from core.cluster.outage import outage_between
from core.model.cluster import Outage
from infra.telegram.webhook.state import LONGEST_RETRY, WebhookState

SILENT_AFTER: Final = timedelta(seconds=120)
"""Updates that wait for longer than this, while none arrives and Telegram tells no error, are not brought."""

_SET = "Run: telegate webhook set"
_REACH = "Check that the address is reached from outside."
# By what Telegram says of our own answers.
_ADVICE: Final[Mapping[str, str]] = {
    "401 Unauthorized": f"The secret is not the one that Telegram was given. {_SET}",
    "403 Forbidden": "The gateway refuses plain HTTP: set TRUSTED_PROXIES to how many routers in front of it "
    "end TLS.",
}


class TroubleKind(StrEnum):
    """What can be wrong."""

    UNSET = "unset"
    STOLEN = "stolen"
    PARTIAL = "partial"
    FAILING = "failing"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong now.

    Attributes:
        words: for `/readyz` and the log; the same as long as nothing changes.
        host: which one has the webhook instead of us, for the log.
    """

    kind: TroubleKind
    words: str
    host: str | None = None


@dataclass(slots=True)
class Diagnosis:
    """Remembers earlier looks, because one alone does not tell.

    Telegram keeps its last error after later successes, drops updates that wait for too long, and counts an
    update that is on its way as one that waits.

    Args:
        url: where the webhook should point, or None when nobody has said.
        well_at: when updates are last known to have arrived; at first, since when it is looked at.

    Attributes:
        trouble: what the last look told; None when all is well.
        since: when the trouble was first seen.
    """

    url: str | None
    well_at: datetime
    trouble: Trouble | None = None
    since: datetime | None = None
    _received_at: datetime | None = None
    _waiting_since: datetime | None = None
    _interrupted: bool = False

    def look(self, state: WebhookState, now: datetime, received_at: datetime | None) -> Outage | None:
        """Conclude from one more look.

        Args:
            state: what Telegram said.
            now: when it said so.
            received_at: when Telegram last brought an update, to whichever process.

        Returns:
            The time in which no update arrived, when it is over and was long.
        """
        arrived = received_at is not None and received_at != self._received_at
        self._received_at = received_at
        if state.pending == 0 or arrived:
            self._waiting_since = None
        if state.pending > 0 and self._waiting_since is None:
            self._waiting_since = now
        self.trouble = self._find(state, now, arrived=arrived)
        self.since = None if self.trouble is None else (self.since or now)
        return self._outage(state, now, received_at if arrived else None)

    def _find(self, state: WebhookState, now: datetime, *, arrived: bool) -> Trouble | None:
        if not state.url:
            return Trouble(TroubleKind.UNSET, f"No webhook is set. {_SET}")
        if self.url is not None and state.url != self.url:
            words = f"The webhook points somewhere else. {_SET}"
            return Trouble(TroubleKind.STOLEN, words, urlsplit(state.url).hostname)
        if state.lacks_updates:
            words = f"Telegram posts other kinds of updates than needed. {_SET}"
            return Trouble(TroubleKind.PARTIAL, words)
        if self._fails(state, now, arrived=arrived):
            words = f"Telegram could lately not deliver: {delivery_error(state.last_error)}"
            return Trouble(TroubleKind.FAILING, words)
        if self._waiting_since is not None and now - self._waiting_since > SILENT_AFTER:
            words = "Updates wait at Telegram, but none has arrived for a while, and Telegram tells no error."
            return Trouble(TroubleKind.SILENT, words)
        return None

    def _fails(self, state: WebhookState, now: datetime, *, arrived: bool) -> bool:
        if state.is_failing(now):
            return True
        # Nothing waits any more, and nothing has come: Telegram has dropped what it could not deliver.
        age = state.error_age(now)
        still = self.trouble is not None and self.trouble.kind is TroubleKind.FAILING and not arrived
        return still and age is not None and age <= LONGEST_RETRY

    def _outage(self, state: WebhookState, now: datetime, arrived_at: datetime | None) -> Outage | None:
        outage = None
        if arrived_at is not None and arrived_at <= self.well_at:
            # Another process received it, and said so late.
            arrived_at = None
        well = self.trouble is None and state.pending == 0
        ended_at = now if well and arrived_at is None else arrived_at
        if ended_at is not None:
            if self._interrupted:
                outage = outage_between(self.well_at, ended_at)
            self.well_at = now if well else ended_at
            self._interrupted = False
        self._interrupted = self._interrupted or (
            self.trouble is not None and self._is_new(self.trouble, state)
        )
        return outage

    def _is_new(self, trouble: Trouble, state: WebhookState) -> bool:
        """Whether it says anything about the time since all was well: an error may be older than that."""
        if trouble.kind is not TroubleKind.FAILING:
            return True
        return state.last_error_at is not None and state.last_error_at > self.well_at


def delivery_error(words: str | None) -> str:
    """Why Telegram could not deliver, in its words, and what to do about it."""
    said = (words or "It does not say why").rstrip(".")
    return f"{said}. {next((advice for status, advice in _ADVICE.items() if status in said), _REACH)}"
