"""Metrics: what all components of all processes have counted, as Prometheus reads it."""

from __future__ import annotations

from infra.observability.metrics.collector import Collector
from infra.observability.metrics.sharing import SharedMetrics, process_name

__all__ = ["Collector", "SharedMetrics", "process_name"]
