"""Hints inside one process: whoever waits looks before `hint` returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final


class LocalNotifier:
    """Carries hints inside one process, where none gets lost.

    Attributes:
        trouble: see `core.ports.Notifier.trouble`; there never is any.
        dropped: see `core.ports.Notifier.dropped`; there are no other processes.
    """

    trouble: Final[str | None] = None
    dropped: Final = 0

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Iterable[str]], None]] = []

    def hint(self, task_ids: Iterable[str]) -> None:
        """See `core.ports.Notifier.hint`."""
        ids = tuple(task_ids)
        for wake in self._subscribers:
            wake(ids)

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """See `core.ports.Notifier.subscribe`."""
        self._subscribers.append(wake)

    async def missed(self) -> None:
        """See `core.ports.Notifier.missed`; here nothing is, so this never returns."""
        await asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """See `core.ports.Notifier.run`; here `hint` has done it all."""
