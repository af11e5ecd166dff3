"""The collector: reads the counters, gauges and histograms of this process; nothing is counted here."""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from core.cluster.leader import Leadership
from core.jobs.limits import Limits
from core.jobs.runner import Runner
from core.metrics import SLOW, Counter, Histogram, Labels, UpdateMetrics
from core.ports import Notifier
from core.waiting.room import WaitingRoom
from infra import __version__
from infra.config.permissions.file import PolicyFile
from infra.observability.clock import SkewWatch
from infra.observability.metrics.families import Samples, Value
from infra.observability.watchdog import LoopWatchdog
from infra.server.runner import GatewayRunner
from infra.store.sql.transactions import Database
from infra.telegram.client import TelegramClient
from infra.telegram.webhook.diagnosis import TroubleKind
from infra.telegram.webhook.watch import WebhookWatch

_Collected: TypeAlias = Iterator[tuple[str, Labels, Value]]


@dataclass(slots=True, kw_only=True)
class Collector:
    """Knows every component of one process that has metrics.

    Attributes:
        jobs: has finished tasks.
        limits: of the queue for Telegram.
        runner: of the HTTP server, once there is one.
        requests: how long requests took, by endpoint and status.
        updates: what became of updates.
        watchdog: looks whether the loop stands still.
        started: when the process started, in seconds since 1970.
    """

    room: WaitingRoom
    jobs: Runner
    limits: Limits
    client: TelegramClient
    leadership: Leadership
    watch: WebhookWatch
    database: Database
    notifier: Notifier
    skew: SkewWatch
    policy: PolicyFile
    runner: GatewayRunner | None = None
    requests: Histogram = field(default_factory=lambda: Histogram(SLOW))
    updates: UpdateMetrics = field(default_factory=UpdateMetrics)
    watchdog: LoopWatchdog = field(default_factory=LoopWatchdog)
    started: float = field(default_factory=time.time)

    def collect(self) -> Samples:
        """All metrics of this process, as they are now."""
        samples: dict[str, list[tuple[Labels, Value]]] = defaultdict(list)
        for part in (self._http, self._work, self._telegram, self._webhook, self._storage, self._process):
            for name, labels, value in part():
                samples[name].append((labels, value))
        return samples

    def _http(self) -> _Collected:
        yield from _series("telegate_http_request_seconds", self.requests)
        server = None if self.runner is None else self.runner.gateway_server
        if server is not None:
            yield "telegate_http_connections", (), server.open
            yield "telegate_http_connections_refused_total", (), server.refused
            yield "telegate_http_requests_timed_out_total", (), server.timed_out
            yield "telegate_http_answers_not_taken_total", (), server.not_taken

    def _work(self) -> _Collected:
        yield "telegate_waiters", (), len(self.room)
        yield from _series("telegate_updates_total", self.updates.effects)
        yield from _series("telegate_update_seconds", self.updates.seconds)
        yield from _series("telegate_tasks_finished_total", self.jobs.finished)

    def _telegram(self) -> _Collected:
        yield from _series("telegate_telegram_call_seconds", self.client.calls)
        holds = self.limits.holds
        yield "telegate_telegram_pauses_total", (), holds.count
        end, now = holds.everything, holds.clock.now()
        left = 0.0 if end is None else max(0.0, (end - now).total_seconds())
        yield "telegate_telegram_paused_seconds", (), left

    def _webhook(self) -> _Collected:
        looks, healer = self.watch.counters, self.watch.healer
        yield "telegate_webhook_looks_total", ("failed",), looks.failed_looks
        yield "telegate_webhook_looks_total", ("answered",), looks.looks - looks.failed_looks
        yield "telegate_webhook_set_again_total", (), 0 if healer is None else healer.times
        if not self.leadership.is_leader or not looks.looks:
            return
        yield "telegate_telegram_up", (), self.watch.telegram == "ok"
        if looks.state == "unknown":
            return
        yield "telegate_webhook_ok", (), looks.state == "ok"
        yield "telegate_webhook_pending_updates", (), looks.pending
        for kind in TroubleKind:
            yield "telegate_webhook_trouble", (kind.value,), looks.state == kind.value

    def _storage(self) -> _Collected:
        for access, worker in self.database.workers.items():
            yield "telegate_database_transactions_total", (access,), worker.transactions
            for _no_labels, value in worker.seconds.items():  # noqa: PERF102 - this is no dict
                yield "telegate_database_group_seconds", (access,), value
        yield "telegate_hints_up", (), self.notifier.trouble is None
        yield "telegate_hints_dropped_total", (), self.notifier.dropped

    def _process(self) -> _Collected:
        for clock, seconds in self.skew.seconds.items():
            yield "telegate_clock_skew_seconds", (clock,), seconds
        yield "telegate_policy_refused", (), self.policy.last_error is not None
        yield "telegate_loop_blocks_total", (), self.watchdog.blocks
        yield "telegate_loop_blocked_seconds_total", (), self.watchdog.blocked_seconds
        yield "telegate_build_info", (__version__, platform.python_version()), 1
        yield "process_start_time_seconds", (), self.started
        yield "process_cpu_seconds_total", (), time.process_time()
        with suppress(OSError):
            yield "process_resident_memory_bytes", (), _resident_memory()


def _series(name: str, metric: Counter | Histogram) -> _Collected:
    for labels, value in metric.items():
        yield name, labels, value


def _resident_memory() -> int:
    """Source: https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
