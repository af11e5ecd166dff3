"""Wakers: one that brings every hint at once, and one that drops every hint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

Wake = Callable[[Iterable[str]], None]


class PromptWaker:
    """The port `Waker`; brings every hint to every subscriber before `hint` returns.

    Attributes:
        hints: every task id that was hinted at, in order.
        trouble: what it says is wrong with hints; set it as you like.
        gap: set it when hints may have been missed.
    """

    def __init__(self) -> None:
        self.hints: list[str] = []
        self.trouble: str | None = None
        self.gap = asyncio.Event()
        self._subscribers: list[Wake] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint`."""
        ids = list(task_ids)
        self.hints.extend(ids)
        self._bring(ids)

    def subscribe(self, wake: Wake) -> None:
        """See `core.ports.Waker.subscribe`."""
        self._subscribers.append(wake)

    async def missed(self) -> None:
        """See `core.ports.Waker.missed`."""
        await self.gap.wait()
        self.gap.clear()

    async def run(self) -> None:
        """See `core.ports.Waker.run`."""

    def _bring(self, ids: list[str]) -> None:
        for wake in self._subscribers:
            wake(ids)


class DeafWaker(PromptWaker):
    """The port `Waker`; drops every hint, as a waker may: a hint can only cost time."""

    def _bring(self, ids: list[str]) -> None:
        pass
