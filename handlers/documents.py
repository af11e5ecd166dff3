"""What responses say: tasks and lists of tasks as JSON documents, with their schemas for OpenAPI."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.failure import Failure
from core.model.person import Person
from core.model.task import Task

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T10:00:07Z"])]


class ChatDocument(TypedDict):
    """Where a task happens."""

    id: int | str
    alias: str | None
    topic: int | None


class PersonDocument(TypedDict):
    """Who answered."""

    id: int
    username: str | None
    name: str


class AnswerDocument(TypedDict):
    """What a person said; `by` is null when nobody did and `on_expiry` counts."""

    choice: str | None
    label: str | None
    text: str | None
    value: str | None
    file: None
    reason: str | None
    by: PersonDocument | None
    at: Time


class TelegramErrorDocument(TypedDict):
    """What Telegram said."""

    error_code: int
    description: str


class FailureDocument(TypedDict):
    """Why a task is not done, or not done yet."""

    code: str
    detail: str
    telegram: TelegramErrorDocument | None


class TaskDocument(TypedDict):
    """An operation that a service asked the bot to perform."""

    id: Annotated[str, Field(pattern=r"^tsk_[0-9A-HJKMNP-TV-Z]{26}$")]
    kind: Literal["message", "question", "edit", "deletion", "broadcast", "call"]
    state: Literal[
        "queued", "sending", "sent", "asked", "answered", "expired", "cancelled", "failed", "unknown"
    ]
    service: str
    chat: ChatDocument
    of: str | None
    message_ids: list[int]
    created_at: Time
    updated_at: Time
    expires_at: Time
    not_before: Time | None
    answer: AnswerDocument | None
    answers: list[AnswerDocument]
    error: FailureDocument | None
    metadata: dict[str, str]


class TaskListDocument(TypedDict):
    """A page of tasks, newest first; `next` is the cursor of the next page."""

    items: list[TaskDocument]
    next: str | None


def task_document(task: Task) -> dict[str, Any]:
    """A task as services see it (`TaskDocument`)."""
    document: TaskDocument = {
        "id": task.id,
        "kind": task.kind.value,
        "state": task.state.value,
        "service": task.service,
        "chat": _chat(task.chat),
        "of": task.of,
        "message_ids": list(task.message_ids),
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "expires_at": rfc3339(task.expires_at),
        "not_before": None if task.not_before is None else rfc3339(task.not_before),
        "answer": None if task.decision is None else _answer(task.decision),
        "answers": [_answer(answer) for answer in task.answers],
        "error": None if task.error is None else _failure(task.error),
        "metadata": dict(task.metadata),
    }
    return {**document}


def rfc3339(at: datetime) -> str:
    """A time in UTC, to the millisecond when it has one (RFC 3339)."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")[:-6] + "Z"


def _chat(chat: Chat) -> ChatDocument:
    return {"id": chat.id, "alias": chat.alias, "topic": chat.topic}


def _answer(answer: Answer) -> AnswerDocument:
    return {
        "choice": answer.choice,
        "label": answer.label,
        "text": answer.text,
        "value": answer.value,
        "file": None,
        "reason": answer.reason,
        "by": None if answer.by is None else _person(answer.by),
        "at": rfc3339(answer.at),
    }


def _person(person: Person) -> PersonDocument:
    return {"id": person.id, "username": person.username, "name": person.name}


def _failure(failure: Failure) -> FailureDocument:
    telegram: TelegramErrorDocument | None = None
    if failure.error_code is not None:
        telegram = {"error_code": failure.error_code, "description": failure.description or ""}
    return {"code": failure.code, "detail": failure.detail, "telegram": telegram}
