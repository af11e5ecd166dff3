"""Answers: what one person said to a question."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.model.person import Person


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person said to a question; `by` is None when nobody did and `on_expiry` counts."""

    at: datetime
    by: Person | None = None
    choice: str | None = None
    label: str | None = None
    text: str | None = None
    value: str | None = None
    reason: str | None = None
