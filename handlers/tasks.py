"""`/v1/tasks`: look at tasks, wait for them, take open questions back."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from aiohttp import web

from core.model.errors import FieldProblem, Invalid
from core.model.lookup import TaskFilter
from core.model.task import Task, TaskKind
from core.model.transition import TaskState
from handlers.documents import task_document
from handlers.in_flight import note_reach
from handlers.keys import ENDPOINT, PRINCIPAL, SERVICES
from handlers.requests import preference, refuse_parameters, unknown_parameters
from handlers.responses import applied, json_response

CANCEL: Final = "DELETE /v1/tasks/{id}"

_PAGE_LIMIT: Final = 200
_PARAMETERS: Final = frozenset({"state", "kind", "chat", "since", "limit", "cursor"})

_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_CURSOR: Final = re.compile(r"tsk_[0-9A-HJKMNP-TV-Z]{26}")
_LIMIT: Final = re.compile(r"[0-9]{1,3}")

T = TypeVar("T")


async def get_task(request: web.Request) -> web.Response:
    """A task as it is now, or, with `Prefer: wait`, once it is final."""
    preferred = preference(request, 0.0)
    refuse_parameters(request)
    service = request[PRINCIPAL].service
    task = await request.app[SERVICES].tasks.look(
        request.match_info["id"], service, preferred.wait, sight_of(request)
    )
    return applied(json_response(task_document(task)), preferred)


def sight_of(request: web.Request) -> Callable[[Task], bool]:
    """Whether a task is in a chat that a role of this request names which also names its endpoint."""

    def in_sight(task: Task) -> bool:
        policy, endpoint = request.app[SERVICES].policy(), request[ENDPOINT]
        chats = policy.chats_in_reach(request[PRINCIPAL], endpoint)
        if chats is not None and task.chat.id not in chats:
            return False
        note_reach(request, endpoint, task.chat.id)
        return True

    return in_sight


async def list_tasks(request: web.Request) -> web.Response:
    """This service's tasks, newest first."""
    wanted = _filter(request)
    tasks, more = await request.app[SERVICES].tasks.page(wanted)
    cursor = tasks[-1].id if more else None
    return json_response({"items": [task_document(task) for task in tasks], "next": cursor})


async def cancel_task(request: web.Request) -> web.Response:
    """Take an open question back."""
    refuse_parameters(request)
    services = request.app[SERVICES]
    principal = request[PRINCIPAL]

    def allowed(task: Task) -> None:
        services.policy().require_chat(principal, CANCEL, task.chat.id)

    task = await services.tasks.cancel(request.match_info["id"], principal, allowed)
    return json_response(task_document(task))


def _filter(request: web.Request) -> TaskFilter:
    """What the query asks for; everything that is wrong with it at once.

    Raises:
        Invalid: with a pointer per parameter, such as `/limit`.
    """
    query = request.query
    problems = unknown_parameters(request, _PARAMETERS)

    def read(name: str, parse: Callable[[str], T], advice: str) -> T | None:
        values = query.getall(name, [])
        try:
            return parse(*values) if values else None
        except (ValueError, TypeError, Invalid):
            problems.append(FieldProblem(f"/{name}", advice))
            return None

    policy = request.app[SERVICES].policy()
    wanted = TaskFilter(
        service=request[PRINCIPAL].service,
        among=policy.chats_in_reach(request[PRINCIPAL], request[ENDPOINT]),
        state=read("state", TaskState, f"Use one of: {', '.join(TaskState)}."),
        kind=read("kind", TaskKind, f"Use one of: {', '.join(TaskKind)}."),
        chat=read(
            "chat", lambda name: policy.resolve_chat(_chat(name))[0], "Use an id, @channel or an alias."
        ),
        since=read("since", _time, "Use a time with its zone, as in 2026-11-22T10:00:00Z."),
        after=read("cursor", _cursor, "Use the value of `next` of the page before."),
        limit=read("limit", _limit, f"Use a whole number from 1 to {_PAGE_LIMIT}.") or 50,
    )
    if problems:
        raise Invalid("The query does not validate.", problems=problems)
    return wanted


def _chat(name: str) -> int | str:
    return int(name) if name.lstrip("-").isdecimal() and name.isascii() else name


def _time(text: str) -> datetime:
    """RFC 3339, section 5.6; `fromisoformat` takes much more."""
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def _cursor(text: str) -> str:
    if not _CURSOR.fullmatch(text):
        raise ValueError(text)
    return text


def _limit(text: str) -> int:
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= _PAGE_LIMIT:
        raise ValueError(text)
    return int(text)
