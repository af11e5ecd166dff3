"""A loop that stands still is told of, with the place where it does; a process that stood still is not."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.observability.watchdog import LoopWatchdog
from tests.integration.platform.servers import LIMIT, ROOT

STOPPED = Path(__file__).with_name("stopped_for_a_while.py")


class Told(logging.Handler):
    """What the watchdog has told, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.arrived = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.arrived:
            self.records.append(record)
            self.arrived.notify_all()

    def wait_for(self, count: int) -> list[logging.LogRecord]:
        """Blocks whoever calls it: that is how these tests block the loop."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.records) >= count, LIMIT)
            return list(self.records)

    def wait_for_end(self) -> None:
        with self.arrived:
            assert self.arrived.wait_for(
                lambda: any(record.__dict__["action"] == "loop_goes_on" for record in self.records), LIMIT
            )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(autouse=True)
def _listening(told: Told) -> object:
    logger = logging.getLogger("telegate.loop")
    logger.addHandler(told)
    yield
    logger.removeHandler(told)


def block_until_it_is_noticed(told: Told, count: int = 1) -> None:
    told.wait_for(count)


async def test_a_blocked_loop_is_told_of_once_with_the_place_and_once_when_it_goes_on(told: Told) -> None:
    with LoopWatchdog(limit=0.3, tick=0.05):
        await asyncio.sleep(0.1)
        assert told.records == []
        block_until_it_is_noticed(told)
        # Longer than several looks: it is one blockage, and told of once.
        time.sleep(0.3)  # noqa: ASYNC251 - to block the loop is what this is about
        assert len(told.records) == 1
        beginning, end = await asyncio.to_thread(told.wait_for, 2)
    assert beginning.levelname == "ERROR"
    assert "block_until_it_is_noticed" in beginning.getMessage()
    assert "told.wait_for(count)" in beginning.getMessage()
    assert end.levelname == "WARNING"
    seconds = re.search(r"stood still for (\d+\.\d) s", end.getMessage())
    assert seconds is not None
    assert float(seconds[1]) >= 0.6
    assert [record.__dict__["action"] for record in (beginning, end)] == ["loop_blocked", "loop_goes_on"]


async def test_each_blockage_is_told_of(told: Told) -> None:
    with LoopWatchdog(limit=0.2, tick=0.05) as watchdog:
        for round_ in (0, 1):
            await asyncio.to_thread(lambda: None)
            block_until_it_is_noticed(told, 2 * round_ + 1)
            await asyncio.to_thread(told.wait_for, 2 * round_ + 2)
    assert [record.levelname for record in told.records] == ["ERROR", "WARNING"] * 2
    assert watchdog.blocks == 2
    assert watchdog.blocked_seconds >= 0.4


async def test_a_busy_loop_that_still_turns_is_not_told_of(told: Told) -> None:
    with LoopWatchdog(limit=0.5, tick=0.05):
        until = time.monotonic() + 1.0
        while time.monotonic() < until:  # noqa: ASYNC110 - to keep the loop busy is what this is about
            await asyncio.sleep(0)
    assert told.records == []


async def test_it_ends_with_its_block_and_leaves_no_timer_and_no_thread() -> None:
    before = threading.active_count()
    with LoopWatchdog() as watchdog:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert watchdog._timer is not None
    assert watchdog._timer.cancelled()


def test_a_process_that_was_stopped_is_no_blocked_loop() -> None:
    done = subprocess.run(
        [sys.executable, str(STOPPED)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split() == ["stopped", "went-on"]
    assert done.stderr == ""


async def test_a_blockage_that_kept_the_watchdog_from_looking_is_told_of_afterwards(told: Told) -> None:
    text = _slow_text()
    with LoopWatchdog(limit=0.2, tick=0.02):
        await asyncio.sleep(0.05)
        assert EVIL.match(text) is None
        await asyncio.to_thread(told.wait_for_end)
    seconds = told.records[-1].__dict__["seconds"]
    assert isinstance(seconds, float)
    assert seconds > 0.2


EVIL = re.compile(r"(a+)+b")


def _slow_text() -> str:
    """What takes the expression half a second; it lets no other thread run meanwhile."""
    for length in range(18, 40):
        began = time.monotonic()
        EVIL.match("a" * length)
        if time.monotonic() - began > 0.5:
            return "a" * length
    raise AssertionError("This machine is too fast for this test.")
