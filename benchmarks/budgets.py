"""What the server may cost. Ratios are within one run: absolute numbers differ from machine to machine."""

from __future__ import annotations

from typing import Final

WEBHOOK_TO_BARE: Final = 0.5
WEBHOOK_TO_PTB: Final = 2.0
POSTGRESQL_WEBHOOK_TO_BARE: Final = 0.5
MESSAGES_TO_BARE: Final = 0.25
MESSAGES_TO_PTB: Final = 10.0

# On each database, and between two processes.
ANSWER_P50_MS: Final = 3.0
ANSWER_P99_MS: Final = 10.0

KIB_PER_WAITER: Final = 25.0
MANY_WAITERS: Final = 10_000
"""How many wait when the two budgets below are judged."""

DRAIN_SECONDS: Final = 2.5
OTHERS_P99_MS: Final = 250.0

START_TO_BARE: Final = 3.0
MIB_AT_REST: Final = 90.0
