"""The composition root: the one place that knows everybody. gunicorn's target is `infra.app:create_app`."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from aiohttp import web
from ulid import ULID

from core.allowance import Allowances
from core.asking import Asking
from core.deadlines import Timekeeper, forget_finished
from core.drafting import Drafter
from core.errors import StorageUnavailable
from core.inbox import Inbox
from core.ports import GatewayIdentity
from core.sending import Sender
from core.submitting import TaskDesk
from core.telling import Telling
from core.waiting import WaitingRoom
from handlers.application import build_application
from handlers.keys import About, Limits, Readiness, Services
from handlers.middlewares import current_request_id
from handlers.routes import SERVED
from infra import __version__
from infra.background import running
from infra.clock import SystemClock
from infra.logs import set_request_id_source
from infra.policy_file import PolicyFile
from infra.server import GatewayRunner, make_runner
from infra.settings import Settings
from infra.store import Store, open_sqlite
from infra.telegram.client import TelegramClient
from infra.telegram.format import TelegramFormatter
from infra.telegram.parse import parse_update
from infra.telegram.watch import WebhookWatch
from infra.telegram.webhook import PATH
from infra.tokens import TokenVerifier
from infra.wakers import LocalWaker, sweep_waiting_room

STOP_GRACE = 1.5
"""Seconds that sends in flight get when the process is told to stop."""

_LOCK_EXTRA = 5.0


async def create_app() -> GatewayRunner:
    """Build the whole gateway from the environment, in the loop that will serve it.

    Raises:
        TelegateError: settings, policy or database do not let it start; the text says what to do.
    """
    settings = Settings.from_environment()
    set_request_id_source(current_request_id.get)
    async with AsyncExitStack() as stack:
        gateway = await Gateway.open(settings, stack)
        app = build_application(gateway.services())
        app.on_shutdown.append(gateway.drain)
        kept_open = stack.pop_all()
        app.on_cleanup.append(lambda _app: kept_open.aclose())
        _collect_less_often()
        return make_runner(app, settings)


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
    """

    def __init__(self, settings: Settings, store: Store, client: TelegramClient, policy: PolicyFile) -> None:
        self.settings = settings
        self.store = store
        self.client = client
        self.policy = policy
        self.draining = False
        clock = SystemClock()
        identity = GatewayIdentity(settings.bot_id, f"{os.getpid()}-{ULID()}", store.button_keys())
        self.drafter = Drafter(identity, clock, lambda: str(ULID()))
        self.formatter = TelegramFormatter()
        self.waker = LocalWaker()
        self.room = WaitingRoom()
        self.waker.subscribe(self.room.wake)
        self.sender = Sender(store, client, self.formatter, self.waker, self.drafter)
        self.timekeeper = Timekeeper(store, store, self.sender)
        self.sender.alarm = self.timekeeper.remember
        self.watch = WebhookWatch(client, _webhook_url(settings))
        self.verifier = TokenVerifier(
            lambda: policy.current,
            [secret.reveal().encode() for secret in settings.jwt_secrets],
            settings.jwt_audience,
            settings.jwt_max_lifetime,
            time.time,
        )

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> Gateway:
        """Open what has to be open, and start the loops; the stack closes everything again."""
        policy = PolicyFile.opened(settings.permissions_file, settings.person_roles)
        settings.require_signing_key(services_have_keys=bool(policy.current.keys))
        lock_wait = settings.shutdown_grace + _LOCK_EXTRA
        opened = open_sqlite(settings.database_path, settings.bot_id, lock_wait=lock_wait)
        store = await stack.enter_async_context(opened)
        client = TelegramClient(settings.bot_token, settings.telegram_api_url)
        await client.start()
        stack.push_async_callback(client.close)
        gateway = cls(settings, store, client, policy)
        stack.push_async_callback(partial(gateway.sender.stop, STOP_GRACE))
        await stack.enter_async_context(running(gateway.loops()))
        return gateway

    def loops(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """What runs beside the server."""
        keep = timedelta(days=self.settings.retention_days)
        return {
            "keeping deadlines": self.timekeeper.run,
            "sweeping the waiting room": partial(sweep_waiting_room, self.store, self.room),
            "watching the policy file": self.policy.watch,
            "watching the webhook": self.watch.run,
            "forgetting finished tasks": partial(forget_finished, self.store, self.drafter.clock, keep),
        }

    def services(self) -> Services:
        """What handlers are given."""
        settings = self.settings
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
            ),
            authenticate=self.verifier.verify,
            policy=lambda: self.policy.current,
            allowances=Allowances(time.monotonic),
            parse_update=parse_update,
            webhook_secret=settings.webhook_secret.reveal().encode(),
            readiness=self.readiness,
            limits=Limits(settings.max_wait_seconds, settings.trusted_proxies),
            about=About(__version__, settings.durability, 1, settings.public_url),
        )

    async def readiness(self) -> Readiness:
        """What `/readyz` tells. Only what keeps this process from working makes it not ready."""
        database = "ok"
        try:
            await self.store.check()
        except StorageUnavailable as error:
            database = error.detail
        checks = {
            "database": database,
            "policy": "ok" if self.policy.last_error is None else "The newest permissions.yaml is refused.",
            "telegram": self.watch.telegram,
            "webhook": self.watch.webhook,
        }
        if self.draining:
            checks["process"] = "It is shutting down."
        return Readiness(database == "ok" and not self.draining, checks, len(self.room))

    async def drain(self, _app: web.Application) -> None:
        """Let every waiting request answer now: with its answer, or with 202 and where to look."""
        self.draining = True
        self.room.close()


def _collect_less_often() -> None:
    """Keep the collector away from what lives as long as the process; requests leave hardly any cycles.

    By default it looked at everything again and again, and took a tenth to a fifth of a request's time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _webhook_url(settings: Settings) -> str | None:
    return None if settings.public_url is None else settings.public_url + PATH
