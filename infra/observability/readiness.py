"""Readiness: asks everything that this process needs how it is doing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from core.jobs.limits import Holds
from core.jobs.runner import Runner
from core.model.errors import StorageUnavailable
from core.model.readiness import Readiness
from core.ports import Notifier
from core.waiting.room import WaitingRoom
from infra.auth.issuer import Issuer
from infra.config.permissions.file import PolicyFile
from infra.observability.clock import SkewWatch
from infra.store import Store
from infra.telegram.webhook.watch import WebhookWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessProbe:
    """What `/readyz` tells. Only what keeps this process from working makes it not ready."""

    store: Store
    runner: Runner
    holds: Holds
    notifier: Notifier
    policy: PolicyFile
    skew: SkewWatch
    watch: WebhookWatch
    room: WaitingRoom
    issuer: Issuer | None = None

    async def ask(self) -> Readiness:
        """Ask everything once."""
        database = "ok"
        try:
            await self.store.check()
        except StorageUnavailable as error:
            database = error.detail
        checks = {
            "clock": self.skew.clock,
            "sending": await self._sending() if database == "ok" else "ok",
            "database": database,
            "hints": self.notifier.trouble or "ok",
            "policy": "ok" if self.policy.last_error is None else "The newest permissions.yaml is refused.",
            "telegram": self.watch.telegram,
            "webhook": self.watch.webhook,
        }
        if self.issuer is not None:
            checks["issuer"] = self.issuer.trouble or "ok"
        if self.runner.stopping:
            checks["process"] = "It is shutting down."
        return Readiness(database == "ok" and not self.runner.stopping, checks, len(self.room))

    async def _sending(self) -> str:
        # From memory: whoever asks how the process does must not queue for the connections that requests use.
        with suppress(StorageUnavailable):
            await self.holds.ready()
        end = self.holds.everything
        if end is None or end <= self.holds.clock.now():
            return "ok"
        return f"Telegram asks for fewer calls: nothing is sent before {end:%H:%M:%S} UTC. It is sent then."
