"""The clock that deadlines go by does not jump."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from infra.observability import clock as clock_module
from infra.observability.clock import SystemClock, counter, wall_clock
from tests.fakes.machine import HOUR, TEN_MINUTES, Machine

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_it_begins_with_the_machine_s_time_and_goes_on_by_the_counter() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == START
    machine.pass_time(1.234)
    assert clock.now() == START + timedelta(seconds=1.234)
    assert clock.now().tzinfo is UTC


@pytest.mark.parametrize("jump", [TEN_MINUTES, -TEN_MINUTES])
def test_it_does_not_follow_a_clock_that_somebody_sets(jump: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(60)
    machine.set_by(jump)
    machine.pass_time(1)
    assert clock.now() == START + timedelta(seconds=61)
    assert clock.machine_is_ahead() == jump


def test_an_hour_of_sleep_has_passed_when_the_machine_wakes() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(HOUR)
    assert clock.now() == START + timedelta(hours=1)
    assert clock.machine_is_ahead() == 0


def test_a_process_that_starts_after_the_clock_was_set_has_the_new_time() -> None:
    machine = Machine()
    machine.set_by(-TEN_MINUTES)
    assert machine.clock().now() == START - timedelta(minutes=10)


def test_a_better_clock_can_correct_it() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.move(-2_500)
    assert clock.now() == START - timedelta(seconds=2.5)
    assert clock.machine_is_ahead() == 2.5


def test_the_real_clock_shows_the_time_and_never_goes_back() -> None:
    clock = SystemClock()
    assert abs(clock.machine_is_ahead()) < 1
    assert abs(clock.milliseconds() - time.time() * 1000) < 1000
    readings = [clock.milliseconds() for _ in range(1000)]
    assert readings == sorted(readings)


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_BOOTTIME is Linux's")
def test_the_real_counter_counts_while_the_machine_sleeps() -> None:
    assert clock_module._COUNTER == time.CLOCK_BOOTTIME
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    assert before <= counter() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    assert abs(wall_clock() - time.time() * 1000) < 1000
