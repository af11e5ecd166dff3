"""Metrics: what all rooms of all processes have counted, as Prometheus reads it."""

from __future__ import annotations

from infra.metrics.collecting import Collector
from infra.metrics.sharing import Metrics, process_name

__all__ = ["Collector", "Metrics", "process_name"]
