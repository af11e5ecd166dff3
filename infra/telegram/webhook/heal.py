"""Healing: the webhook is set again when something is wrong with it, but not for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from core.model.errors import NotDelivered, TelegateError
from infra.telegram.webhook.diagnosis import Trouble, TroubleKind
from infra.telegram.webhook.register import NotToBeSet, Registration

if TYPE_CHECKING:
    from infra.config.settings import Settings
    from infra.telegram.client import TelegramClient

log = logging.getLogger("telegate.telegram")

INTERVAL: Final = timedelta(seconds=60)
"""The webhook is set at most this often."""

WINDOW: Final = timedelta(minutes=10)
MOST_TRIES: Final = 3
"""Whoever had to set it so often within `WINDOW` is up against another program that does the same."""

PATIENCE: Final = timedelta(seconds=120)
"""So long deliveries may fail before it is set again; most often they only need a moment."""

_GIVEN_UP = (
    f" This server has set it {MOST_TRIES} times in a row and no longer does: either another one does so, "
    "too, or setting it does not help."
)


@dataclass(slots=True)
class Healer:
    """Sets the webhook again.

    Args:
        register: does it.

    Attributes:
        given_up: whether it no longer does, until the webhook has been well for a while.
        times: how often it has set it.
    """

    register: Callable[[], Awaitable[None]]
    given_up: bool = False
    times: int = 0
    _tries: list[datetime] = field(default_factory=list)
    _tried_at: datetime | None = None
    _well_since: datetime | None = None

    @classmethod
    def of(cls, settings: Settings, client: TelegramClient) -> Healer | None:
        """The healer that these settings ask for, or None."""
        if not settings.webhook_heal or settings.public_url is None:
            return None
        try:
            registration = Registration.of(settings)
        except NotToBeSet as error:
            log.warning(
                "WEBHOOK_HEAL has no effect. %s",
                error.detail,
                extra={"action": "webhook_heal_without_effect"},
            )
            return None
        return cls(partial(registration.set, client))

    def well(self, now: datetime) -> None:
        """Nothing is wrong: the longer, the better."""
        self._well_since = self._well_since or now
        if now - self._well_since >= WINDOW:
            self.given_up = False
            self._tries.clear()

    async def heal(self, trouble: Trouble, since: datetime, now: datetime) -> Trouble:
        """Set the webhook if its time has come.

        Args:
            trouble: what is wrong.
            since: when that was first seen.
            now: the time.

        Returns:
            The trouble, and that nothing more is done about it, should that be so.
        """
        self._well_since = None
        if self._may_try(trouble, since, now):
            await self._try(trouble, now)
        return replace(trouble, words=trouble.words + _GIVEN_UP) if self.given_up else trouble

    def _may_try(self, trouble: Trouble, since: datetime, now: datetime) -> bool:
        if trouble.kind in {TroubleKind.FAILING, TroubleKind.SILENT} and now - since < PATIENCE:
            return False
        if self.given_up or (self._tried_at is not None and now - self._tried_at < INTERVAL):
            return False
        self._tries = [at for at in self._tries if now - at < WINDOW]
        self.given_up = len(self._tries) >= MOST_TRIES
        return not self.given_up

    async def _try(self, trouble: Trouble, now: datetime) -> None:
        self._tried_at = now
        try:
            await self.register()
        except TelegateError as error:
            log.warning(
                "The webhook could not be set again. %s",
                error.detail,
                extra={"action": "webhook_heal_failed"},
            )
            if not isinstance(error, NotDelivered):
                # It would most likely fail again. When Telegram was not reached, nothing was tried.
                self._tries.append(now)
            return
        self._tries.append(now)
        self.times += 1
        log.warning(
            "The webhook was set again, because something was wrong with it: %s",
            trouble.words,
            extra={"action": "webhook_healed", "trouble": trouble.kind.value},
        )
