"""An outage of hints: told once when it begins, once when it is serious, and once when it is over."""

from __future__ import annotations

import logging
from typing import Final

from infra.notify.sweep import SWEEP_EVERY_WITHOUT_HINTS

log = logging.getLogger("telegate.wakers")

FAILURES_UNTIL_TROUBLE: Final = 3
"""So many in a row, and nobody relies on hints any more until they travel again."""


class Outage:
    """Counts failures in a row.

    Attributes:
        failures: in a row; 0 while hints travel.
        trouble: what `/readyz` says: before hints have travelled for the first time, and after
            `FAILURES_UNTIL_TROUBLE`; otherwise None.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.trouble: str | None = "Hints have not yet travelled between the processes."
        self._dropped_before = 0

    def failed(self, reason: str, dropped: int) -> bool:
        """Note a failure.

        Args:
            reason: a sentence.
            dropped: how many hints this process has dropped so far.

        Returns:
            Whether it has become serious with this very failure.
        """
        self.failures += 1
        if self.failures == 1:
            self._dropped_before = dropped
            log.warning(
                "Hints do not travel between the processes. %s", reason, extra={"action": "hints_lost"}
            )
        if self.failures < FAILURES_UNTIL_TROUBLE:
            return False
        self.trouble = (
            "Hints do not travel between the processes, so each looks at the tasks it waits for "
            f"every {SWEEP_EVERY_WITHOUT_HINTS:g} s. {reason}"
        )
        if self.failures > FAILURES_UNTIL_TROUBLE:
            return False
        log.warning("%s", self.trouble, extra={"action": "hints_given_up"})
        return True

    def ended(self, dropped: int) -> None:
        """Hints travel.

        Args:
            dropped: as for `failed`.
        """
        if self.failures:
            log.info(
                "Hints travel between the processes again. Not sent in the meantime: %d.",
                dropped - self._dropped_before,
                extra={"action": "hints_back"},
            )
        self.failures = 0
        self.trouble = None
