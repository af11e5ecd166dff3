"""The exposition is what Prometheus reads, in both of its formats."""

from __future__ import annotations

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from core.metrics import QUICK
from infra.observability.metrics.exposition import expose
from infra.observability.metrics.families import FAMILIES, Family, Samples, Scope, Value


def _value(family: Family) -> Value:
    return (1.5, *range(len(family.bounds) + 1)) if family.bounds else 3


def _of(*scopes: Scope) -> Samples:
    return {
        family.name: [(tuple(f"a {label}" for label in family.labels), _value(family))]
        for family in FAMILIES.values()
        if family.scope in scopes
    }


PROCESSES = {"one": _of(Scope.PROCESS), "two": _of(Scope.PROCESS)}
SHARED = _of(Scope.LEADER, Scope.DATABASE)


def test_every_metric_has_its_type_and_meaning_in_prometheus_own_format() -> None:
    exposition = expose(PROCESSES, SHARED, "*/*")
    assert exposition.content_type == "text/plain; version=0.0.4; charset=utf-8"
    text = exposition.body.decode()
    for family in FAMILIES.values():
        assert f"# TYPE {family.name} {family.kind}\n" in text
        assert f"# HELP {family.name} {family.meaning}\n" in text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    labelled = {(one.name, one.labels.get("process")) for one in samples}
    assert ("telegate_waiters", "one") in labelled
    assert ("telegate_waiters", "two") in labelled
    assert ("telegate_database_up", None) in labelled


def test_a_histogram_s_buckets_hold_what_is_below_them() -> None:
    counts = (1, *([0] * (len(QUICK) - 1)), 2)
    samples: Samples = {"telegate_update_seconds": [((), (9.5, *counts))]}
    text = expose({"one": samples}, {}, "").body.decode()
    [family] = text_string_to_metric_families(text)
    values = {(one.name.rpartition("_")[2], one.labels.get("le")): one.value for one in family.samples}
    assert values["bucket", "0.0005"] == values["bucket", "5.0"] == 1
    assert values["bucket", "+Inf"] == values["count", None] == 3
    assert values["sum", None] == 9.5


def test_whoever_reads_open_metrics_gets_it() -> None:
    exposition = expose(PROCESSES, SHARED, "text/plain;q=0.5, application/openmetrics-text; version=\x00;q=1")
    assert exposition.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = exposition.body.decode()
    assert text.endswith("# EOF\n")
    assert len(list(openmetrics.text_string_to_metric_families(text))) == len(FAMILIES)  # type: ignore[no-untyped-call]  # it brings no types


def test_a_metric_without_samples_is_not_there() -> None:
    assert expose({}, {}, "").body == b""
    assert b"telegate_waiters" not in expose({"one": {}}, SHARED, "").body
