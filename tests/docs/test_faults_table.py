"""The table of faults and threats: every row is there once, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, rows

PAGE = Page("docs/explanation/faults-and-threats.md")
CODES = [
    *(f"F{number}" for number in range(1, 47) if number != 40),
    *(f"T{number}" for number in range(1, 28)),
]
"""There is no F40."""

NOT_BUILT = "not in this version"
OF_DELIVERIES = {"F28", "F29", "F30", "F31", "F32", "F46", "T10", "T11", "T12", "T13"}

TABLE = [*rows(PAGE.section("Faults")), *rows(PAGE.section("Threats"))]
SHOWN = {cells[0]: cells[-1] for cells in TABLE}
PROMISED = [
    pytest.param(test, id=f"{code} {test}")
    for code, shown in SHOWN.items()
    for test in re.findall(r"`([^`]+)`", shown)
]

CODE_IN_NAME = re.compile(r"(?:^|_)[ft]\d{1,2}(?:_|$)")
FILES = sorted((ROOT / "tests").rglob("*.py"))


def names_in(path: Path) -> Iterator[str]:
    """The names of all functions and classes of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


@cache
def known_tests(path: Path) -> frozenset[str]:
    """The names of its tests."""
    return frozenset(name for name in names_in(path) if name.startswith("test_"))


def test_every_fault_and_every_threat_has_one_row_with_a_promise() -> None:
    assert [cells[0] for cells in TABLE] == CODES
    assert all(len(cells) == 4 and all(cells) for cells in TABLE)


@pytest.mark.parametrize("code", CODES)
def test_a_row_names_a_test_unless_it_is_about_deliveries(code: str) -> None:
    named = re.findall(r"`[^`]+`", SHOWN[code])
    assert SHOWN[code] == ("<br>".join(named) or NOT_BUILT)
    assert bool(named) == (code not in OF_DELIVERIES)


@pytest.mark.parametrize("test", PROMISED)
def test_a_test_that_is_named_exists(test: str) -> None:
    file, _, name = test.partition("::")
    path = ROOT / file
    assert path.is_file(), f"There is no {file}."
    assert name in known_tests(path), f"{file} has no {name}."


def test_the_example_of_the_page_is_one_of_its_tests() -> None:
    (example,) = re.findall(r"pytest (tests/\S+?)`", PAGE.text)
    assert f"`{example}`" in PAGE.section("Faults")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_say_what_must_hold_and_codes_stand_in_the_table_alone(path: Path) -> None:
    coded = [name for name in (path.stem, *names_in(path)) if CODE_IN_NAME.search(name)]
    assert coded == []
