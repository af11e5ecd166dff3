"""Metrics of several processes: saved, exposed by whichever is asked, and never lower than before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.model.errors import StorageUnavailable, TelegateError
from infra.observability.metrics.families import Samples
from infra.observability.metrics.serialization import serialize
from infra.observability.metrics.sharing import UNSAVED, SharedMetrics, process_name
from infra.store.errors import StorageBusy
from infra.store.sql.metrics import Open, SavedMetrics

AWAY = StorageUnavailable("The database cannot be reached.", retry_after=3)


@dataclass
class MemoryMetrics:
    """The port `MetricsStore` in memory.

    Attributes:
        trouble: what every call raises.
        holding: what a call waits for before it does anything.
        unreadable: whether what was saved cannot be read.
        tried: set when something was saved, or could not be.
    """

    rows: dict[str, tuple[int, SavedMetrics]] = field(default_factory=dict)
    trouble: TelegateError | None = None
    unreadable: bool = False
    holding: Callable[[], Awaitable[object]] | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0

    async def save_metrics(self, process: str, seq: int, told: str) -> None:
        self.tries += 1
        self.tried.set()
        if self.holding is not None:
            await self.holding()
        self._fail()
        if process not in self.rows or self.rows[process][0] < seq:
            self.rows[process] = seq, SavedMetrics(process, self.tries, told)

    async def load_metrics(self) -> Sequence[SavedMetrics]:
        self._fail()
        if self.unreadable:
            raise AWAY
        return [row for _, row in self.rows.values()]

    async def open_tasks(self) -> Open:
        self._fail()
        return Open({"queued": 2, "sending": 1, "asked": 7}, 12.5)

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Process:
    """One process, whose counter moves each time that it is looked at."""

    name: str
    store: MemoryMetrics
    shared: bool = True
    counted: int = 0
    as_leader: dict[str, list[tuple[tuple[str, ...], float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics = SharedMetrics(self.collect, self.store, self.name, self.shared)

    def collect(self) -> Samples:
        self.counted += 1
        return {"telegate_hints_dropped_total": [((), self.counted)], **self.as_leader}

    async def exposed(self) -> dict[tuple[str, str], float]:
        """Each value by its metric's name and its `process`."""
        body = (await self.metrics.expose("")).body.decode()
        return {
            (sample.name, sample.labels.get("process", "")): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if not set(sample.labels) - {"process"}
        }


@pytest.fixture
def store() -> MemoryMetrics:
    return MemoryMetrics()


async def test_whichever_process_is_asked_exposes_the_metrics_of_all(store: MemoryMetrics) -> None:
    one, other = Process("one", store), Process("other", store, counted=100)
    await other.exposed()
    exposed = await one.exposed()
    assert exposed["telegate_hints_dropped_total", "one"] == 1
    assert exposed["telegate_hints_dropped_total", "other"] == 101
    assert exposed["telegate_processes", ""] == 2
    assert exposed["telegate_database_up", ""] == 1
    assert exposed["telegate_oldest_queued_seconds", ""] == 12.5


async def test_a_counter_is_exposed_as_it_was_saved_so_that_it_never_goes_back(store: MemoryMetrics) -> None:
    processes = [Process("one", store), Process("other", store)]
    highest: dict[tuple[str, str], float] = {}
    for number in range(20):
        asked = processes[(number // 3) % 2]
        for series, value in (await asked.exposed()).items():
            if series[0].endswith("_total"):
                assert value >= highest.get(series, 0)
                highest[series] = value
        # What was counted since then is not exposed before it is saved.
        processes[number % 2].collect()


async def test_what_is_saved_last_is_the_newest_however_slow_the_database(store: MemoryMetrics) -> None:
    one, gate = Process("one", store), asyncio.Event()
    store.holding = gate.wait
    asking = [asyncio.create_task(one.exposed()) for _ in range(5)]
    await store.tried.wait()
    assert one.counted == 1
    gate.set()
    values = [exposed["telegate_hints_dropped_total", "one"] for exposed in await asyncio.gather(*asking)]
    assert values[-1] == 5
    assert store.rows["one"][0] == 5


@pytest.mark.parametrize("trouble", [AWAY, StorageBusy("Too much waits.", retry_after=1)])
async def test_without_the_database_it_exposes_its_own_under_another_name(
    store: MemoryMetrics, trouble: TelegateError
) -> None:
    one, other = Process("one", store), Process("other", store)
    await other.exposed()
    store.trouble = trouble
    exposed = await one.exposed()
    assert exposed["telegate_database_up", ""] == 0
    assert exposed["telegate_hints_dropped_total", f"one{UNSAVED}"] >= 1
    assert {process for _, process in exposed} == {"", f"one{UNSAVED}"}
    assert ("telegate_oldest_queued_seconds", "") not in exposed
    store.trouble = None
    assert {process for _, process in await one.exposed()} == {"", "one", "other"}


async def test_what_was_saved_but_cannot_be_read_is_exposed_under_another_name(store: MemoryMetrics) -> None:
    one = Process("one", store)
    store.unreadable = True
    assert {process for _, process in await one.exposed()} == {"", f"one{UNSAVED}"}


async def test_one_process_on_its_own_saves_nothing(store: MemoryMetrics) -> None:
    one = Process("one", store, shared=False)
    await one.metrics.run()
    await one.metrics.flush()
    assert (await one.exposed())["telegate_hints_dropped_total", "one"] == 1
    assert not store.tries
    store.trouble = AWAY
    exposed = await one.exposed()
    assert exposed["telegate_hints_dropped_total", "one"] == 2
    assert exposed["telegate_database_up", ""] == 0


async def test_what_the_leader_knows_is_exposed_once_and_the_newest_counts(store: MemoryMetrics) -> None:
    before, now = Process("before", store), Process("now", store)
    before.as_leader = {"telegate_webhook_ok": [((), 1)], "telegate_webhook_pending_updates": [((), 5)]}
    await before.exposed()
    now.as_leader = {"telegate_webhook_ok": [((), 0)]}
    exposed = await now.exposed()
    assert exposed["telegate_webhook_ok", ""] == 0
    assert exposed["telegate_webhook_pending_updates", ""] == 5


async def test_a_process_that_cannot_save_its_metrics_says_so_once_and_goes_on_trying(
    store: MemoryMetrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.observability.metrics.sharing.SAVE_EVERY", 0.001)
    one = Process("one", store)
    store.trouble = AWAY
    with caplog.at_level(logging.INFO):
        running = asyncio.create_task(one.metrics.run())
        async with asyncio.timeout(10):
            while store.tries < 3:
                store.tried.clear()
                await store.tried.wait()
            store.trouble = None
            while len(caplog.records) < 2:
                store.tried.clear()
                await store.tried.wait()
                await asyncio.sleep(0)
    running.cancel()
    assert "one" in store.rows
    assert [record.__dict__["action"] for record in caplog.records] == ["metrics_unsaved", "metrics_saved"]


async def test_the_last_save_does_not_keep_a_process_from_ending(
    store: MemoryMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Process("one", store)
    await one.metrics.flush()
    assert "one" in store.rows
    store.trouble = AWAY
    await one.metrics.flush()
    store.trouble, store.holding = None, asyncio.Event().wait
    monkeypatch.setattr("infra.observability.metrics.sharing.FLUSH_TIMEOUT", 0.01)
    await one.metrics.flush()
    assert store.tries == 3


async def test_metrics_of_a_newer_version_are_taken_as_far_as_they_are_known(store: MemoryMetrics) -> None:
    newer: Samples = {
        "telegate_hints_dropped_total": [((), 3)],
        "telegate_unheard_of_total": [((), 1)],
        "telegate_waiters": [(("a label more",), 1)],
        "telegate_update_seconds": [((), (1.0, 2, 3))],
        "telegate_policy_refused": [((), (1.0, 2.0))],
    }
    await store.save_metrics("newer", 1, serialize(newer))
    exposed = await Process("one", store).exposed()
    assert {name for name, process in exposed if process == "newer"} == {"telegate_hints_dropped_total"}


def test_a_process_has_a_name_that_nobody_else_has() -> None:
    names = {process_name(f"{4711}-01K3ZQ8T7M9V5B2N4C6D8F{number:04}") for number in range(10)}
    assert len(names) == 10
    assert all(name.endswith(tuple("0123456789")) and " " not in name for name in names)
