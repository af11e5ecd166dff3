"""docs/reference/metrics.md lists the metrics that there are, and its alerts ask for no others."""

from __future__ import annotations

import re

import pytest
import yaml

from core.metrics import EFFECTS
from infra.observability.metrics.families import FAMILIES, Family, Scope
from infra.telegram.webhook.diagnosis import TroubleKind
from tests.docs.pages import Page, rows

PAGE = Page("docs/reference/metrics.md")
SECTIONS = {
    "Of each process": [family for family in FAMILIES.values() if family.scope is Scope.PROCESS],
    "Of all together": [family for family in FAMILIES.values() if family.scope is not Scope.PROCESS],
}
LABELS = {name: values for name, values in rows(PAGE.section("What the labels say")) if name.startswith("`")}


def _row(family: Family) -> list[str]:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return [f"`{family.name}`", family.kind, labels, family.meaning]


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_metric_is_told_with_its_type_its_labels_and_its_meaning(heading: str) -> None:
    told = [list(cells) for cells in rows(PAGE.section(heading)) if cells[0].startswith("`")]
    assert told == [_row(family) for family in SECTIONS[heading]]


def test_every_label_is_explained_but_what_speaks_for_itself() -> None:
    used = {label for family in FAMILIES.values() for label in family.labels}
    assert set(LABELS) == {f"`{label}`" for label in used - {"version", "python"}}


def test_the_values_of_labels_are_those_of_the_code() -> None:
    assert re.findall(r"`(\w+)`", LABELS["`effect`"]) == list(EFFECTS)
    assert re.findall(r"`(\w+)`", LABELS["`trouble`"]) == [kind.value for kind in TroubleKind]


def test_alerts_and_queries_ask_for_metrics_that_there_are() -> None:
    known = set(FAMILIES) | {
        f"{family.name}_{part}"
        for family in FAMILIES.values()
        if family.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    asked = {
        name
        for block in re.findall(r"```(?:yaml|promql)\n(.*?)```", PAGE.text, re.DOTALL)
        for name in re.findall(r"\btelegate_\w+", block)
    }
    assert len(asked) > 10
    assert asked <= known


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE.text, re.DOTALL))
def test_what_is_to_be_copied_is_yaml(block: str) -> None:
    assert yaml.safe_load(block)
