"""The webhook watch: the leader asks Telegram how the webhook is doing, for all processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from core.cluster.heartbeat import Heartbeat
from core.cluster.leader import Leadership
from core.cluster.outage import Outages
from core.incident import Incident
from core.model.cluster import Finding, Outage
from core.model.errors import DeliveryUnknown, NotDelivered, Rejected, StorageUnavailable
from core.model.retry import RetryPolicy
from core.ports import Clock
from infra.telegram.client import TelegramClient
from infra.telegram.webhook.diagnosis import Diagnosis, Trouble, TroubleKind
from infra.telegram.webhook.heal import Healer
from infra.telegram.webhook.state import WebhookState

log = logging.getLogger("telegate.telegram")

LOOK_EVERY: Final = 60.0
"""Seconds between two looks while all is well."""

LOOK_AGAIN: Final = RetryPolicy(first=5.0, longest=5.0)
"""When to look again while something is wrong: somebody is probably mending it."""

_OK: Final = "ok"
_NOTHING_YET: Final = Finding("Telegram has not answered yet.", "Telegram has not told yet.")


@dataclass(slots=True)
class WebhookCounters:
    """What is counted, for whoever measures.

    Attributes:
        state: `ok`, the kind of trouble, or `unknown` before the first look.
        pending: updates that waited for delivery at the last look.
        looks: how often Telegram was asked.
        failed_looks: how often it did not answer.
    """

    state: str = "unknown"
    pending: int = 0
    looks: int = 0
    failed_looks: int = 0


@dataclass(slots=True, kw_only=True)
class WebhookWatch:
    """Knows what `/readyz` says about Telegram, logs when it changes, and mends the webhook if asked to.

    Attributes:
        client: asks Telegram.
        url: where the webhook should point, or None when nobody has said.
        heartbeat: tells the other processes what this one has found, and this one what they have.
        outages: is told of a time in which no update arrived, so that taps may have been lost.
        healer: sets the webhook again; None leaves that to the operator.
        look_every: seconds between two looks while all is well.
        look_again: when to look again while something is wrong.
        counters: what is counted in this process.
    """

    client: TelegramClient
    url: str | None
    heartbeat: Heartbeat
    leadership: Leadership
    outages: Outages
    clock: Clock
    healer: Healer | None = None
    look_every: float = LOOK_EVERY
    look_again: RetryPolicy = LOOK_AGAIN
    counters: WebhookCounters = field(default_factory=WebhookCounters)
    _diagnosis: Diagnosis = field(init=False)
    _logged: str = _OK
    _seen: TroubleKind | None = None
    _outage: Outage | None = None
    _unstored: Incident = field(default_factory=lambda: Incident(log))

    def __post_init__(self) -> None:
        self._diagnosis = Diagnosis(self.url, self.clock.now())

    @property
    def telegram(self) -> str:
        """`ok`, or why Telegram does not answer."""
        return self._finding.telegram

    @property
    def webhook(self) -> str:
        """`ok`, or what is wrong with the webhook."""
        return self._finding.webhook

    @property
    def _finding(self) -> Finding:
        return self.heartbeat.finding or _NOTHING_YET

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Learn who the bot is, and look again and again while this process leads, until cancelled."""
        async with asyncio.TaskGroup() as group:
            # Telegram may be away for long, and that is worth telling.
            group.create_task(self.client.identify())
            await self._keep_looking(sleep)

    async def _keep_looking(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        in_trouble = 0
        while True:
            if not self.leadership.is_leader:
                await self.leadership.until_leader()
                # What happened under another leader was that one's to find out.
                self._diagnosis.well_at = self.clock.now()
            await self.look()
            in_trouble = 0 if (self.webhook, self.telegram) == (_OK, _OK) else in_trouble + 1
            await sleep((self.look_again.delay(in_trouble) if in_trouble else None) or self.look_every)

    async def look(self) -> None:
        """Ask Telegram once, tell what has changed, and do something about it."""
        self.counters.looks += 1
        try:
            state = await self.client.webhook_info()
        except (NotDelivered, Rejected, DeliveryUnknown) as error:
            self.counters.failed_looks += 1
            self.heartbeat.report(Finding(error.detail, self._finding.webhook))
            return
        trouble = await self._diagnosed(state)
        self.counters.pending = state.pending
        self.counters.state = _OK if trouble is None else trouble.kind.value
        self.heartbeat.report(Finding(_OK, _OK if trouble is None else trouble.words))
        self._log_change(trouble)
        await self._end_outage()

    async def _diagnosed(self, state: WebhookState) -> Trouble | None:
        now = self.clock.now()
        self._outage = self._diagnosis.look(state, now, self.heartbeat.received_at) or self._outage
        trouble, since = self._diagnosis.trouble, self._diagnosis.since
        if self.healer is None:
            return trouble
        if trouble is None or since is None:
            self.healer.well(now)
            return None
        return await self.healer.heal(trouble, since, now)

    def _log_change(self, trouble: Trouble | None) -> None:
        """Log what has changed; a trouble only when two looks in a row have seen it.

        A restart, or a webhook that is set a moment after the first start, is nothing to wake anybody for.
        """
        words = _OK if trouble is None else trouble.words
        seen, self._seen = self._seen, None if trouble is None else trouble.kind
        if words == self._logged or (trouble is not None and trouble.kind is not seen):
            return
        self._logged = words
        if trouble is None:
            log.info("The webhook is well again.", extra={"action": "webhook_well"})
            return
        host = "" if trouble.host is None else f" It points to {trouble.host}."
        log.error(
            "Something is wrong with the webhook. %s%s",
            words,
            host,
            extra={
                "action": "webhook_trouble",
                "trouble": trouble.kind.value,
                "pending": self.counters.pending,
            },
        )

    async def _end_outage(self) -> None:
        if self._outage is None:
            return
        try:
            await self.outages.reprompt(self._outage)
        except StorageUnavailable as error:
            self._unstored.begin(
                "Open questions could not be told to ask for another tap; they are told later: %s",
                error.detail,
                action="disarm_failed",
            )
        else:
            # The log has just said so: this incident ends without a line of its own.
            self._outage, self._unstored = None, Incident(log)
