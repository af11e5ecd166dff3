"""Sharing: whichever process is asked exposes the metrics of all processes that share the database."""

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

from core.incident import Incident
from core.metrics import Exposition
from core.model.errors import StorageUnavailable
from infra.observability.metrics.families import FAMILIES, Samples, Scope
from infra.observability.metrics.serialization import deserialize, serialize
from infra.store.sql.metrics import Open, SavedMetrics

log = logging.getLogger("telegate.metrics")

SAVE_EVERY: Final = 10.0
"""Seconds between two times that a process saves its metrics for the others."""

FLUSH_TIMEOUT: Final = 1.0
"""Seconds that a process which ends waits for the database."""

UNSAVED: Final = "/alone"
"""Follows the name of a process that exposes metrics which it could not save.

A counter must never be exposed lower than before, or Prometheus takes it for one that has begun anew, and
adds all of it once more. What was exposed and not saved is unknown to the process that is asked next, so it
has a series of its own.
"""


class MetricsStore(Protocol):
    """The metrics in the database. Every method raises `StorageUnavailable`."""

    async def save_metrics(self, process: str, seq: int, told: str) -> None:
        """Save the metrics of a process, as text; a `seq` that is lower than the last one changes nothing."""

    async def load_metrics(self) -> Sequence[SavedMetrics]:
        """The metrics of every process that lives."""

    async def open_tasks(self) -> Open:
        """How many tasks are not final."""


def process_name(holder: str) -> str:
    """A name for this process that says where it runs, and that no other process has.

    Args:
        holder: what tells this process from all others.
    """
    return f"{socket.gethostname()}-{os.getpid()}-{holder[-6:].lower()}"


@dataclass(slots=True)
class SharedMetrics:
    """Exposes the metrics of all processes, and saves this process's for the others.

    Args:
        collect: this process's metrics.
        store: where they are saved.
        name: of this process.
        shared: whether there may be other processes.
    """

    collect: Callable[[], Samples]
    store: MetricsStore
    name: str
    shared: bool
    _saves: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unsaved: Incident = field(default_factory=lambda: Incident(log))

    async def expose(self, accept: str) -> Exposition:
        """The metrics of all processes as text; without the database, this process's.

        Args:
            accept: the request's header of that name.
        """
        processes = await self._by_process()
        shared = {**_of_leader(processes.values()), **await self._of_database(len(processes))}
        return await asyncio.to_thread(_expose, processes, shared, accept)

    async def run(self) -> None:
        """Save this process's metrics again and again, until cancelled; alone, return."""
        while self.shared:
            try:
                await self._save()
                self._unsaved.end("Metrics are saved for the other processes again.", action="metrics_saved")
            except StorageUnavailable as error:
                self._unsaved.begin(
                    "Metrics could not be saved for the other processes: %s",
                    error.detail,
                    action="metrics_unsaved",
                )
            await asyncio.sleep(SAVE_EVERY)

    async def flush(self) -> None:
        """Save the metrics a last time, so that the next scrape misses nothing."""
        if self.shared:
            with suppress(TimeoutError, StorageUnavailable):
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    await self._save()

    async def _save(self) -> None:
        # One after the other, so that what is saved last is the newest.
        async with self._turn:
            self._saves += 1
            await self.store.save_metrics(self.name, self._saves, serialize(self.collect()))

    async def _by_process(self) -> Mapping[str, Samples]:
        """The metrics of each process, the one that saved last at the end.

        They are as they were saved, also this process's own: see `UNSAVED`.
        """
        if not self.shared:
            return {self.name: self.collect()}
        try:
            await self._save()
            saved = sorted(await self.store.load_metrics(), key=lambda one: one.at)
        except StorageUnavailable:
            return {self.name + UNSAVED: self.collect()}
        return {one.process: deserialize(one.told) for one in saved}

    async def _of_database(self, processes: int) -> Samples:
        samples: dict[str, list[tuple[tuple[str, ...], float]]] = {"telegate_processes": [((), processes)]}
        try:
            found = await self.store.open_tasks()
        except StorageUnavailable:
            return {**samples, "telegate_database_up": [((), 0)]}
        return {
            **samples,
            "telegate_database_up": [((), 1)],
            "telegate_tasks": [((state,), count) for state, count in found.by_state.items()],
            "telegate_oldest_queued_seconds": [((), found.oldest)],
        }


def _of_leader(processes: Iterable[Samples]) -> Samples:
    """What the leader has seen; when the leader has just changed, the newest counts.

    Args:
        processes: the one that saved last comes last.
    """
    names = [family.name for family in FAMILIES.values() if family.scope is Scope.LEADER]
    return {name: samples[name] for samples in processes for name in names if samples.get(name)}


def _expose(processes: Mapping[str, Samples], shared: Samples, accept: str) -> Exposition:
    exposition: Exposition = import_module("infra.observability.metrics.exposition").expose(
        processes, shared, accept
    )
    return exposition
