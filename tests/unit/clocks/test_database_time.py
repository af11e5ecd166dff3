"""A clock that is kept at the time of a database, as exactly as question and answer allow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.model.errors import StorageUnavailable
from infra.observability.clock import CHECK_EVERY, RETRY, DatabaseTime
from tests.fakes.machine import Machine

TEN_MINUTES = 600_000


class AskedDatabase:
    """A database that is asked for the time; each answer takes as long as a test says.

    Args:
        machine: passes time while an answer is on its way.
        answers: what the database's clock shows; None: the database does not answer. The last one
            is repeated.
        takes: seconds.
    """

    def __init__(self, machine: Machine, answers: Sequence[int | None], takes: float = 0.2) -> None:
        self._machine = machine
        self._answers = list(answers)
        self._takes = takes
        self.asked = 0

    async def time(self) -> int:
        self.asked += 1
        self._machine.pass_time(self._takes)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise StorageUnavailable("The database is away.")
        return answer


async def test_a_clock_that_can_be_right_is_left_alone() -> None:
    machine = Machine()
    clock = machine.clock()
    now = clock.milliseconds()
    for told in (now, now + 100, now + 200):
        database = AskedDatabase(machine, [told + clock.milliseconds() - now])
        await DatabaseTime(clock=clock, read=database.time).sync()
        assert clock.machine_is_ahead() == 0


async def test_an_answer_that_took_its_time_is_taken_to_be_from_the_middle() -> None:
    machine = Machine()
    clock = machine.clock()
    told = clock.milliseconds() + 10_000
    await DatabaseTime(clock=clock, read=AskedDatabase(machine, [told], takes=2.0).time).sync()
    # It was asked at 0 s and answered at 2 s, so it is an answer of 1 s, and now it is one second later.
    assert clock.milliseconds() == told + 1_000


async def test_it_is_asked_every_minute_and_sooner_while_it_does_not_answer() -> None:
    machine = Machine()
    clock = machine.clock()
    right = clock.milliseconds() + TEN_MINUTES
    database = AskedDatabase(machine, [None, None, right], takes=0)
    keeping = asyncio.create_task(DatabaseTime(clock=clock, read=database.time).run())
    await asyncio.sleep((RETRY.delay(1) or 0) + (RETRY.delay(2) or 0) + 1)
    assert database.asked == 3
    assert clock.milliseconds() == right
    await asyncio.sleep(CHECK_EVERY - 2)
    assert database.asked == 3
    await asyncio.sleep(2)
    assert database.asked == 4
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
