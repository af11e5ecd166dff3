"""The report: what was done, what was seen, what was not kept; and everything needed to look again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from tests.nemesis.checker import Violation
from tests.nemesis.facts import Facts
from tests.nemesis.plan import Plan

PLAN, FACTS, REPORT = "plan.json", "facts.json", "report.txt"

_PLAN = TypeAdapter(Plan)
_FACTS = TypeAdapter(Facts)
_SHOWN = 30


def write_plan(folder: Path, plan: Plan) -> None:
    """Keep the schedule."""
    (folder / PLAN).write_bytes(_PLAN.dump_json(plan, indent=1))


def write_facts(folder: Path, facts: Facts) -> None:
    """Keep what was seen."""
    (folder / FACTS).write_bytes(_FACTS.dump_json(facts))


def read(folder: Path) -> tuple[Plan, Facts]:
    """What an earlier run has kept.

    Raises:
        OSError: there is none in that folder.
    """
    plan = _PLAN.validate_json((folder / PLAN).read_bytes())
    return plan, _FACTS.validate_json((folder / FACTS).read_bytes())


def told(plan: Plan, facts: Facts, found: Sequence[Violation]) -> str:
    """The report in words."""
    return "\n".join(_lines(plan, facts, found))


def schedule(plan: Plan) -> str:
    """The whole plan, one line for each thing that is done, in the order of time."""
    lines = [(task.at, f"task {task}") for task in plan.tasks]
    lines += [(command.at, f"command {command}") for command in plan.commands]
    lines += [(fault.at, f"fault {fault}") for fault in plan.faults]
    return "\n".join(f"{at:9.3f} s  {what}" for at, what in sorted(lines))


def _lines(plan: Plan, facts: Facts, found: Sequence[Violation]) -> Iterator[str]:
    torments = Counter(fault.torment.value for fault in facts.faults)
    states = Counter(row.state for row in facts.rows)
    size = f"{len(plan.tasks)} tasks, {len(plan.faults)} faults, {facts.ended - facts.began:.0f} s"
    yield f"Seed {plan.seed} on {plan.database.value}: {size}."
    yield f"Faults: {_counted(torments)}."
    yield (
        f"Seen: {len(facts.exchanges)} requests, {len(facts.calls)} calls, {len(facts.acts)} acts of people, "
        f"{len(facts.posts)} posts of updates."
    )
    yield f"Tasks: {_counted(states)}."
    yield f"Each server was ready for {_share_of_time_ready(plan, facts):.0%} of the time."
    if not found:
        yield "Every promise was kept."
        return
    rules = Counter(each.rule for each in found)
    yield f"{len(found)} violations: {_counted(rules)}."
    yield from map(str, found[:_SHOWN])
    if len(found) > _SHOWN:
        yield f"… and {len(found) - _SHOWN} more."


def _share_of_time_ready(plan: Plan, facts: Facts) -> float:
    ready = sum(uptime.until - uptime.since for uptime in facts.uptimes)
    return ready / (plan.servers * max(facts.ended - facts.began, 1.0))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "none"
