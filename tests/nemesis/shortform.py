"""The short form of the nemesis, as `make test` runs it on each database."""

from __future__ import annotations

from pathlib import Path

from tests.nemesis import report
from tests.nemesis.checker import violations
from tests.nemesis.plan import Database, make_plan
from tests.nemesis.run import run

SEED = 7
TASKS = 200
FAULTS = 20


async def assert_nothing_is_lost(database: Database, folder: Path) -> None:
    """Run it, and keep the evidence in this folder."""
    plan = make_plan(SEED, TASKS, FAULTS, database)
    report.write_plan(folder, plan)
    facts = await run(plan, folder)
    report.write_facts(folder, facts)
    found = violations(plan, facts)
    assert not found, f"{report.told(plan, facts, found)}\nThe evidence is in {folder}."
    assert len(facts.rows) >= len(plan.tasks) * 0.9
    assert len(facts.faults) == FAULTS
