"""The command: `python -m tests.nemesis --seed 7 --tasks 200 --faults 20 --database sqlite`."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import tempfile
from pathlib import Path

import click

from tests.nemesis import report
from tests.nemesis.checker import violations
from tests.nemesis.plan import KILLS, Database, Plan, make_plan
from tests.nemesis.run import run

LONG = (20_000, 1_400, 1_000)
"""Tasks, faults and kills of the long form."""


@click.command(context_settings={"max_content_width": 100})
@click.option("--seed", type=int, help="Of the schedule; a new one is invented and printed otherwise.")
@click.option("--tasks", default=200, show_default=True, help="How many services ask for.")
@click.option("--faults", default=20, show_default=True, help="How many go wrong, the kills among them.")
@click.option("--long", "is_long", is_flag=True, help="20,000 tasks and 1,400 faults, 1,000 of them kill -9.")
@click.option("--kills", type=int, help="How many of the faults are kill -9.  [default: one in four]")
@click.option(
    "--database", default="sqlite", show_default=True, type=click.Choice([each.value for each in Database])
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where the run leaves its plan, facts and logs."
)
@click.option("--application", default="infra.app:create_app", help="What gunicorn loads.", hidden=True)
@click.option("--plan", "only_plan", is_flag=True, help="Only print the schedule.")
@click.option(
    "--check", "recorded", type=click.Path(path_type=Path), help="Only check the facts of this folder again."
)
def main(  # noqa: PLR0917 - click passes them by name
    seed: int | None,
    tasks: int,
    faults: int,
    is_long: bool,
    kills: int | None,
    database: str,
    folder: Path | None,
    application: str,
    only_plan: bool,
    recorded: Path | None,
) -> None:
    """Torture the real server, and prove that nothing was lost.

    Exit code 0: every promise was kept; 1: not, and the folder named last has the evidence.
    """
    if recorded is not None:
        _judge(recorded)
    if is_long:
        tasks, faults, kills = LONG
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    plan = make_plan(chosen, tasks, faults, Database(database), kills)
    if only_plan:
        click.echo(report.schedule(plan))
        return
    # Told to stop, it stops its servers first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The nemesis was told to stop."))
    place = folder or Path(tempfile.mkdtemp(prefix="telegate-nemesis-"))
    place.mkdir(parents=True, exist_ok=True)
    report.write_plan(place, plan)
    click.echo(_announced(plan, place))
    report.write_facts(place, asyncio.run(run(plan, place, application)))
    _judge(place)


def _announced(plan: Plan, place: Path) -> str:
    kills = sum(fault.torment in KILLS for fault in plan.faults)
    size = f"--tasks {len(plan.tasks)} --faults {len(plan.faults)} --kills {kills}"
    again = f"python -m tests.nemesis --seed {plan.seed} {size} --database {plan.database.value}"
    return (
        f"The same schedule again: {again}\n"
        f"It takes at least {plan.span:.0f} s, and up to two minutes to recover. "
        f"Everything is kept in {place}."
    )


def _judge(place: Path) -> None:
    plan, facts = report.read(place)
    found = violations(plan, facts)
    words = report.told(plan, facts, found)
    (place / report.REPORT).write_text("\n".join([words, "", *map(str, found)]) + "\n")
    click.echo(words)
    click.echo(f"The evidence is in {place}.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
