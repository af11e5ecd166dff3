"""Observability: logs without secrets, metrics, clocks, and the watchdog of the event loop."""
