"""Decisions are pure: while one runs, whatever is impure in a test fails.

The fakes that a decision must not use call `refuse_in_decision`: the clock, the generator of ids. A filter on
the loggers of the product does the same for whatever is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_deciding: Final[ContextVar[bool]] = ContextVar("deciding", default=False)


class Impure(AssertionError):
    """A decision has read a clock, minted an id or logged something."""


def refuse_in_decision(what: str) -> None:
    """Fail when a decision is being made.

    Args:
        what: was done, for example `reads the clock`.
    """
    if _deciding.get():
        raise Impure(f"A decision is pure, and this one {what}.")


@contextmanager
def forbid_impurity() -> Iterator[None]:
    """Let whatever is impure fail in here."""
    token = _deciding.set(True)
    try:
        yield
    finally:
        _deciding.reset(token)


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        refuse_in_decision(f"logs: {record.getMessage()}")
        return True


_FILTER: Final = _Filter()


def watch_logs() -> None:
    """Let a line of any of the product's loggers that a decision writes fail."""
    for name in list(logging.root.manager.loggerDict):
        if name == "telegate" or name.startswith("telegate."):
            logging.getLogger(name).addFilter(_FILTER)
