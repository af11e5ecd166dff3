"""The composition root: the one place that knows everybody. gunicorn's target is `infra.app:create_app`."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from aiohttp import web
from ulid import ULID

from core.cluster.heartbeat import Attending
from core.inbox.inbox import Inbox
from core.jobs.background import current_task
from core.jobs.backlog import Backlog
from core.jobs.chats import ChatBook
from core.jobs.deadlines import Timekeeper, forget_finished
from core.jobs.limits import Pacer
from core.jobs.rearming import Rearming
from core.jobs.sending import Sender
from core.jobs.sweep import Sweep
from core.model.errors import StorageUnavailable
from core.policy.rate_limit import Allowances
from core.ports import GatewayIdentity, Waker
from core.services.factory import Drafter
from core.services.messages import Telling
from core.services.questions import Asking
from core.services.tasks import TaskDesk
from core.waiting.room import WaitingRoom
from handlers.application import build_application
from handlers.in_flight import IN_FLIGHT
from handlers.keys import About, Limits, Metrics, Readiness, Services
from handlers.middlewares import current_request_id, current_trace_id
from handlers.routes import SERVED
from infra import __version__
from infra.auth import TokenVerifier
from infra.auth.issuer import USUAL_PACE, Issuer
from infra.auth.jwks import KeyFetcher
from infra.config.permissions.file import PolicyFile
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret
from infra.config.settings import Settings
from infra.ids import UlidSequence
from infra.notify import LocalWaker, sweep_waiting_room
from infra.observability.clock import SystemClock
from infra.observability.database_time import DatabaseTime
from infra.observability.logs import set_sources
from infra.observability.metrics import Collector, process_name
from infra.observability.metrics import Metrics as SharedMetrics
from infra.observability.skew import SkewWatch
from infra.server.background import running
from infra.server.runner import GatewayRunner, make_runner
from infra.server.worker import BAD_START, tell_bad_start
from infra.store import Store, StoreRefused, open_postgres, open_sqlite
from infra.store.sqlite.waiting import WaitingSqliteDatabase
from infra.telegram.client import TelegramClient
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.updates import parse_update
from infra.telegram.webhook.heal import Healer
from infra.telegram.webhook.state import PATH
from infra.telegram.webhook.watch import WebhookWatch

log = logging.getLogger("telegate.server")

STOP_GRACE = 1.5
"""Seconds that sends in flight get when the process is told to stop."""

_LOCK_EXTRA = 5.0


async def create_app(kind: type[Gateway] | None = None) -> GatewayRunner:
    """Build the whole gateway from the environment, in the loop that will serve it.

    Args:
        kind: of gateway; gunicorn names none, and gets `Gateway`.

    Raises:
        TelegateError: settings, policy or database do not let it start; the text says what to do.
    """
    settings = Settings.from_environment()
    set_sources(request_id=current_request_id.get, trace_id=current_trace_id.get, task=current_task.get)
    async with AsyncExitStack() as stack:
        gateway = await (kind or Gateway).open(settings, stack)
        app = build_application(gateway.services())
        app.on_shutdown.append(gateway.drain)
        stack.callback(gateway.on_change(app[IN_FLIGHT].look))
        kept_open = stack.pop_all()
        app.on_cleanup.append(lambda _app: kept_open.aclose())
        _collect_less_often()
        gateway.figures.runner = make_runner(app, settings)
        return gateway.figures.runner


def served_endpoints() -> frozenset[str]:
    """The endpoints of the contract that this version has; `policy check` tells which it lacks."""
    return SERVED


class Gateway:
    """Everything that a running gateway consists of, wired.

    Args:
        settings: what the operator chose.
        store: open.
        client: Telegram.
        policy: read and checked.
        clock: the store has the same one.
    """

    key_pace = USUAL_PACE

    def __init__(
        self, settings: Settings, store: Store, client: TelegramClient, policy: PolicyFile, clock: SystemClock
    ) -> None:
        self.settings = settings
        self.store = store
        self.client = client
        self.policy = policy
        self.draining = False
        self.skew = SkewWatch(clock, shared=isinstance(settings.database, PostgresAddress))
        client.hear_date = self.skew.hear_telegram
        self.database_time = DatabaseTime(clock, store.database)
        identity = GatewayIdentity(settings.bot_id, f"{os.getpid()}-{ULID()}", store.button_keys())
        self.drafter = Drafter(identity, clock, UlidSequence(clock.milliseconds))
        self.formatter = TelegramFormatter()
        self.waker = self.make_waker()
        self.room = WaitingRoom()
        self.waker.subscribe(self.room.wake, self.room.wake_followers)
        self.chats = ChatBook(store, shared=not isinstance(settings.database, Path))
        self.sender = self.make_sender()
        self.timekeeper = Timekeeper(store, store, self.sender)
        self.sender.outcomes.alarm = self.timekeeper.remember
        self.attending = Attending(store, self.drafter, is_serving=lambda: not self.draining)
        self.rearming = Rearming(
            store, client, self.formatter, self.drafter, self.chats, self.sender.pacer, self.attending
        )
        self.attending.on_outage = self.rearming.wake
        self.sweep = Sweep(self.timekeeper, timedelta(days=settings.retention_days), self.rearm_for_all)
        self.watch = self.make_watch()
        self.issuer = self.make_issuer()
        self.verifier = _verifier(settings, policy, self.issuer)
        self.figures = self.make_collector()
        self.metrics = self.make_metrics()

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> Gateway:
        """Open what has to be open, and start the loops; the stack closes everything again."""
        gateway = await cls.assemble(settings, stack, lock_wait=settings.shutdown_grace + _LOCK_EXTRA)
        stack.enter_context(gateway.figures.watchdog)
        stack.push_async_callback(gateway.attending.leave)
        stack.push_async_callback(gateway.metrics.leave)
        await stack.enter_async_context(running(gateway.loops()))
        _tell_start(settings)
        return gateway

    @classmethod
    async def assemble(cls, settings: Settings, stack: AsyncExitStack, *, lock_wait: float) -> Gateway:
        """Open what has to be open, and take up what was left behind; no loop runs.

        Args:
            settings: what the operator chose.
            stack: closes everything again.
            lock_wait: for how many seconds another process may still have the SQLite file.
        """
        policy = PolicyFile.opened(settings.permissions_file, settings.person_roles)
        settings.require_signing_key(services_have_keys=bool(policy.current.keys))
        clock = SystemClock()
        store = await stack.enter_async_context(_open_store(settings, clock, lock_wait))
        client = TelegramClient(
            settings.bot_token, settings.telegram_api_url, secrets=(settings.webhook_secret,)
        )
        await client.start()
        stack.push_async_callback(client.close)
        gateway = cls(settings, store, client, policy, clock)
        stack.push_async_callback(partial(gateway.sender.stop, STOP_GRACE))
        if gateway.issuer is not None:
            stack.push_async_callback(gateway.issuer.close)
        if isinstance(store.database, WaitingSqliteDatabase):
            store.database.first(gateway.sweep.inherit)
            if store.database.is_open:
                await gateway.sweep.inherit()
        else:
            with suppress(StorageUnavailable):
                await gateway.database_time.ask()
        return gateway

    def make_waker(self) -> Waker:
        """How hints at changed tasks travel."""
        database = self.settings.database
        if not isinstance(database, PostgresAddress):
            return LocalWaker()
        from infra.notify.postgres import Pace, PostgresWaker  # noqa: PLC0415 - only with PostgreSQL
        from infra.store.postgres.session import connect  # noqa: PLC0415 - only with PostgreSQL

        pace = Pace()
        return PostgresWaker(partial(connect, database, pace.limit), self.settings.bot_id, pace)

    def make_sender(self) -> Sender:
        """Who performs tasks."""
        rate = self.settings.send_rate
        return Sender(
            self.store,
            self.store,
            self.client,
            self.formatter,
            self.waker,
            self.drafter,
            self.chats,
            Pacer(rate / self.settings.processes, time.monotonic),
            Backlog(rate),
        )

    def make_watch(self) -> WebhookWatch:
        """Who looks after the webhook."""
        return WebhookWatch(
            self.client,
            _webhook_url(self.settings),
            self.attending,
            disarm=self.rearming.disarm,
            healer=Healer.of(self.settings, self.client),
        )

    def make_collector(self) -> Collector:
        """What all rooms of this process count."""
        return Collector(
            room=self.room,
            sender=self.sender,
            client=self.client,
            attending=self.attending,
            watch=self.watch,
            database=self.store.database,
            waker=self.waker,
            skew=self.skew,
            policy=self.policy,
        )

    def make_metrics(self) -> SharedMetrics:
        """What all rooms of all processes have counted."""
        name = process_name(self.drafter.identity.holder)
        shared = isinstance(self.settings.database, PostgresAddress)
        return SharedMetrics(self.figures.collect, self.store, name, shared)

    def make_issuer(self) -> Issuer | None:
        """Who else signs tokens, when the settings name somebody."""
        named = self.settings.jwt_issuer
        if named is None:
            return None
        return Issuer(named.name, KeyFetcher(named.keys_url), pace=self.key_pace)

    def loops(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """What runs beside the server."""
        keep = timedelta(days=self.settings.retention_days)
        shared = isinstance(self.settings.database, PostgresAddress)
        return {
            **({"asking for the time": self.database_time.run} if shared else {}),
            **({"fetching the issuer's keys": self.issuer.warm} if self.issuer else {}),
            "waiting for the database": self.own_database,
            "comparing clocks": self.skew.run,
            "attending": self.attending.run,
            "keeping deadlines": self.timekeeper.run,
            "re-arming questions": self.rearming.run,
            "carrying hints": self.waker.run,
            "learning about chats": self.chats.run,
            "sweeping the waiting room": partial(sweep_waiting_room, self.store, self.room, self.waker),
            "watching the policy file": self.policy.watch,
            "watching the webhook": self.watch.run,
            "keeping figures": self.metrics.run,
            "forgetting finished tasks": partial(forget_finished, self.store, self.drafter.clock, keep),
        }

    async def own_database(self) -> None:
        """Return when no other server works on the database; end the process when that takes too long."""
        if isinstance(self.store.database, WaitingSqliteDatabase):
            try:
                await self.store.database.opened()
            except StoreRefused as error:
                tell_bad_start(error)
                sys.exit(BAD_START)

    def services(self) -> Services:
        """What handlers are given."""
        settings = self.settings
        processes = 1 if isinstance(settings.database, Path) else None
        desk = TaskDesk(self.store, self.room, self.sender)
        return Services(
            asking=Asking(lambda: self.policy.current, self.formatter, self.drafter, desk),
            telling=Telling(lambda: self.policy.current, self.formatter, self.drafter, desk),
            desk=desk,
            inbox=Inbox(
                self.store,
                lambda: self.policy.current,
                self.drafter,
                self.sender,
                lambda: self.client.username,
                self.figures.updates,
            ),
            authenticate=self.verifier.admit,
            policy=lambda: self.policy.current,
            allowances=Allowances(time.monotonic),
            parse_update=self.attending.noticing(parse_update),
            webhook_secret=settings.webhook_secret.reveal().encode(),
            readiness=self.readiness,
            sweep=self.wake_and_sweep,
            clock=self.drafter.clock,
            limits=Limits(settings.max_wait_seconds, settings.trusted_proxies),
            about=About(__version__, settings.durability, processes, settings.public_url),
            metrics=Metrics(self.figures.requests, self.metrics.tell, _bytes_of(settings.metrics_token)),
        )

    async def rearm_for_all(self) -> int:
        """Edit the questions that wait for it, even when another process, which may be frozen, is on duty."""
        return await self.rearming.work_off(off_duty=True)

    async def wake_and_sweep(self) -> int:
        """Work off what is due, in a process that may have been frozen until now."""
        # First it finds out for how long nobody could take updates: then open questions are due, too.
        await self.attending.attend()
        return await self.sweep.run()

    async def readiness(self) -> Readiness:
        """What `/readyz` tells. Only what keeps this process from working makes it not ready."""
        database = "ok"
        try:
            await self.store.check()
        except StorageUnavailable as error:
            database = error.detail
        checks = {
            "clock": self.skew.clock,
            "sending": await self._pause_in_words() if database == "ok" else "ok",
            "database": database,
            "hints": self.waker.trouble or "ok",
            "policy": "ok" if self.policy.last_error is None else "The newest permissions.yaml is refused.",
            "telegram": self.watch.telegram,
            "webhook": self.watch.webhook,
        }
        if self.issuer is not None:
            checks["issuer"] = self.issuer.trouble or "ok"
        if self.draining:
            checks["process"] = "It is shutting down."
        return Readiness(database == "ok" and not self.draining, checks, len(self.room))

    async def _pause_in_words(self) -> str:
        # From memory: whoever asks how the process does must not queue for the connections that requests use.
        with suppress(StorageUnavailable):
            await self.chats.ready()
        end = self.chats.bot_pause
        if end is None or end <= self.drafter.clock.now():
            return "ok"
        return f"Telegram asks for fewer calls: nothing is sent before {end:%H:%M:%S} UTC. It is sent then."

    def on_change(self, look: Callable[[], None]) -> Callable[[], None]:
        """Call this whenever what tokens may do has changed, until what it returns is called."""
        if self.issuer is not None:
            self.issuer.on_change = look
        return self.policy.on_change(lambda _: look())

    async def drain(self, _app: web.Application) -> None:
        """Let every waiting request answer now: with its answer, or with 202 and where to look."""
        # What was revoked just now is not answered: a SIGHUP ends this process and means the new rules.
        self.policy.check_for_change()
        self.draining = self.sweep.hurried = self.sender.errands.stopping = True
        self.room.close()


def _tell_start(settings: Settings) -> None:
    """What somebody wants to know first who reads this log and does not know this server."""
    database = settings.database
    log.info(
        "Telegate %s has started: PUBLIC_URL is %s, the database %s, the policy %s.",
        __version__,
        settings.public_url or "not set",
        database if isinstance(database, Path) else database.place,
        settings.permissions_file,
        extra={"action": "started"},
    )


def _collect_less_often() -> None:
    """Keep the collector away from what lives as long as the process; requests leave hardly any cycles.

    By default it looked at everything again and again, and took a tenth to a fifth of a request's time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _open_store(
    settings: Settings, clock: SystemClock, lock_wait: float
) -> AbstractAsyncContextManager[Store]:
    database = settings.database
    if isinstance(database, PostgresAddress):
        return open_postgres(database, settings.bot_id, clock=clock)
    return open_sqlite(database, settings.bot_id, lock_wait=lock_wait, clock=clock)


def _verifier(settings: Settings, policy: PolicyFile, issuer: Issuer | None) -> TokenVerifier:
    return TokenVerifier(
        lambda: policy.current,
        [secret.reveal().encode() for secret in settings.jwt_secrets],
        settings.jwt_audience,
        settings.jwt_max_lifetime,
        time.time,
        issuer=issuer,
    )


def _bytes_of(secret: Secret | None) -> bytes | None:
    return None if secret is None else secret.reveal().encode()


def _webhook_url(settings: Settings) -> str | None:
    return None if settings.public_url is None else settings.public_url + PATH
