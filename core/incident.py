"""Incidents: what is wrong for a while is logged when it begins and when it ends, and not in between."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(slots=True)
class Incident:
    """One thing that can go wrong.

    Attributes:
        log: where it is told.
        active: whether it is wrong now.
    """

    log: logging.Logger
    active: bool = False

    def begin(
        self, message: str, *args: object, action: str, level: int = logging.WARNING, **extra: object
    ) -> bool:
        """It is wrong; returns whether that is new. The arguments are those of `Logger.log`."""
        is_new = not self.active
        self.active = True
        if is_new:
            self.log.log(level, message, *args, extra={"action": action, **extra}, stacklevel=2)
        return is_new

    def end(self, message: str, *args: object, action: str, **extra: object) -> bool:
        """It is right; returns whether that is new."""
        is_new = self.active
        self.active = False
        if is_new:
            self.log.info(message, *args, extra={"action": action, **extra}, stacklevel=2)
        return is_new
