"""The plan: the same seed makes the same schedule, and a schedule has everything in it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.nemesis.plan import KILLS, STRANGER, Database, Kind, Torment, make_plan
from tests.nemesis.report import schedule

BOTH = pytest.mark.parametrize("database", list(Database))


@BOTH
def test_the_same_seed_makes_the_same_schedule(database: Database) -> None:
    assert make_plan(7, 200, 20, database) == make_plan(7, 200, 20, database)
    assert schedule(make_plan(7, 200, 20, database)) == schedule(make_plan(7, 200, 20, database))


@BOTH
def test_another_seed_makes_another(database: Database) -> None:
    assert make_plan(7, 200, 20, database).tasks != make_plan(8, 200, 20, database).tasks


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_there_are_as_many_tasks_faults_and_kills_as_were_asked_for(database: Database, seed: int) -> None:
    plan = make_plan(seed, 200, 20, database, kills=9)
    torments = Counter(fault.torment for fault in plan.faults)
    assert (len(plan.tasks), len(plan.faults)) == (200, 20)
    assert sum(torments[kill] for kill in KILLS) == 9
    assert make_plan(seed, 0, 0, database).faults == ()


def test_a_long_plan_has_every_fault_of_its_database_and_some_freezes_longer_than_a_lease() -> None:
    faults = [
        *make_plan(1, 10, 400, Database.SQLITE).faults,
        *make_plan(1, 10, 400, Database.POSTGRESQL).faults,
    ]
    assert {fault.torment for fault in faults} == set(Torment)
    assert any(fault.torment is Torment.FREEZE and fault.seconds > 40 for fault in faults)
    short = make_plan(1, 200, 20, Database.POSTGRESQL).faults
    assert all(fault.seconds <= 5 for fault in short)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_planned_can_be_done(seed: int) -> None:
    plan = make_plan(seed, 500, 20, Database.SQLITE)
    members = {chat.id: chat.members for chat in plan.chats}
    corrected = [task.of for task in plan.tasks if task.of is not None]
    assert len(corrected) == len(set(corrected)) > 0
    for task in plan.tasks:
        assert 0 <= task.at <= plan.span
        if task.of is not None:
            about = plan.tasks[task.of]
            assert (about.kind, about.chat) == (Kind.MESSAGE, task.chat)
            assert about.number < task.number
            assert not about.abandoned
        assert set(task.respondents) <= set(members[task.chat])
        assert STRANGER not in task.respondents
        assert {press.person for press in task.presses} <= set(members[task.chat])
        assert bool(task.respondents) == (task.kind is Kind.QUESTION)


def test_a_plan_has_every_kind_of_behaviour() -> None:
    tasks = make_plan(7, 500, 0, Database.SQLITE).tasks
    assert {task.kind for task in tasks} == set(Kind)
    assert any(task.vanishes for task in tasks)
    assert any(task.copies > 1 for task in tasks)
    assert any(task.abandoned for task in tasks)
    assert any(task.written for task in tasks)
    assert any(task.resends for task in tasks)
    assert any(press.person == STRANGER for task in tasks for press in task.presses)
    assert any(task.kind is Kind.QUESTION and not task.presses for task in tasks)
