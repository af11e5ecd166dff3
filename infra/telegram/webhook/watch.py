"""Looks at how the webhook is doing, as Telegram tells it; from one process, for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from core.cluster.heartbeat import Attending, Finding, Outage
from core.model.errors import StorageUnavailable
from core.ports import NotReached, Rejected, Unclear
from infra.telegram.client import TelegramClient
from infra.telegram.webhook.diagnosis import Judge, Trouble, TroubleKind
from infra.telegram.webhook.heal import Healer
from infra.telegram.webhook.state import WebhookState

log = logging.getLogger("telegate.telegram")

_OK = "ok"
_NOTHING_YET = Finding("Telegram has not answered yet.", "Telegram has not told yet.")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often Telegram is asked, in seconds.

    Attributes:
        look: between two looks.
        look_again: until the next one while something is wrong: somebody is probably mending it.
    """

    look: float = 60.0
    look_again: float = 5.0


@dataclass(slots=True)
class WebhookFigures:
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


class WebhookWatch:
    """Knows what `/readyz` says about Telegram, says it in the log when it changes, and mends it if asked to.

    Args:
        client: asks Telegram.
        url: where the webhook should point, or None when nobody has said.
        attending: knows whether it is up to this process, and what other processes have found.
        disarm: told about a time in which no update arrived, so that presses may have been lost.
        healer: sets the webhook again; None leaves that to the operator.
        pace: how often to look.

    Attributes:
        figures: what is counted in this process.
    """

    def __init__(
        self,
        client: TelegramClient,
        url: str | None,
        attending: Attending,
        *,
        disarm: Callable[[Outage], Awaitable[None]],
        healer: Healer | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.figures = WebhookFigures()
        self.healer = healer
        self._client = client
        self._attending = attending
        self._disarm = disarm
        self._pace = pace or Pace()
        self._judge = Judge(url, self._now())
        self._said = _OK
        self._seen: TroubleKind | None = None
        self._outage: Outage | None = None

    @property
    def telegram(self) -> str:
        """`ok`, or why Telegram does not answer."""
        return self._finding.telegram

    @property
    def webhook(self) -> str:
        """`ok`, or what is wrong with the webhook."""
        return self._finding.webhook

    async def run(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Learn who the bot is, and look again and again while it is up to this process, until cancelled."""
        async with asyncio.TaskGroup() as group:
            # Telegram may be away for long, and that is worth telling.
            group.create_task(self._client.identify())
            await self._keep_looking(sleep)

    async def _keep_looking(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        while True:
            if not self._attending.on_duty:
                await self._attending.until_on_duty()
                # What happened while others looked was theirs to judge.
                self._judge.well_at = self._now()
            await self.look()
            is_well = self.webhook == _OK and self.telegram == _OK
            await sleep(self._pace.look if is_well else self._pace.look_again)

    async def look(self) -> None:
        """Ask Telegram once, tell what has changed, and do something about it."""
        self.figures.looks += 1
        try:
            state = await self._client.webhook_info()
        except (NotReached, Rejected, Unclear) as error:
            self.figures.failed_looks += 1
            self._find(Finding(error.detail, self._finding.webhook))
            return
        trouble = await self._judged(state)
        self.figures.pending = state.pending
        self.figures.state = _OK if trouble is None else trouble.kind.value
        self._find(Finding(_OK, _OK if trouble is None else trouble.words))
        self._say(trouble)
        await self._end_outage()

    async def _judged(self, state: WebhookState) -> Trouble | None:
        now = self._now()
        self._outage = self._judge.look(state, now, self._attending.received_at) or self._outage
        trouble, since = self._judge.trouble, self._judge.since
        if self.healer is None:
            return trouble
        if trouble is None or since is None:
            self.healer.well(now)
            return None
        return await self.healer.heal(trouble, since, now)

    def _find(self, finding: Finding) -> None:
        if finding != self._attending.finding:
            self._attending.finding = finding
            self._attending.hurry()

    def _say(self, trouble: Trouble | None) -> None:
        """Tell what has changed; a trouble only when two looks in a row have seen it.

        A restart, or a webhook that is set a moment after the first start, is nothing to wake anybody for.
        """
        words = _OK if trouble is None else trouble.words
        seen, self._seen = self._seen, None if trouble is None else trouble.kind
        if words == self._said or (trouble is not None and trouble.kind is not seen):
            return
        self._said = words
        if trouble is None:
            log.info("The webhook is well again.", extra={"action": "webhook_well"})
            return
        place = "" if trouble.place is None else f" It points to {trouble.place}."
        log.error(
            "Something is wrong with the webhook. %s%s",
            words,
            place,
            extra={
                "action": "webhook_trouble",
                "trouble": trouble.kind.value,
                "pending": self.figures.pending,
            },
        )

    async def _end_outage(self) -> None:
        if self._outage is None:
            return
        try:
            await self._disarm(self._outage)
        except StorageUnavailable as error:
            log.warning(
                "Open questions could not be told to ask for another tap; they are told later: %s",
                error.detail,
                extra={"action": "disarm_failed"},
            )
        else:
            self._outage = None

    @property
    def _finding(self) -> Finding:
        own, told = self._attending.finding, self._attending.told
        return (own if self._attending.on_duty else told) or _NOTHING_YET

    def _now(self) -> datetime:
        return self._attending.drafter.clock.now()
