"""All machines that share a PostgreSQL database share its time, whatever their own clocks say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from infra.config.postgres_address import PostgresAddress
from infra.observability.clock import DatabaseTime, SystemClock, wall_clock
from infra.store.postgres.clock import database_time_of
from infra.store.postgres.database import PostgresDatabase
from infra.store.postgres.schema import migrate
from tests import postgres

TEN_MINUTES = 600_000


def wrong_by(milliseconds: int) -> SystemClock:
    """The clock of a machine whose own clock is wrong by so much."""
    return SystemClock(lambda: wall_clock() + milliseconds)


@pytest.fixture
async def database() -> AsyncIterator[PostgresDatabase]:
    address = PostgresAddress.parse(postgres.fresh_database())
    await migrate(address)
    database = PostgresDatabase(address)
    yield database
    await database.close()


@pytest.mark.parametrize("error", [TEN_MINUTES, -TEN_MINUTES])
async def test_a_machine_whose_clock_is_wrong_goes_by_the_database_s(
    database: PostgresDatabase, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = wrong_by(error)
    await DatabaseTime(clock=clock, read=partial(database_time_of, database)).sync()
    # The database stands on this machine, whose clock is the right one here.
    assert abs(clock.milliseconds() - wall_clock()) < 5_000
    assert clock.machine_is_ahead() == pytest.approx(error / 1000, abs=5)
    assert "The time is now the database's; it was moved by" in caplog.text


async def test_two_machines_have_one_time(database: PostgresDatabase) -> None:
    ahead, behind = wrong_by(TEN_MINUTES), wrong_by(-TEN_MINUTES)
    for clock in (ahead, behind):
        await DatabaseTime(clock=clock, read=partial(database_time_of, database)).sync()
    assert abs(ahead.milliseconds() - behind.milliseconds()) < 5_000
