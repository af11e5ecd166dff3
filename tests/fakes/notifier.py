"""Notifiers: one that brings every hint at once, and one that drops every hint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class PromptNotifier:
    """The port `Notifier`; brings every hint to every subscriber before `hint` returns.

    Attributes:
        hints: every task id that was hinted at, in order.
        trouble: what it says is wrong with hints; set it as you like.
        dropped: how many hints it says were lost; set it as you like.
        gap: set it when hints may have been missed.
    """

    def __init__(self) -> None:
        self.hints: list[str] = []
        self.trouble: str | None = None
        self.dropped = 0
        self.gap = asyncio.Event()
        self._subscribers: list[Callable[[Iterable[str]], None]] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Notifier.hint`."""
        ids = list(task_ids)
        self.hints.extend(ids)
        for wake in self._subscribers:
            wake(ids)

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """See `core.ports.Notifier.subscribe`."""
        self._subscribers.append(wake)

    async def missed(self) -> None:
        """See `core.ports.Notifier.missed`."""
        await self.gap.wait()
        self.gap.clear()

    async def run(self) -> None:
        """See `core.ports.Notifier.run`."""


class DeafNotifier(PromptNotifier):
    """The port `Notifier`; drops every hint, as a notifier may: a hint can only cost time."""

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """See `core.ports.Notifier.subscribe`; nobody is ever called."""
