"""Feedback: what a person sees at once of a tap. Best effort: in memory, within the limits, never stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from core.jobs.background import BackgroundTasks
from core.jobs.kinds.finalize import PRECEDENCE
from core.jobs.limits import Limits
from core.model.effect import Notice, Orphan
from core.model.errors import DeliveryUnknown, NotDelivered
from core.model.job import Priority
from core.model.retry import RetryPolicy
from core.policy.policy import GATEWAY_SERVICE
from core.ports import Clock, Messenger

ACKNOWLEDGING: Final = RetryPolicy(schedule=(0.5, 1.0, 2.0))
"""When an acknowledgement is tried again; later ones nobody would see, the spinner has gone."""

ACKNOWLEDGEMENTS: Final = "acknowledgements"
"""The lane of all acknowledgements: they go to no chat, and a chat that has to wait does not hold them up."""

LONGEST_WAIT: Final = 10.0
"""Seconds that the end of a hold is waited for; after a longer time nobody would see the feedback."""


@dataclass(slots=True, kw_only=True)
class Feedback:
    """Acknowledges taps, and takes buttons off messages whose question nobody knows.

    Attributes:
        limits: of the calls to Telegram.
        precedence: seconds by which a service is told an answer before the person is.
    """

    messenger: Messenger
    limits: Limits
    background: BackgroundTasks
    clock: Clock
    precedence: float = PRECEDENCE
    _stripping: set[Orphan] = field(default_factory=set)

    def acknowledge(self, notice: Notice) -> None:
        """Tell the person who tapped a button what became of it."""
        self.background.start(self._acknowledge(notice))

    def strip(self, orphan: Orphan) -> None:
        """Take the buttons off a message; while that goes on, a second tap there starts nothing."""
        if orphan not in self._stripping:
            self._stripping.add(orphan)
            self.background.start(self._strip(orphan))

    async def _acknowledge(self, notice: Notice) -> None:
        await asyncio.sleep(self.precedence)
        attempts = 0
        while True:
            try:
                # It takes no turn: it is no message, and a crowd that taps must not hold up messages.
                await self._wait_for_hold(ACKNOWLEDGEMENTS)
                await self.messenger.acknowledge(notice.press_id, notice.text, popup=notice.popup)
            except (NotDelivered, DeliveryUnknown) as error:
                await self._hold(ACKNOWLEDGEMENTS, error.retry_after)
                attempts += 1
                pause = ACKNOWLEDGING.delay(attempts)
                if pause is None or (error.retry_after or 0.0) > LONGEST_WAIT:
                    raise
                await asyncio.sleep(pause)
            else:
                return

    async def _strip(self, orphan: Orphan) -> None:
        lane = str(orphan.chat)
        try:
            await self._wait_for_hold(lane)
            await self.limits.rate.turn(lane, GATEWAY_SERVICE, Priority.URGENT)
            await self.messenger.strip(orphan.chat, orphan.message_id)
        except NotDelivered as error:
            # The buttons stay until the next tap.
            await self._hold(lane, error.retry_after)
            raise
        finally:
            self._stripping.discard(orphan)

    async def _wait_for_hold(self, lane: str) -> None:
        """Wait until the lane may go on.

        Raises:
            NotDelivered: that takes too long.
        """
        end = await self.limits.holds.end(lane)
        if end is not None and (left := (end - self.clock.now()).total_seconds()) <= LONGEST_WAIT:
            await asyncio.sleep(left)
            end = await self.limits.holds.end(lane)
        if end is not None:
            raise NotDelivered("Telegram has asked to wait before anything else is sent here.")

    async def _hold(self, lane: str, seconds: float | None) -> None:
        if seconds is not None:
            await self.limits.holds.hold(lane, seconds)
