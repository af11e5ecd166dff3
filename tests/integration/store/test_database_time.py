"""All machines that share a PostgreSQL database share its time, whatever their own clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

import pytest

from core.model.errors import StorageUnavailable
from infra.config.postgres_address import PostgresAddress
from infra.observability.clock import SystemClock, wall_clock
from infra.observability.database_time import ASK_AGAIN_AFTER, ASK_EVERY, DatabaseTime
from infra.store.postgres.database import PostgresDatabase
from infra.store.postgres.schema import migrate
from infra.store.sql.transactions import Row, Transaction, Worker
from tests import postgres
from tests.fakes.loop import run
from tests.fakes.machine import Machine

T = TypeVar("T")

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
    await DatabaseTime(clock, database).ask()
    # The database stands on this machine, whose clock is the right one here.
    assert abs(clock.milliseconds() - wall_clock()) < 5_000
    assert clock.machine_is_ahead() == pytest.approx(error / 1000, abs=5)
    assert "The time is now the database's; it was moved by" in caplog.text


async def test_two_machines_have_one_time(database: PostgresDatabase) -> None:
    ahead, behind = wrong_by(TEN_MINUTES), wrong_by(-TEN_MINUTES)
    for clock in (ahead, behind):
        await DatabaseTime(clock, database).ask()
    assert abs(ahead.milliseconds() - behind.milliseconds()) < 5_000


class ToldTime:
    """The port `Database`, as far as the time is asked of it; each answer takes as long as a test says.

    Args:
        machine: passes time while an answer is on its way.
        answers: what the database's clock shows; None: the database does not answer.
    """

    def __init__(self, machine: Machine, answers: Sequence[int | None], takes: float = 0.2) -> None:
        self._machine = machine
        self._answers = list(answers)
        self._takes = takes
        self.asked = 0

    async def read(self, transaction: Callable[[], Transaction[T]]) -> T:
        self.asked += 1
        self._machine.pass_time(self._takes)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise StorageUnavailable("The database is away.")
        running = transaction()
        next(running)
        rows: Sequence[Row] = [(answer,)]
        try:
            running.send(rows)
        except StopIteration as end:
            told: T = end.value
            return told
        raise AssertionError("More than one statement was run.")

    async def write(self, transaction: Callable[[], Transaction[T]], *, reserved: bool = False) -> T:
        raise AssertionError(f"To ask for the time writes nothing: {transaction}, {reserved}")

    @property
    def workers(self) -> Mapping[str, Worker]:
        return {}

    async def check(self) -> None:
        raise AssertionError("Nobody asked for this.")

    async def close(self) -> None:
        raise AssertionError("Nobody asked for this.")


async def test_a_clock_that_can_be_right_is_left_alone() -> None:
    machine = Machine()
    clock = machine.clock()
    now = clock.milliseconds()
    for told in (now, now + 100, now + 200):
        database = ToldTime(machine, [told + clock.milliseconds() - now])
        await DatabaseTime(clock, database).ask()
        assert clock.machine_is_ahead() == 0


async def test_an_answer_that_took_its_time_is_taken_to_be_from_the_middle() -> None:
    machine = Machine()
    clock = machine.clock()
    told = clock.milliseconds() + 10_000
    await DatabaseTime(clock, ToldTime(machine, [told], takes=2.0)).ask()
    # It was asked at 0 s and answered at 2 s, so it is an answer of 1 s, and now it is one second later.
    assert clock.milliseconds() == told + 1_000


def test_it_is_asked_every_minute_and_sooner_while_it_does_not_answer() -> None:
    async def minutes() -> None:
        machine = Machine()
        clock = machine.clock()
        right = clock.milliseconds() + TEN_MINUTES
        database = ToldTime(machine, [None, None, right], takes=0)
        keeping = asyncio.create_task(DatabaseTime(clock, database).run())
        await asyncio.sleep(2 * ASK_AGAIN_AFTER + 1)
        assert database.asked == 3
        assert clock.milliseconds() == right
        await asyncio.sleep(ASK_EVERY - 2)
        assert database.asked == 3
        await asyncio.sleep(2)
        assert database.asked == 4
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(minutes())
