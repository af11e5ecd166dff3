"""Figures of several processes: kept, told by whichever is asked, and never told lower than before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.model.errors import StorageUnavailable, TelegateError
from infra.observability.metrics.descriptions import written
from infra.observability.metrics.families import Samples
from infra.observability.metrics.sharing import ALONE, Metrics, process_name
from infra.store.errors import StorageBusy
from infra.store.sql.metrics import Kept, Open

AWAY = StorageUnavailable("The database cannot be reached.", retry_after=3)


@dataclass
class MemoryFigures:
    """The port `FigureStore` in memory.

    Attributes:
        trouble: what every call raises.
        holding: what a call waits for before it does anything.
        kept_once: set when something was kept, or could not be.
    """

    rows: dict[str, tuple[int, Kept]] = field(default_factory=dict)
    trouble: TelegateError | None = None
    unreadable: bool = False
    holding: Callable[[], Awaitable[object]] | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0

    async def keep_figures(self, process: str, seq: int, told: str) -> None:
        self.tries += 1
        self.tried.set()
        if self.holding is not None:
            await self.holding()
        self._fail()
        if process not in self.rows or self.rows[process][0] < seq:
            self.rows[process] = seq, Kept(process, self.tries, told)

    async def all_figures(self) -> Sequence[Kept]:
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
    store: MemoryFigures
    shared: bool = True
    counted: int = 0
    duty: dict[str, list[tuple[tuple[str, ...], float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.collect, self.store, self.name, self.shared)

    def collect(self) -> Samples:
        self.counted += 1
        return {"telegate_hints_dropped_total": [((), self.counted)], **self.duty}

    async def told(self) -> dict[tuple[str, str], float]:
        """Each value by its metric's name and its `process`."""
        body = (await self.metrics.tell("")).body.decode()
        return {
            (sample.name, sample.labels.get("process", "")): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if not set(sample.labels) - {"process"}
        }


@pytest.fixture
def store() -> MemoryFigures:
    return MemoryFigures()


async def test_whichever_process_is_asked_tells_the_figures_of_all(store: MemoryFigures) -> None:
    one, other = Process("one", store), Process("other", store, counted=100)
    await other.told()
    told = await one.told()
    assert told["telegate_hints_dropped_total", "one"] == 1
    assert told["telegate_hints_dropped_total", "other"] == 101
    assert told["telegate_processes", ""] == 2
    assert told["telegate_database_up", ""] == 1
    assert told["telegate_oldest_queued_seconds", ""] == 12.5


async def test_a_counter_is_told_as_it_was_kept_so_that_it_never_goes_back(store: MemoryFigures) -> None:
    processes = [Process("one", store), Process("other", store)]
    highest: dict[tuple[str, str], float] = {}
    for number in range(20):
        asked = processes[(number // 3) % 2]
        for series, value in (await asked.told()).items():
            if series[0].endswith("_total"):
                assert value >= highest.get(series, 0)
                highest[series] = value
        # What was counted since then is not told before it is kept.
        processes[number % 2].collect()


async def test_what_is_kept_last_is_the_newest_however_slow_the_database(store: MemoryFigures) -> None:
    one, gate = Process("one", store), asyncio.Event()
    store.holding = gate.wait
    asking = [asyncio.create_task(one.told()) for _ in range(5)]
    await store.tried.wait()
    assert one.counted == 1
    gate.set()
    values = [told["telegate_hints_dropped_total", "one"] for told in await asyncio.gather(*asking)]
    assert values[-1] == 5
    assert store.rows["one"][0] == 5


@pytest.mark.parametrize("trouble", [AWAY, StorageBusy("Too much waits.", retry_after=1)])
async def test_without_the_database_it_tells_its_own_under_another_name(
    store: MemoryFigures, trouble: TelegateError
) -> None:
    one, other = Process("one", store), Process("other", store)
    await other.told()
    store.trouble = trouble
    told = await one.told()
    assert told["telegate_database_up", ""] == 0
    assert told["telegate_hints_dropped_total", f"one{ALONE}"] >= 1
    assert {process for _, process in told} == {"", f"one{ALONE}"}
    assert ("telegate_oldest_queued_seconds", "") not in told
    store.trouble = None
    assert {process for _, process in await one.told()} == {"", "one", "other"}


async def test_what_was_kept_but_cannot_be_read_is_told_under_another_name(store: MemoryFigures) -> None:
    one = Process("one", store)
    store.unreadable = True
    assert {process for _, process in await one.told()} == {"", f"one{ALONE}"}


async def test_one_process_on_its_own_keeps_nothing(store: MemoryFigures) -> None:
    one = Process("one", store, shared=False)
    await one.metrics.run()
    await one.metrics.leave()
    assert (await one.told())["telegate_hints_dropped_total", "one"] == 1
    assert not store.tries
    store.trouble = AWAY
    told = await one.told()
    assert told["telegate_hints_dropped_total", "one"] == 2
    assert told["telegate_database_up", ""] == 0


async def test_what_one_tells_for_all_is_told_once_and_the_newest_counts(store: MemoryFigures) -> None:
    before, now = Process("before", store), Process("now", store)
    before.duty = {"telegate_webhook_ok": [((), 1)], "telegate_webhook_pending_updates": [((), 5)]}
    await before.told()
    now.duty = {"telegate_webhook_ok": [((), 0)]}
    told = await now.told()
    assert told["telegate_webhook_ok", ""] == 0
    assert told["telegate_webhook_pending_updates", ""] == 5


async def test_a_process_keeps_its_figures_again_and_again_and_says_once_that_it_cannot(
    store: MemoryFigures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.observability.metrics.sharing.KEEP_EVERY", 0.001)
    one = Process("one", store)
    store.trouble = AWAY
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(one.metrics.run())
        async with asyncio.timeout(10):
            while store.tries < 3:
                store.tried.clear()
                await store.tried.wait()
            store.trouble = None
            while not store.rows:
                store.tried.clear()
                await store.tried.wait()
                await asyncio.sleep(0)
    running.cancel()
    assert [record.__dict__["action"] for record in caplog.records] == ["figures_unkept"]


async def test_the_last_word_does_not_keep_a_process_from_ending(
    store: MemoryFigures, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Process("one", store)
    await one.metrics.leave()
    assert "one" in store.rows
    store.trouble = AWAY
    await one.metrics.leave()
    store.trouble, store.holding = None, asyncio.Event().wait
    monkeypatch.setattr("infra.observability.metrics.sharing.LAST_WORD", 0.01)
    await one.metrics.leave()
    assert store.tries == 3


async def test_figures_of_a_newer_version_are_taken_as_far_as_they_are_known(store: MemoryFigures) -> None:
    newer: Samples = {
        "telegate_hints_dropped_total": [((), 3)],
        "telegate_unheard_of_total": [((), 1)],
        "telegate_waiters": [(("a label more",), 1)],
        "telegate_update_seconds": [((), (1.0, 2, 3))],
        "telegate_policy_refused": [((), (1.0, 2.0))],
    }
    await store.keep_figures("newer", 1, written(newer))
    told = await Process("one", store).told()
    assert {name for name, process in told if process == "newer"} == {"telegate_hints_dropped_total"}


def test_a_process_has_a_name_that_nobody_else_has() -> None:
    names = {process_name(f"{4711}-01K3ZQ8T7M9V5B2N4C6D8F{number:04}") for number in range(10)}
    assert len(names) == 10
    assert all(name.endswith(tuple("0123456789")) and " " not in name for name in names)
