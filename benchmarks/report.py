"""The report: a table on the terminal, and `benchmarks/results.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import Finding, Row

RESULTS = Path(__file__).resolve().parent / "results.md"

_HEAD = ("", "ratio to bare", "value", "budget", "")
_HOW = """\
## How to run it

    make bench                          # everything, some minutes
    make bench ARGS="--quick"           # a short run, to see whether a change helps
    make bench ARGS="--only webhook"    # one part: webhook, messages, asking, waiting, starting, memory

The server is the real one, started as the Procfile says: one process unless a row says two, its log written
to a file, and default settings but for `SEND_RATE=0`: Telegram's pace would be all that is measured. SQLite
with `synchronous=FULL` on a disk; PostgreSQL with its data on the same disk, and not on the server's core.
Telegram is a double in a process of its own that says yes at once. 64 connections; the contenders take turns,
so that each ratio comes from the same minutes; medians over the rounds. Every message and question has a text
of its own. Compare ratios, and only those of one run: the values say as much about the machine as about the
program.
"""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where and how it was measured: parts of a sentence, and a sentence about PostgreSQL."""

    machine: str
    cores: str
    disk: str
    database: str
    quick: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """For the terminal."""
        return (self.machine, self.cores, self.disk, self.database)


def show(finding: Finding) -> str:
    """A finding for the terminal."""
    cells = [_HEAD, *(_cells(row) for row in finding.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    return "\n".join([f"\n{finding.title}", *lines, *(f"  {note}" for note in finding.notes)])


def verdict(findings: Sequence[Finding]) -> str:
    """How many budgets are kept."""
    judged = [budget.met for finding in findings for row in finding.rows for budget in row.budgets]
    return f"{sum(judged)} of {len(judged)} budgets are met."


def write(findings: Sequence[Finding], circumstances: Circumstances) -> None:
    """Write the results' page."""
    RESULTS.write_text("\n".join(_page(findings, circumstances)) + "\n")


def _page(findings: Sequence[Finding], circumstances: Circumstances) -> Iterator[str]:
    yield "# Benchmark results\n"
    yield f"{datetime.now(UTC):%Y-%m-%d}, {'a quick run' if circumstances.quick else 'a full run'}."
    yield f"Machine: {circumstances.machine}; {circumstances.cores}; {circumstances.disk}."
    yield f"{circumstances.database}\n"
    yield f"**{verdict(findings)}** What is judged is a ratio within one run, a latency, or a size.\n"
    for finding in findings:
        yield f"## {finding.title}\n"
        yield "| | ratio to bare | value | budget | |\n|---|---|---|---|---|"
        for row in finding.rows:
            yield "| " + " | ".join(_cells(row)) + " |"
        yield "".join(f"\n{note}\n" for note in finding.notes)
    yield _HOW


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    texts = " and ".join(budget.text for budget in row.budgets)
    met = ", ".join("met" if budget.met else "NOT MET" for budget in row.budgets)
    return (row.what, ratio, row.value, texts, met)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.rjust(width) if column in {1, 2} else cell.ljust(width)
