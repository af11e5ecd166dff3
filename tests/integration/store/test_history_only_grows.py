"""The history of a task is only ever added to: no text of SQL says anything else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from core.model.transition import FINAL_STATES
from infra.store.sql.tasks import _PURGE_TASKS

HOUSE = Path(__file__).parents[3]
CHANGES_HISTORY = re.compile(
    r"\b(UPDATE|DELETE\s+FROM|REPLACE\s+INTO|TRUNCATE(\s+TABLE)?|DROP\s+TABLE|ALTER\s+TABLE)\s+(telegate_)?history\b"
    # A column more, empty in the rows that are there, changes none of them; a name does neither.
    r"(?! ADD COLUMN \w+ \w+$| RENAME TO )",
    re.IGNORECASE,
)
DELETES_TASKS = re.compile(
    r"\b(DELETE\s+FROM|TRUNCATE(\s+TABLE)?|DROP\s+TABLE)\s+(telegate_)?tasks\b", re.IGNORECASE
)
ADDS_HISTORY = re.compile(r"\bINSERT\b.*\bINTO\s+(telegate_)?history\b", re.IGNORECASE | re.DOTALL)


def texts() -> Iterator[str]:
    """Every text in the program; of one that is put together, the pieces with a gap for each value."""
    for package in ("core", "handlers", "infra"):
        for path in sorted((HOUSE / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "?".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))


def test_no_statement_changes_a_row_of_history() -> None:
    assert [text for text in texts() if CHANGES_HISTORY.search(text)] == []
    added = [text for text in texts() if ADDS_HISTORY.search(text)]
    assert len(added) == 1
    assert "ON CONFLICT" not in added[0].upper()
    assert "OR REPLACE" not in added[0].upper()


def test_history_goes_only_with_a_finished_task_that_is_old_enough() -> None:
    assert [text for text in texts() if DELETES_TASKS.search(text)] == [_PURGE_TASKS]
    states = re.search(r"state IN \(([^)]*)\)\s+AND updated_at < \$2", _PURGE_TASKS)
    assert states is not None
    assert set(re.findall(r"'(\w+)'", states[1])) == {state.value for state in FINAL_STATES}
