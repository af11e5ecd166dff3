"""The page about the tests lists every slow one, and none that is not."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.docs.pages import ROOT, Page, rows


def slow_tests() -> Iterator[str]:
    """The tests that carry the mark, or one of whose parameters does."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = (ast.unparse(decorator) for decorator in node.decorator_list)
                if any("pytest.mark.slow" in mark for mark in marks):
                    yield node.name


def test_every_slow_test_is_listed_with_what_it_needs_its_time_for() -> None:
    listed = list(rows(Page("docs/how-to/run-the-tests.md").section("The slow tests")))
    assert sorted(name.strip("`") for name, _ in listed) == sorted(slow_tests())
    assert all(reason for _, reason in listed)
