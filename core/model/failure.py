"""Failures: why something is not done, or not done yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task is not done, or not done yet.

    Attributes:
        code: one of the codes of `core.model.errors`.
        detail: a sentence for the service's author.
        error_code: Telegram's number, when Telegram answered.
        description: Telegram's words, when Telegram answered.
    """

    code: str
    detail: str
    error_code: int | None = None
    description: str | None = None


LOST: Final = Failure("outcome_unknown", "The gateway stopped while it was sending this.")
"""The process that was sending a task died, so nobody knows what became of it."""

BUG: Final = Failure("outcome_unknown", "The gateway made a mistake while it was sending this.")
"""The handler of a job raised something that it should not."""

EXPIRED: Final = Failure("telegram_unavailable", "Telegram could not be reached before the task expired.")
HELD: Final = Failure(
    "telegram_unavailable",
    "Telegram asks for fewer calls, and to wait before anything else is sent here. It is sent afterwards.",
)
NO_TURN: Final = Failure(
    "telegram_unavailable", "Telegram's limits did not let this through before it expired."
)
STOPPED: Final = Failure("telegram_unavailable", "The gateway stopped before it came to this.")
