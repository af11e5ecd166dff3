"""Clocks that disagree are logged once for each change, and told by `/readyz` while that lasts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from infra.observability.clock import CHECK_EVERY, SkewWatch
from tests.fakes.machine import TEN_MINUTES, Machine


def date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_clocks_that_agree_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    clock = Machine().clock()
    watch = SkewWatch(clock, shared=False)
    watch.look()
    watch.hear_telegram(date(clock.now()))
    assert watch.clock == "ok"
    assert caplog.records == []


@pytest.mark.parametrize(("jump", "direction"), [(TEN_MINUTES, "ahead of"), (-TEN_MINUTES, "behind")])
def test_a_clock_that_was_set_is_told_with_the_number(
    caplog: pytest.LogCaptureFixture, jump: float, direction: str
) -> None:
    machine = Machine()
    watch = SkewWatch(machine.clock(), shared=False)
    machine.set_by(jump)
    for _ in range(3):
        machine.pass_time(60)
        watch.look()
    assert watch.clock.startswith(f"The machine's clock is 600 s {direction} where it should be")
    assert warnings(caplog) == [watch.clock]
    assert caplog.records[0].__dict__["seconds"] == jump


def test_less_than_thirty_seconds_are_no_news(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    watch = SkewWatch(machine.clock(), shared=False)
    machine.set_by(29.9)
    watch.look()
    assert watch.clock == "ok"
    assert caplog.records == []


def test_each_change_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    machine = Machine()
    watch = SkewWatch(machine.clock(), shared=False)
    for jump in (600.0, 10.0, 40.0, -650.0, 0.0):
        machine.set_by(jump)
        watch.look()
    told = [record.getMessage() for record in caplog.records]
    assert ["600 s" in told[0], "650 s" in told[1], told[2:]] == [True, True, ["The clocks agree again."]]
    assert watch.clock == "ok"


def test_a_database_that_shows_another_time_is_told_of_as_such() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.move(-600_000)
    watch = SkewWatch(clock, shared=True)
    watch.look()
    assert watch.clock.startswith("The machine's clock is 600 s ahead of the database's.")


@pytest.mark.parametrize(
    ("shared", "whose"),
    [(False, "The time by which deadlines go"), (True, "The database's clock, by which deadlines go,")],
)
def test_telegram_s_date_shows_a_clock_that_is_wrong_from_the_start(
    caplog: pytest.LogCaptureFixture, shared: bool, whose: str
) -> None:
    clock = Machine().clock()
    watch = SkewWatch(clock, shared=shared)
    for _ in range(2):
        watch.hear_telegram(date(clock.now() + timedelta(minutes=10)))
    assert watch.clock.startswith(f"{whose} is 600 s behind Telegram's.")
    assert warnings(caplog) == [watch.clock]
    watch.hear_telegram(date(clock.now()))
    assert watch.clock == "ok"


def test_how_far_clocks_are_apart_is_told_in_numbers_however_little_it_is() -> None:
    machine = Machine()
    clock = machine.clock()
    watch = SkewWatch(clock, shared=False)
    assert watch.seconds == {}
    machine.set_by(2.5)
    watch.look()
    assert watch.seconds == {"machine": 2.5}
    watch.hear_telegram(date(clock.now() + timedelta(minutes=10)))
    assert watch.seconds["telegram"] == pytest.approx(-600, abs=1)
    machine.set_by(-2.5)
    watch.look()
    assert watch.seconds["machine"] == 0


def test_two_disagreements_are_both_told() -> None:
    machine = Machine()
    clock = machine.clock()
    watch = SkewWatch(clock, shared=False)
    machine.set_by(TEN_MINUTES)
    watch.look()
    watch.hear_telegram(date(clock.now() + timedelta(minutes=10)))
    assert "where it should be" in watch.clock
    assert "Telegram's" in watch.clock


@pytest.mark.parametrize(
    "header", [None, "", "yesterday", "Sun, 99 Nov 2026 12:00:00 GMT", "\x00", "9" * 10_000]
)
def test_a_header_that_is_no_date_teaches_nothing(header: str | None) -> None:
    watch = SkewWatch(Machine().clock(), shared=False)
    watch.hear_telegram(header)
    assert watch.clock == "ok"


def test_a_date_without_a_zone_is_taken_for_utc() -> None:
    clock = Machine().clock()
    watch = SkewWatch(clock, shared=False)
    watch.hear_telegram(format(clock.now(), "%a, %d %b %Y %H:%M:%S -0000"))
    assert watch.clock == "ok"


async def test_it_looks_at_the_start_and_every_minute() -> None:
    machine = Machine()
    watch = SkewWatch(machine.clock(), shared=False)
    machine.set_by(TEN_MINUTES)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    assert "600 s" in watch.clock
    machine.set_by(-TEN_MINUTES)
    await asyncio.sleep(CHECK_EVERY + 1)
    assert watch.clock == "ok"
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
