"""What is agreed with Telegram about the webhook, and how it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

HANDLED_UPDATES: Final = ("message", "callback_query", "my_chat_member")
"""What we ask Telegram for; always sent, because Telegram keeps an earlier list when it is left out."""

MAX_CONNECTIONS: Final = 40
"""How many updates Telegram delivers at a time: its default."""

PATH: Final = "/telegram/webhook"
"""Where Telegram posts to, behind `PUBLIC_URL`."""

MENU: Final = {
    "start": "What this bot does",
    "help": "The commands that you may use",
    "whoami": "Your Telegram id",
}
"""The command menu that everybody sees."""

LONGEST_RETRY = 300.0
"""Seconds; a webhook that still fails is tried again, and fails again, sooner than this."""


@dataclass(frozen=True, slots=True)
class WebhookState:
    """What `getWebhookInfo` says. Source: https://core.telegram.org/bots/api#webhookinfo.

    Attributes:
        url: where Telegram posts to, or empty for nowhere.
        pending: updates that wait for delivery.
        last_error: Telegram's words about the last delivery that failed, kept after later successes.
        last_error_at: when that was.
        own_certificate: whether a certificate of ours was uploaded.
        ip_address: the address Telegram posts to.
        max_connections: how many updates Telegram delivers at a time.
        allowed_updates: which kinds of updates Telegram delivers; empty for its default.
    """

    url: str
    pending: int
    last_error: str | None = None
    last_error_at: datetime | None = None
    own_certificate: bool = False
    ip_address: str | None = None
    max_connections: int | None = None
    allowed_updates: tuple[str, ...] = ()

    @property
    def lacks_updates(self) -> bool:
        """Whether Telegram keeps kinds of updates to itself that we need."""
        return bool(self.allowed_updates) and not set(HANDLED_UPDATES) <= set(self.allowed_updates)

    def error_age(self, now: datetime) -> float | None:
        """Seconds since the last delivery that failed, or None when none did."""
        return None if self.last_error_at is None else max(0.0, (now - self.last_error_at).total_seconds())

    def is_failing(self, now: datetime) -> bool:
        """Whether deliveries fail now: Telegram keeps an old error, so it must be new, and updates wait.

        An update that waits for too long is dropped; then this tells no longer that anything fails.
        """
        age = self.error_age(now)
        return age is not None and age <= LONGEST_RETRY and self.pending > 0
