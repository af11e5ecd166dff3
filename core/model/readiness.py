"""Readiness: whether a process can take requests, and what each thing that it needs says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this process can take requests, and what each thing it needs says.

    Attributes:
        ready: whether a router should send requests here.
        checks: `ok`, or a sentence that says what is wrong, by name.
        waiters: HTTP requests of this process that are waiting for a task.
    """

    ready: bool
    checks: Mapping[str, str]
    waiters: int
