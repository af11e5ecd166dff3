"""The short form of the nemesis, on one server on SQLite."""

from __future__ import annotations

from pathlib import Path

from tests.nemesis import report
from tests.nemesis.checker import violations
from tests.nemesis.plan import Database, make_plan
from tests.nemesis.run import run

SEED = 7


async def test_two_hundred_tasks_and_twenty_faults_lose_nothing(tmp_path: Path) -> None:
    plan = make_plan(SEED, 200, 20, Database.SQLITE)
    report.write_plan(tmp_path, plan)
    facts = await run(plan, tmp_path)
    report.write_facts(tmp_path, facts)
    found = violations(plan, facts)
    assert not found, f"{report.told(plan, facts, found)}\nThe evidence is in {tmp_path}."
    assert len(facts.rows) >= len(plan.tasks) * 0.9
    assert len(facts.faults) == 20
