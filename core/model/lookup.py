"""Lookups: which tasks an update is about, and which tasks a service wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.model.task import TaskKind
from core.model.transition import TaskState


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An `Idempotency-Key` with its scope (service and route) and the fingerprint of the body.

    Source: draft-ietf-httpapi-idempotency-key-header-07.
    """

    service: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which of a service's tasks to list; None means any.

    Attributes:
        after: the id of the last task of the page before, or None for the first page.
        limit: at most this many, 1 to 200.
    """

    service: str
    state: TaskState | None = None
    kind: TaskKind | None = None
    chat: int | str | None = None
    among: frozenset[int | str] | None = None
    since: datetime | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ByToken:
    """Look for the task whose buttons carry this token."""

    token: bytes


@dataclass(frozen=True, slots=True)
class ByMessage:
    """Look for the task that this Telegram message belongs to.

    When no task is known to have it, whoever sent it may not have stored that yet, or was killed before:
    then the questions in this chat that wait for an answer are found instead, newest first.
    """

    chat: int
    message_id: int


@dataclass(frozen=True, slots=True)
class OpenQuestions:
    """Look for the questions in this chat that wait for an answer, newest first."""

    chat: int


Lookup = ByToken | ByMessage | OpenQuestions
