"""Hints inside one process: whoever waits looks before `hint` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final


class LocalWaker:
    """Carries hints inside one process, where none gets lost.

    Attributes:
        trouble: see `core.ports.Waker.trouble`; there never is any.
        dropped: see `core.ports.Waker.dropped`; there are no other processes.
    """

    trouble: Final[str | None] = None
    dropped: Final = 0

    def __init__(self) -> None:
        self._wakes: list[Callable[[Iterable[str]], None]] = []
        self._wakes_of_followers: list[Callable[[Iterable[str]], None]] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint`."""
        ids = tuple(task_ids)
        for wake in self._wakes:
            wake(ids)

    def hint_step(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.hint_step`."""
        ids = tuple(task_ids)
        for wake in self._wakes_of_followers:
            wake(ids)

    def announce(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Waker.announce`; here everybody hears of every step anyway."""

    def subscribe(
        self, wake: Callable[[Iterable[str]], None], wake_followers: Callable[[Iterable[str]], None]
    ) -> None:
        """See `core.ports.Waker.subscribe`."""
        self._wakes.append(wake)
        self._wakes_of_followers.append(wake_followers)

    async def missed(self) -> None:
        """See `core.ports.Waker.missed`; here nothing is, so this never returns."""
        await asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """See `core.ports.Waker.run`; here `hint` has done it all."""
