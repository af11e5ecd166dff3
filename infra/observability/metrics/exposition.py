"""The exposition: metrics as Prometheus reads them. Imported at the first scrape: the library takes 0.1 s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from core.metrics import Exposition, Labels
from infra.observability.metrics.families import FAMILIES, Family, Samples, Scope, Value

PROCESS: Final = "process"
"""The label that names the process."""


class _Snapshot(Collector):
    """Samples that were collected before, as the library asks for them."""

    def __init__(self, processes: Mapping[str, Samples], shared: Samples) -> None:
        self._processes = processes
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES.values():
            metric = _metric(family)
            for labels, value in self._samples(family):
                _add(metric, family, labels, value)
            if metric.samples:
                yield metric

    def _samples(self, family: Family) -> Iterator[tuple[Labels, Value]]:
        if family.scope is not Scope.PROCESS:
            yield from self._shared.get(family.name, ())
            return
        for process, samples in self._processes.items():
            for labels, value in samples.get(family.name, ()):
                yield (process, *labels), value


def expose(processes: Mapping[str, Samples], shared: Samples, accept: str) -> Exposition:
    """Everything as text, in OpenMetrics for whoever reads that, otherwise in Prometheus' own format.

    Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
    https://prometheus.io/docs/specs/om/open_metrics_spec/

    Args:
        processes: the metrics of each process by its name.
        shared: the metrics that there are once.
        accept: the request's header of that name.
    """
    snapshot = _Snapshot(processes, shared)
    if any(one.partition(";")[0].strip() == "application/openmetrics-text" for one in accept.split(",")):
        return Exposition(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(snapshot))  # type: ignore[no-untyped-call]
    return Exposition("text/plain; version=0.0.4; charset=utf-8", exposition.generate_latest(snapshot))


def _metric(family: Family) -> Metric:
    labels = (PROCESS, *family.labels) if family.scope is Scope.PROCESS else family.labels
    match family.kind:
        case "counter":
            return CounterMetricFamily(family.name, family.meaning, labels=labels)
        case "gauge":
            return GaugeMetricFamily(family.name, family.meaning, labels=labels)
        case "histogram":
            return HistogramMetricFamily(family.name, family.meaning, labels=labels)


def _add(metric: Metric, family: Family, labels: Labels, value: Value) -> None:
    if isinstance(metric, HistogramMetricFamily) and not isinstance(value, int | float):
        bounds = (*map(floatToGoString, family.bounds), "+Inf")
        metric.add_metric(labels, list(zip(bounds, accumulate(value[1:]), strict=True)), value[0])
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily) and isinstance(value, int | float):
        metric.add_metric(labels, value)
