"""What the tests of jobs say, and what Telegram says to it."""

from __future__ import annotations

from typing import Final

from core.model.errors import Rejected
from core.model.failure import Failure
from tests.fakes.messenger import Outcome

LONG: Final = "a" * 10 + "b" * 10 + "c" * 5
"""Three parts, where a Telegram message has ten characters."""

REFUSED: Final = Outcome(
    done=False, error=Rejected(Failure("telegram_rejected", "No.", 400, "Bad Request: no"))
)
