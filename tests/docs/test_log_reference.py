"""docs/reference/log.md lists every kind of line that the server's code writes, with its level."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from core.inbox.inbox import STEPS
from tests.docs.pages import ROOT, Page, rows

PAGE = Page("docs/reference/log.md")
HEADINGS = {
    "Errors": {"error", "exception", "critical"},
    "Warnings": {"warning"},
    "What goes on": {"info"},
    "With LOG_LEVEL=debug": {"debug"},
}
_LEVELS = frozenset().union(*HEADINGS.values())
_CODE_OF_AN_ERROR = "error.code"
_STEP_OF_A_TASK = "change.step.value"
_NAMED_BY_THE_CALLER = "action"
_INCIDENT = {"begin": "warning", "end": "info"}
"""The methods of `core.incident.Incident`, with the levels at which they write unless told another."""
_MADE_BY = {"_fields": "telegram_call"}
"""Kinds of the lines whose fields a function makes, by its name."""


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call that writes a line, with its level; a level that is chosen on the spot counts as each."""
    for room in ("core", "handlers", "infra"):
        for file in sorted((ROOT / room).rglob("*.py")):
            if file.is_relative_to(ROOT / "infra" / "sandbox"):
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    for level in _levels(node):
                        yield level, node


def _levels(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    if name == "warn_throttled":
        yield "warning"
    method = name.rpartition(".")[2]
    if method in _INCIDENT and _keyword(call, "action") is not None:
        level = _keyword(call, "level")
        yield _INCIDENT[method] if level is None else ast.unparse(level).rpartition(".")[2].lower()
    if "log" not in name.lower().rpartition(".")[0]:
        return
    if method in _LEVELS:
        yield method
    elif method == "log":
        yield from (level for level in _LEVELS if f"logging.{level.upper()}" in ast.unparse(call.args[0]))


def _actions(call: ast.Call) -> Iterator[str]:
    if ast.unparse(call.func) == "warn_throttled":
        yield ast.literal_eval(call.args[1])
        return
    if (action := _keyword(call, "action")) is not None:
        yield ast.literal_eval(action)
        return
    extra = _keyword(call, "extra")
    if isinstance(extra, ast.Dict):
        for key, value in zip(extra.keys, extra.values, strict=True):
            if key is not None and ast.literal_eval(key) == "action":
                yield ast.literal_eval(value) if isinstance(value, ast.Constant) else ast.unparse(value)
    elif isinstance(extra, ast.Call) and ast.unparse(extra.func) == "_about":
        yield ast.literal_eval(extra.args[-1])
    elif extra is not None:
        yield _MADE_BY[ast.unparse(extra).partition("(")[0]]


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


WRITTEN = {(level, action) for level, call in _calls() for action in _actions(call)}


def _told(heading: str) -> set[str]:
    return {cells[0].strip("`") for cells in rows(PAGE.section(heading))}


def test_the_code_is_read() -> None:
    assert ("error", "database_down") in WRITTEN
    assert ("error", "telegram_call") in WRITTEN
    assert ("warning", "webhook_secret_refused") in WRITTEN
    assert len(WRITTEN) > 60


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_kind_of_line_is_told_under_its_level(heading: str) -> None:
    by_name: dict[object, set[str]] = {
        _CODE_OF_AN_ERROR: {"a code of an error"},
        _STEP_OF_A_TASK: set(STEPS),
        _NAMED_BY_THE_CALLER: set(),
    }
    actions = (action for level, action in WRITTEN if level in HEADINGS[heading])
    assert _told(heading) == set[str]().union(*(by_name.get(action, {str(action)}) for action in actions))


def test_no_kind_of_line_is_told_twice_in_one_place() -> None:
    for heading in HEADINGS:
        names = [cells[0].strip("`") for cells in rows(PAGE.section(heading))]
        assert len(names) == len(set(names))


def test_every_line_of_the_code_has_a_kind() -> None:
    nameless = [ast.unparse(call) for _, call in _calls() if not list(_actions(call))]
    # gunicorn's own words are handed on as they are.
    assert nameless == ["self.error_log.log(level, msg, *args, **kwargs)"] * len(nameless)
