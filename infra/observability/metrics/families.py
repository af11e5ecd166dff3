"""Metric families: name, type, labels, meaning. docs/reference/metrics.md says the same, by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from core.metrics import QUICK, SLOW, Labels

Value: TypeAlias = float | Sequence[float]
"""A number; of a histogram the sum, then how much fell into each bucket alone (see `Histogram.items`)."""

Samples: TypeAlias = Mapping[str, Sequence[tuple[Labels, Value]]]
"""By the names of metrics."""


class Scope(Enum):
    """Which process a metric comes from."""

    PROCESS = "each process has its own, labelled `process`"
    LEADER = "one for all, as the leader, which watches the webhook, has seen it last"
    DATABASE = "one for all, as the process that is asked finds it in the database"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: as Prometheus shows it; a histogram's without `_bucket`, `_sum` and `_count`.
        meaning: one sentence.
        labels: their names, without `process`.
        bounds: of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    scope: Scope = Scope.PROCESS


_PROCESS: Final = (
    Family(
        "telegate_http_request_seconds",
        "histogram",
        "How long requests took, with the time for which they were held.",
        ("endpoint", "status"),
        SLOW,
    ),
    Family("telegate_http_connections", "gauge", "Open connections."),
    Family("telegate_http_connections_refused_total", "counter", "Connections that were one too many."),
    Family("telegate_http_requests_timed_out_total", "counter", "Requests that took too long to arrive."),
    Family(
        "telegate_http_answers_not_taken_total", "counter", "Answers that their clients did not take in time."
    ),
    Family("telegate_waiters", "gauge", "Requests that are held until their task is final."),
    Family("telegate_updates_total", "counter", "Updates, by what became of them.", ("effect",)),
    Family("telegate_update_seconds", "histogram", "How long updates took to be stored.", bounds=QUICK),
    Family("telegate_tasks_finished_total", "counter", "Tasks that became final.", ("kind", "state")),
    Family(
        "telegate_telegram_call_seconds",
        "histogram",
        "How long calls to Telegram took.",
        ("method", "outcome"),
        SLOW,
    ),
    Family("telegate_telegram_pauses_total", "counter", "How often Telegram told a chat to wait (429)."),
    Family(
        "telegate_telegram_paused_seconds",
        "gauge",
        "For how long Telegram still wants nothing sent to any chat; 0 when there is no such pause.",
    ),
    Family(
        "telegate_webhook_looks_total",
        "counter",
        "How often Telegram was asked about the webhook.",
        ("outcome",),
    ),
    Family("telegate_webhook_set_again_total", "counter", "How often the server has set the webhook again."),
    Family("telegate_database_transactions_total", "counter", "Transactions that ended.", ("access",)),
    Family(
        "telegate_database_group_seconds",
        "histogram",
        "How long a group of transactions took, with its one commit.",
        ("access",),
        QUICK,
    ),
    Family("telegate_hints_up", "gauge", "1 while hints reach the other processes, 0 while rows are polled."),
    Family("telegate_hints_dropped_total", "counter", "Hints that were never sent to other processes."),
    Family(
        "telegate_clock_skew_seconds",
        "gauge",
        "How far the machine's clock is ahead of the one that deadlines go by, and that one of Telegram's.",
        ("clock",),
    ),
    Family(
        "telegate_policy_refused", "gauge", "1 while the newest permissions.yaml is refused, otherwise 0."
    ),
    Family(
        "telegate_loop_blocks_total", "counter", "How often the event loop stood still for over a second."
    ),
    Family("telegate_loop_blocked_seconds_total", "counter", "For how long it did, in all."),
    Family("telegate_build_info", "gauge", "Always 1.", ("version", "python")),
    Family("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970."),
    Family("process_cpu_seconds_total", "counter", "Processor time of the process."),
    Family("process_resident_memory_bytes", "gauge", "Memory of the process; Linux only."),
)
_LEADER: Final = tuple(
    Family(name, "gauge", meaning, labels, scope=Scope.LEADER)
    for name, meaning, labels in (
        ("telegate_telegram_up", "1 when Telegram answered the last look at the webhook, otherwise 0.", ()),
        ("telegate_webhook_ok", "1 when the last look found the webhook in order, otherwise 0.", ()),
        ("telegate_webhook_trouble", "1 for what is wrong with the webhook, otherwise 0.", ("trouble",)),
        ("telegate_webhook_pending_updates", "Updates that wait at Telegram for delivery.", ()),
    )
)
_DATABASE: Final = tuple(
    Family(name, "gauge", meaning, labels, scope=Scope.DATABASE)
    for name, meaning, labels in (
        ("telegate_database_up", "1 when the database answered the process that was asked, otherwise 0.", ()),
        ("telegate_processes", "Processes whose figures are told.", ()),
        ("telegate_tasks", "Tasks that are not final.", ("state",)),
        ("telegate_oldest_queued_seconds", "For how long the oldest queued task has been waiting.", ()),
    )
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {family.name: family for family in (*_PROCESS, *_LEADER, *_DATABASE)}
)
"""Every metric by its name, in the order of the exposition."""
