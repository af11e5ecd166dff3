"""The composition root: wiring, and nothing else. gunicorn's target is `infra.app:create_app`."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from ulid import ULID

from core.cluster.heartbeat import Heartbeat
from core.cluster.leader import Leadership
from core.cluster.outage import Outages
from core.cluster.sweep import Sweep
from core.inbox.feedback import Feedback
from core.inbox.inbox import Inbox
from core.jobs.alarm import Alarm
from core.jobs.background import current_task
from core.jobs.chats import ChatBook
from core.jobs.kinds.delete import DeleteMessage
from core.jobs.kinds.edit import EditMessage
from core.jobs.kinds.expire import Expire
from core.jobs.kinds.finalize import Finalize
from core.jobs.kinds.purge import Purge, purge_job
from core.jobs.kinds.reprompt import Reprompt
from core.jobs.kinds.send import Send
from core.jobs.limits import Backlog, Holds, Limits, RateLimiter
from core.jobs.runner import Runner
from core.jobs.scheduler import Scheduler
from core.model.errors import StorageUnavailable
from core.model.identity import GatewayIdentity
from core.model.job import TELEGRAM, TIMERS
from core.policy.concurrency import Concurrency
from core.policy.current import CurrentPolicy
from core.policy.rate_limit import ServiceRates
from core.ports import Kind, Messenger, Notifier
from core.services.factory import TaskFactory
from core.services.messages import MessageService
from core.services.questions import QuestionService
from core.services.tasks import TaskService
from core.waiting.polling import poll_waiting_room
from core.waiting.room import WaitingRoom
from handlers.application import build_application
from handlers.in_flight import IN_FLIGHT
from handlers.keys import About, Metrics, RequestLimits, Services
from handlers.middlewares import current_request_id, current_trace_id
from handlers.routes import SERVED
from infra import __version__
from infra.auth import TokenVerifier
from infra.auth.issuer import USUAL_PACE, Issuer, Pace
from infra.auth.jwks import KeyFetcher
from infra.config.permissions.file import PolicyFile
from infra.config.postgres_address import PostgresAddress
from infra.config.settings import Settings
from infra.ids import UlidSequence
from infra.notify import open_notifier
from infra.observability.clock import DatabaseTime, SkewWatch, SystemClock
from infra.observability.logs import set_sources
from infra.observability.metrics import Collector, SharedMetrics, process_name
from infra.observability.readiness import ReadinessProbe
from infra.server.background import running
from infra.server.drain import STOP_GRACE, drain
from infra.server.runner import GatewayRunner, log_start, make_runner, server_limits, tune_garbage_collector
from infra.server.worker import exit_unless_opened
from infra.store import Store, open_store
from infra.store.postgres.clock import database_time_of
from infra.store.sqlite.waiting import WaitingSqliteDatabase
from infra.telegram.client import TelegramClient
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.updates import parse_update
from infra.telegram.webhook.heal import Healer
from infra.telegram.webhook.state import PATH
from infra.telegram.webhook.watch import WebhookWatch

LOCK_EXTRA: Final = 5.0
"""Seconds beyond its grace time that the server before this one may still hold the SQLite file."""

Loop: TypeAlias = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitutes:
    """What takes the place of the real thing, in tests.

    Attributes:
        notifier: carries hints instead of the one that the database calls for.
        key_pace: how often the issuer's keys are fetched.
        messenger: is put around the Telegram client, as far as tasks use it.
        services: is given what handlers get, and may change it.
    """

    notifier: Notifier | None = None
    key_pace: Pace = USUAL_PACE
    messenger: Callable[[Messenger], Messenger] = lambda messenger: messenger
    services: Callable[[Services], Services] = lambda services: services


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What everything else stands on, open."""

    settings: Settings
    policy: PolicyFile
    current_policy: CurrentPolicy
    clock: SystemClock
    store: Store
    client: TelegramClient
    identity: GatewayIdentity
    formatter: TelegramFormatter
    notifier: Notifier
    chats: ChatBook
    room: WaitingRoom
    issuer: Issuer | None

    @property
    def shared(self) -> bool:
        """Whether other processes may work on the same database."""
        return isinstance(self.settings.database, PostgresAddress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What runs jobs."""

    alarm: Alarm
    limits: Limits
    runner: Runner
    scheduler: Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """What looks after the process, its fellows, and the webhook."""

    heartbeat: Heartbeat
    webhook: WebhookWatch
    skew: SkewWatch
    database_time: DatabaseTime
    collector: Collector
    metrics: SharedMetrics


async def create_app(substitutes: Substitutes | None = None) -> GatewayRunner:
    """Build the whole gateway from the environment, in the loop that will serve it.

    Raises:
        TelegateError: settings, policy or database do not let it start; the text says what to do.
    """
    settings = Settings.from_environment()
    substitutes = substitutes or Substitutes()
    set_sources(request_id=current_request_id.get, trace_id=current_trace_id.get, task=current_task.get)
    async with AsyncExitStack() as stack:
        foundation = await lay_foundation(
            settings, stack, substitutes, lock_wait=settings.shutdown_grace + LOCK_EXTRA
        )
        engine = await start_engine(foundation, stack, substitutes)
        watchers = post_watchers(foundation, engine)
        stack.enter_context(watchers.collector.watchdog)
        stack.push_async_callback(watchers.heartbeat.leave)
        stack.push_async_callback(watchers.metrics.flush)
        await stack.enter_async_context(running(loops(foundation, engine, watchers)))
        log_start(settings)
        limits = server_limits(settings)
        services = wire_services(foundation, engine, watchers, connections=limits.connections)
        app = build_application(substitutes.services(services))
        app.on_shutdown.append(
            partial(drain, foundation.policy, foundation.room, engine.runner, watchers.heartbeat)
        )
        stack.callback(foundation.policy.on_change(lambda _: app[IN_FLIGHT].look()))
        if foundation.issuer is not None:
            foundation.issuer.on_change = app[IN_FLIGHT].look
        kept_open = stack.pop_all()
        app.on_cleanup.append(lambda _app: kept_open.aclose())
        tune_garbage_collector()
        watchers.collector.runner = make_runner(app, settings, limits=limits)
        return watchers.collector.runner


def served_endpoints() -> frozenset[str]:
    """The endpoints of the contract that this version serves; `policy check` names the others."""
    return SERVED


async def lay_foundation(
    settings: Settings, stack: AsyncExitStack, substitutes: Substitutes, *, lock_wait: float
) -> Foundation:
    """Open what has to be open; the stack closes it again.

    Args:
        settings: what the operator chose.
        stack: closes everything again.
        substitutes: for the real thing.
        lock_wait: for how many seconds another process may still have the SQLite file.
    """
    policy = PolicyFile.opened(settings.permissions_file, settings.person_roles)
    settings.require_signing_key(services_have_keys=bool(policy.current.keys))
    clock = SystemClock()
    store = await stack.enter_async_context(
        open_store(settings.database, settings.bot_id, lock_wait=lock_wait, clock=clock)
    )
    client = TelegramClient(settings.bot_token, settings.telegram_api_url, secrets=(settings.webhook_secret,))
    await client.start()
    stack.push_async_callback(client.close)
    named, issuer = settings.jwt_issuer, None
    if named is not None:
        issuer = Issuer(named.name, KeyFetcher(named.keys_url), pace=substitutes.key_pace)
        stack.push_async_callback(issuer.close)
    room = WaitingRoom()
    notifier = substitutes.notifier or open_notifier(settings.database, settings.bot_id)
    notifier.subscribe(room.wake)
    chats = ChatBook(store, shared=isinstance(settings.database, PostgresAddress))
    return Foundation(
        settings=settings,
        policy=policy,
        current_policy=CurrentPolicy(lambda: policy.current, lambda: chats.moves),
        clock=clock,
        store=store,
        client=client,
        identity=GatewayIdentity(settings.bot_id, f"{os.getpid()}-{ULID()}", store.button_keys()),
        formatter=TelegramFormatter(),
        notifier=notifier,
        chats=chats,
        room=room,
        issuer=issuer,
    )


async def start_engine(base: Foundation, stack: AsyncExitStack, substitutes: Substitutes) -> Engine:
    """What runs jobs, with what the process before this one has left behind; the stack stops it."""
    rate = base.settings.send_rate
    holds = Holds(base.store, TELEGRAM, base.clock, shared=base.shared)
    limits = Limits(RateLimiter(rate / base.settings.processes, time.monotonic), holds, Backlog(rate))
    alarm = Alarm(base.clock)
    runner = Runner(
        store=base.store,
        kinds={kind.name: kind for kind in kinds_of_jobs(base, substitutes.messenger(base.client))},
        limits={TELEGRAM: limits},
        notifier=base.notifier,
        clock=base.clock,
        alarm=alarm,
        holder=base.identity.holder,
    )
    stack.push_async_callback(runner.stop, STOP_GRACE)
    queues = (TELEGRAM, TIMERS)
    scheduler = Scheduler(
        store=base.store, runner=runner, alarm=alarm, clock=base.clock, queues=queues, recurring=(purge_job,)
    )
    database = base.store.database
    if isinstance(database, WaitingSqliteDatabase):
        for work in (scheduler.take_over, base.chats.ready):
            database.first(work)
            if database.is_open:
                await work()
    else:
        with suppress(StorageUnavailable):
            await base.chats.ready()
    return Engine(alarm=alarm, limits=limits, runner=runner, scheduler=scheduler)


def kinds_of_jobs(base: Foundation, messenger: Messenger) -> tuple[Kind, ...]:
    """How each kind of job is done."""
    formatter, identity, clock, store, chats = (
        base.formatter,
        base.identity,
        base.clock,
        base.store,
        base.chats,
    )
    return (
        Send(messenger=messenger, formatter=formatter, chats=chats, identity=identity, clock=clock),
        EditMessage(
            messenger=messenger, formatter=formatter, chats=chats, identity=identity, clock=clock, tasks=store
        ),
        DeleteMessage(
            messenger=messenger, formatter=formatter, chats=chats, identity=identity, clock=clock, tasks=store
        ),
        Finalize(messenger=messenger, formatter=formatter, identity=identity),
        Reprompt(messenger=messenger, formatter=formatter, identity=identity, clock=clock),
        Expire(clock=clock),
        Purge(tasks=store, clock=clock, keep=timedelta(days=base.settings.retention_days)),
    )


def post_watchers(base: Foundation, engine: Engine) -> Watchers:
    """What looks after the process, its fellows, and the webhook."""
    outages = Outages(store=base.store, alarm=engine.alarm)
    leadership = Leadership(holder=base.identity.holder)
    heartbeat = Heartbeat(store=base.store, clock=base.clock, leadership=leadership, outages=outages)
    public_url = base.settings.public_url
    webhook = WebhookWatch(
        client=base.client,
        url=None if public_url is None else public_url + PATH,
        heartbeat=heartbeat,
        leadership=leadership,
        outages=outages,
        clock=base.clock,
        healer=Healer.of(base.settings, base.client),
    )
    skew = SkewWatch(base.clock, shared=base.shared)
    base.client.hear_date = skew.hear_telegram
    collector = Collector(
        room=base.room,
        jobs=engine.runner,
        limits=engine.limits,
        client=base.client,
        leadership=leadership,
        watch=webhook,
        database=base.store.database,
        notifier=base.notifier,
        skew=skew,
        policy=base.policy,
    )
    name = process_name(base.identity.holder)
    return Watchers(
        heartbeat=heartbeat,
        webhook=webhook,
        skew=skew,
        database_time=DatabaseTime(clock=base.clock, read=partial(database_time_of, base.store.database)),
        collector=collector,
        metrics=SharedMetrics(collector.collect, base.store, name, base.shared),
    )


def loops(base: Foundation, engine: Engine, watchers: Watchers) -> Mapping[str, Loop]:
    """What runs beside the server."""
    return {
        **({"database clock": watchers.database_time.run} if base.shared else {}),
        **({"issuer's keys": base.issuer.warm} if base.issuer else {}),
        "database lock": partial(exit_unless_opened, base.store.database),
        "clock skew": watchers.skew.run,
        "heartbeat": watchers.heartbeat.run,
        "scheduler": engine.scheduler.run,
        "notifier": base.notifier.run,
        "chat book": base.chats.run,
        "holds": engine.limits.holds.run,
        "waiting room": partial(poll_waiting_room, base.store, base.room, base.notifier),
        "policy file": base.policy.watch,
        "webhook": watchers.webhook.run,
        "metrics": watchers.metrics.run,
    }


def wire_services(base: Foundation, engine: Engine, watchers: Watchers, *, connections: int) -> Services:
    """What handlers are given; there are at most so many connections."""
    settings, clock, formatter = base.settings, base.clock, base.formatter
    factory = TaskFactory(base.identity, clock, UlidSequence(clock.milliseconds))
    tasks = TaskService(store=base.store, room=base.room, runner=engine.runner, clock=clock)
    sweep = Sweep(heartbeat=watchers.heartbeat, scheduler=engine.scheduler)
    return Services(
        questions=QuestionService(
            policy=base.current_policy, formatter=formatter, factory=factory, tasks=tasks
        ),
        messages=MessageService(
            policy=base.current_policy, formatter=formatter, factory=factory, tasks=tasks
        ),
        tasks=tasks,
        inbox=wire_inbox(base, engine, watchers, factory),
        authenticate=verifier(base).admit,
        policy=base.current_policy,
        rates=ServiceRates(time.monotonic),
        parse_update=watchers.heartbeat.observed(parse_update),
        webhook_secret=settings.webhook_secret.reveal().encode(),
        readiness=wire_readiness(base, engine, watchers).ask,
        sweep=sweep.run,
        clock=clock,
        limits=RequestLimits(settings.max_wait_seconds, settings.trusted_proxies),
        about=About(
            __version__,
            settings.durability,
            1 if isinstance(settings.database, Path) else None,
            settings.public_url,
        ),
        metrics=Metrics(
            watchers.collector.requests,
            watchers.metrics.expose,
            None if settings.metrics_token is None else settings.metrics_token.reveal().encode(),
        ),
        concurrency=Concurrency(connections),
    )


def verifier(base: Foundation) -> TokenVerifier:
    """Who looks at tokens."""
    settings = base.settings
    return TokenVerifier(
        base.current_policy,
        [secret.reveal().encode() for secret in settings.jwt_secrets],
        settings.jwt_audience,
        settings.jwt_max_lifetime,
        time.time,
        issuer=base.issuer,
    )


def wire_inbox(base: Foundation, engine: Engine, watchers: Watchers, factory: TaskFactory) -> Inbox:
    """What takes Telegram's updates."""
    clock, runner = base.clock, engine.runner
    feedback = Feedback(
        messenger=base.client, limits=engine.limits, background=runner.background, clock=clock
    )
    return Inbox(
        store=base.store,
        policy=base.current_policy,
        factory=factory,
        runner=runner,
        feedback=feedback,
        chats=base.chats,
        formatter=base.formatter,
        identity=base.identity,
        clock=clock,
        username=lambda: base.client.username,
        metrics=watchers.collector.updates,
    )


def wire_readiness(base: Foundation, engine: Engine, watchers: Watchers) -> ReadinessProbe:
    """What tells whether the process can take requests."""
    return ReadinessProbe(
        store=base.store,
        runner=engine.runner,
        holds=engine.limits.holds,
        notifier=base.notifier,
        policy=base.policy,
        skew=watchers.skew,
        watch=watchers.webhook,
        room=base.room,
        issuer=base.issuer,
    )
