"""docs/grafana-dashboard.json shows metrics that there are, each panel in a place of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from infra.observability.metrics.families import FAMILIES
from tests.docs.pages import ROOT

DASHBOARD = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
_SELECTED = re.compile(r'\b((?:telegate|process)_\w+)\{job="\$job"')
_LEVELS_AND_LABELS = {"le", "job", "process"}


def _parts(name: str) -> Iterator[str]:
    """What a metric is called in the text that Prometheus reads."""
    if FAMILIES[name].kind != "histogram":
        yield name
    else:
        yield from (f"{name}_{part}" for part in ("bucket", "sum", "count"))


FAMILY_OF = {part: FAMILIES[name] for name in FAMILIES for part in _parts(name)}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_for_a_metric_that_there_is_and_by_labels_that_it_has(expression: str) -> None:
    names = _SELECTED.findall(expression)
    assert names, "Each metric is asked for by the job that was chosen."
    assert len(names) == len(re.findall(r"\b(?:telegate|process)_\w+", expression))
    labels = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    for name in names:
        assert labels <= {*FAMILY_OF[name].labels, *_LEVELS_AND_LABELS}


def test_every_panel_says_what_it_shows() -> None:
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    assert len(shown) > 15
    assert all(panel["title"] and panel["description"].endswith(".") for panel in shown)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_no_panel_lies_on_another() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
