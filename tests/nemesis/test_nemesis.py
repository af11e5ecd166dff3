"""The nemesis itself: a broken server is caught, a sound one is not, and facts can be judged again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.nemesis import report
from tests.nemesis.__main__ import main
from tests.nemesis.checker import RULES, violations
from tests.nemesis.plan import Database, Kind, make_plan
from tests.nemesis.run import run

ROOT = Path(__file__).parents[2]


async def test_a_server_that_says_everything_twice_is_caught(tmp_path: Path) -> None:
    plan = make_plan(3, 12, 0, Database.SQLITE)
    facts = await run(plan, tmp_path, "tests.nemesis.broken:create_app")
    found = [violation.words for violation in violations(plan, facts) if violation.rule == "sent once"]
    said = {row.marker for row in facts.rows if row.kind in {Kind.MESSAGE, Kind.QUESTION} and row.marker}
    assert len(said) > 5
    assert all(any(marker in words for words in found) for marker in said)


async def test_without_faults_nothing_is_found_and_the_facts_can_be_checked_again(tmp_path: Path) -> None:
    plan = make_plan(4, 12, 0, Database.SQLITE)
    facts = await run(plan, tmp_path)
    assert violations(plan, facts) == []
    report.write_plan(tmp_path, plan)
    report.write_facts(tmp_path, facts)
    assert report.read(tmp_path) == (plan, facts)
    again = CliRunner().invoke(main, ["--check", str(tmp_path)])
    assert again.exit_code == 0, again.output
    assert "Every promise was kept." in again.output
    lost = next(task for task in plan.tasks if task.kind is Kind.MESSAGE).marker
    kept = tuple(row for row in facts.rows if row.marker != lost)
    report.write_facts(tmp_path, replace(facts, rows=kept))
    failed = CliRunner().invoke(main, ["--check", str(tmp_path)])
    assert failed.exit_code == 1
    assert f"[one task] {lost} was acknowledged as" in failed.output
    assert lost in (tmp_path / report.REPORT).read_text()


def test_the_plan_can_be_shown_without_being_carried_out() -> None:
    shown = [
        CliRunner().invoke(main, ["--seed", "7", "--tasks", "5", "--faults", "4", "--plan"]) for _ in range(2)
    ]
    assert [each.exit_code for each in shown] == [0, 0]
    assert shown[0].output == shown[1].output
    assert shown[0].output.count(" s  fault ") == 4


@pytest.mark.parametrize("rule", RULES)
def test_the_page_tells_every_rule(rule: str) -> None:
    page = (ROOT / "docs/explanation/nemesis.md").read_text()
    assert f"| {rule} |" in page
