"""What handlers are given: ready objects under one key, and what a request carries with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from core.inbox.inbox import Inbox
from core.metrics import Exposition, Histogram
from core.model.chat import ChatId
from core.model.readiness import Readiness
from core.model.update import Update
from core.policy.concurrency import Concurrency
from core.policy.policy import Policy, Principal
from core.policy.rate_limit import ServiceRates
from core.ports import Clock
from core.services.messages import MessageService
from core.services.questions import QuestionService
from core.services.tasks import TaskService

DEFAULT_CONNECTIONS: Final = 12_000
"""Connections of a process whose operator has not said how many."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What the operator has set.

    Attributes:
        max_wait: the longest a request is held, in seconds.
        trusted_proxies: how many routers in front add to `X-Forwarded-*`; 0 ignores such headers.
    """

    max_wait: int = 25
    trusted_proxies: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What this gateway is, for `/v1/capabilities`.

    Attributes:
        durability: `durable`, or `until_redeploy` on a disk that a deploy wipes.
        processes: how many server processes may share this gateway's work; None is any number.
        public_url: where it is reached, when the operator has said so.
    """

    version: str
    durability: str
    processes: int | None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class StreamPace:
    """How streams of events go on, in seconds.

    Attributes:
        comment_every: between two signs of life, while there is nothing to tell.
        patience: after which a reader that takes nothing is dropped.
    """

    comment_every: float = 15.0
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What this process counts, and who may see it.

    Attributes:
        requests: how long requests took, by endpoint and status.
        expose: the metrics of all processes as text, in a format that this `Accept` header names.
        token: what a scraper may send instead of a service's token; None when it may not.
    """

    requests: Histogram
    expose: Callable[[str], Awaitable[Exposition]]
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use, ready made by the composition root.

    Attributes:
        authenticate: a token's principal, at once whenever that can be; raises `Unauthenticated`.
        policy: the policy as it is now.
        rates: counts the requests of services that have a rate.
        parse_update: what the body of a webhook call means; never raises.
        webhook_secret: what Telegram sends with every update.
        readiness: asks everything that this process needs.
        clock: tells the time by which tasks come due.
        sweep: works off what is due; returns how much that was.
        streams: how streams of events go on.
        concurrency: counts the requests of each service that are at work.
    """

    questions: QuestionService
    messages: MessageService
    tasks: TaskService
    inbox: Inbox
    authenticate: Callable[[str], Principal | Awaitable[Principal]]
    policy: Callable[[], Policy]
    rates: ServiceRates
    parse_update: Callable[[bytes], Update]
    webhook_secret: bytes
    readiness: Callable[[], Awaitable[Readiness]]
    sweep: Callable[[], Awaitable[int]]
    clock: Clock
    limits: RequestLimits
    about: About
    metrics: Metrics
    streams: StreamPace = StreamPace()
    concurrency: Concurrency = field(default_factory=lambda: Concurrency(DEFAULT_CONNECTIONS))


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
ENDPOINT: web.RequestKey[str] = web.RequestKey("endpoint", str)
SCRAPER: web.RequestKey[bool] = web.RequestKey("scraper", bool)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
UPDATE: web.RequestKey[dict[str, object]] = web.RequestKey("update", dict)
"""What the request's line in the log tells of the update that it brought."""

REACH: web.RequestKey[tuple[str, ChatId]] = web.RequestKey("reach", tuple)
"""The endpoint and the chat that one role has to name for this request, once that is known."""

HAS_BEGUN: web.RequestKey[bool] = web.RequestKey("has_begun", bool)
"""Set once an answer that goes on is on its way, so that no other one can be given."""
