"""Metrics: what all rooms of all processes have counted, as Prometheus reads it."""

from __future__ import annotations

from infra.observability.metrics.collector import Collector
from infra.observability.metrics.sharing import Metrics, process_name

__all__ = ["Collector", "Metrics", "process_name"]
