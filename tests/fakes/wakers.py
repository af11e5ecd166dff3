"""Wakers: one that brings every hint at once, and one that drops every hint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

Wake = Callable[[Iterable[str]], None]


class PromptWaker:
    """The port `Waker`; brings every hint to every subscriber before `hint` returns.

    Attributes:
        hints: every task id that was hinted at, in order.
        steps: every task id whose step was hinted at, in order.
        announced: every task that was announced as followed, in order.
        trouble: what it says is wrong with hints; set it as you like.
        dropped: how many hints it says were lost; set it as you like.
        gap: set it when hints may have been missed.
    """

    def __init__(self) -> None:
        self.hints: list[str] = []
        self.trouble: str | None = None
        self.dropped = 0
        self.gap = asyncio.Event()
        self.steps: list[str] = []
        self.announced: list[str] = []
        self._subscribers: list[Wake] = []
        self._followers: list[Wake] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint`."""
        ids = list(task_ids)
        self.hints.extend(ids)
        self._bring(ids)

    def hint_step(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint_step`."""
        ids = list(task_ids)
        self.steps.extend(ids)
        self._bring_steps(ids)

    def announce(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.announce`."""
        self.announced.extend(task_ids)

    def subscribe(self, wake: Wake, wake_followers: Wake) -> None:
        """See `core.ports.Waker.subscribe`."""
        self._subscribers.append(wake)
        self._followers.append(wake_followers)

    async def missed(self) -> None:
        """See `core.ports.Waker.missed`."""
        await self.gap.wait()
        self.gap.clear()

    async def run(self) -> None:
        """See `core.ports.Waker.run`."""

    def _bring(self, ids: list[str]) -> None:
        for wake in self._subscribers:
            wake(ids)

    def _bring_steps(self, ids: list[str]) -> None:
        for wake in self._followers:
            wake(ids)


class DeafWaker(PromptWaker):
    """The port `Waker`; drops every hint, as a waker may: a hint can only cost time."""

    def _bring(self, ids: list[str]) -> None:
        pass

    def _bring_steps(self, ids: list[str]) -> None:
        pass
