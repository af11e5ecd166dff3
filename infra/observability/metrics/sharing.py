"""Sharing: whichever process is asked, it tells the figures of all processes that share the database."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, Protocol

from core.metrics import Exposition
from core.model.errors import StorageUnavailable
from infra.observability.metrics.descriptions import read, written
from infra.observability.metrics.families import FAMILIES, Samples, Scope
from infra.store.sql.metrics import Kept, Open

log = logging.getLogger("telegate.metrics")

KEEP_EVERY: Final = 10.0
"""Seconds between two times that a process keeps its figures for the others."""

LAST_WORD: Final = 1.0
"""Seconds that a process which ends waits for the database."""

ALONE: Final = "/alone"
"""Follows the name of a process that could not keep the figures which it tells.

A counter must never be told lower than before, or Prometheus takes it for one that has begun anew, and adds
all of it once more. What was told and not kept is unknown to the process that is asked next, so it has a
series of its own.
"""


class FigureStore(Protocol):
    """The figures in the database. Every method raises `StorageUnavailable`."""

    async def keep_figures(self, process: str, seq: int, told: str) -> None:
        """Keep the figures of a process; see `SqlFigureStore`."""

    async def all_figures(self) -> Sequence[Kept]:
        """The figures of every process that lives."""

    async def open_tasks(self) -> Open:
        """How many tasks are not final."""


def process_name(holder: str) -> str:
    """A name for this process that says where it runs, and that no other process has.

    Args:
        holder: what tells this process from all others.
    """
    return f"{socket.gethostname()}-{os.getpid()}-{holder[-6:].lower()}"


@dataclass(slots=True)
class Metrics:
    """Tells everybody's figures, and keeps this process's for the others.

    Args:
        collect: this process's figures.
        store: where they are kept.
        name: of this process.
        shared: whether there may be other processes.
    """

    collect: Callable[[], Samples]
    store: FigureStore
    name: str
    shared: bool
    _kept: int = 0
    _failing: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def tell(self, accept: str) -> Exposition:
        """Everybody's figures as text; without the database, this process's.

        Args:
            accept: the request's header of that name.
        """
        processes, duty = await self._everybody()
        shared = {**duty, **await self._of_all(len(processes))}
        return await asyncio.to_thread(_expose, processes, shared, accept)

    async def run(self) -> None:
        """Keep this process's figures again and again, until cancelled; alone, return."""
        while self.shared:
            try:
                await self._keep()
                self._failing = False
            except StorageUnavailable as error:
                self._say(error.detail)
            await asyncio.sleep(KEEP_EVERY)

    async def leave(self) -> None:
        """Keep the figures a last time, so that the next scrape misses nothing."""
        if self.shared:
            with suppress(TimeoutError, StorageUnavailable):
                async with asyncio.timeout(LAST_WORD):
                    await self._keep()

    async def _keep(self) -> None:
        # One after the other, so that what is kept last is the newest.
        async with self._turn:
            self._kept += 1
            await self.store.keep_figures(self.name, self._kept, written(self.collect()))

    async def _everybody(self) -> tuple[Mapping[str, Samples], Samples]:
        """The figures of each process, and what the one on duty tells for all.

        They are told as they were kept, also this process's own: see `ALONE`.
        """
        if not self.shared:
            own = self.collect()
            return {self.name: own}, _told_for_all([own])
        try:
            await self._keep()
            kept = sorted(await self.store.all_figures(), key=lambda one: one.at)
        except StorageUnavailable:
            own = self.collect()
            return {self.name + ALONE: own}, _told_for_all([own])
        processes = {one.process: read(one.told) for one in kept}
        return processes, _told_for_all(processes.values())

    async def _of_all(self, processes: int) -> Samples:
        figures: dict[str, list[tuple[tuple[str, ...], float]]] = {"telegate_processes": [((), processes)]}
        try:
            found = await self.store.open_tasks()
        except StorageUnavailable:
            return {**figures, "telegate_database_up": [((), 0)]}
        return {
            **figures,
            "telegate_database_up": [((), 1)],
            "telegate_tasks": [((state,), count) for state, count in found.by_state.items()],
            "telegate_oldest_queued_seconds": [((), found.oldest)],
        }

    def _say(self, detail: str) -> None:
        if not self._failing:
            log.warning(
                "This process's figures could not be kept for the others: %s",
                detail,
                extra={"action": "figures_unkept"},
            )
        self._failing = True


def _told_for_all(processes: Iterable[Samples]) -> Samples:
    """What the process on duty has seen; when the duty has just changed, the newest counts.

    Args:
        processes: the one that was kept last comes last.
    """
    names = [family.name for family in FAMILIES.values() if family.scope is Scope.DUTY]
    return {name: samples[name] for samples in processes for name in names if samples.get(name)}


def _expose(processes: Mapping[str, Samples], shared: Samples, accept: str) -> Exposition:
    told: Exposition = import_module("infra.observability.metrics.exposition").expose(
        processes, shared, accept
    )
    return told
