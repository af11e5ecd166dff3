"""What the API reference promises of every response; checked on each one that a test receives."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from multidict import CIMultiDictProxy

Json = Any
"""A JSON document, as it was received: tests look into it with plain indexes."""

STATUS_OF = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "chat_forbidden": 403,
    "tls_required": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "already_final": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "idempotency_mismatch": 422,
    "telegram_rejected": 422,
    "recipient_unreachable": 422,
    "rate_limited": 429,
    "internal": 500,
    "not_built": 501,
    "telegram_unavailable": 503,
    "storage_unavailable": 503,
    "overloaded": 503,
    "outcome_unknown": 504,
}

FINAL_STATES = {"sent", "answered", "expired", "cancelled", "failed", "unknown"}
STATES_OF = {
    "question": {"queued", "sending", "asked", "answered", "expired", "cancelled", "failed", "unknown"},
    "message": {"queued", "sending", "sent", "failed", "unknown"},
    "edit": {"queued", "sending", "sent", "failed", "unknown"},
    "deletion": {"queued", "sending", "sent", "failed", "unknown"},
}

TASK_ID = re.compile(r"tsk_[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)
"""A ULID in Crockford's alphabet, of at most 128 bits (https://github.com/ulid/spec)."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_TASK_FIELDS = {
    "id",
    "kind",
    "state",
    "service",
    "chat",
    "message_ids",
    "created_at",
    "updated_at",
    "expires_at",
    "answer",
    "answers",
    "error",
    "metadata",
}
_ANSWER_FIELDS = {"choice", "label", "text", "value", "file", "reason", "by", "at"}
_PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "code"}


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, read to its end.

    Attributes:
        body: the bytes as they came.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def document(self) -> Json:
        """The body as JSON."""
        return json.loads(self.body)

    def task(self, status: int = 200) -> Json:
        """The task that this response holds, which must have this status."""
        assert self.status == status, self.told()
        return self.document

    def problem(self, code: str) -> Json:
        """The problem that this response tells, which must have this code."""
        assert self.status == STATUS_OF[code], self.told()
        assert self.document["code"] == code, self.told()
        return self.document

    def pointers(self) -> set[str]:
        """The places in the body that an `invalid` names."""
        return {error["pointer"] for error in self.problem("invalid")["errors"]}

    def told(self) -> str:
        """The whole response, for the message of a failed assertion."""
        return f"{self.status} {dict(self.headers)}\n{self.body[:4000].decode(errors='replace')}"


def check(response: Response) -> Response:
    """Hold a response to what is promised of every one."""
    assert response.headers.get("X-Request-Id"), f"No X-Request-Id: {response.told()}"
    assert response.status != 500, response.told()
    if response.status >= 400:
        check_problem(response)
    if response.status == 202:
        assert response.headers["Location"] == f"/v1/tasks/{response.document['id']}", response.told()
        assert response.headers["Retry-After"].isdigit(), response.told()
        assert response.document["state"] not in FINAL_STATES, response.told()
    return response


def check_problem(response: Response) -> None:
    """RFC 9457, with this API's members."""
    assert response.headers["Content-Type"].split(";")[0] == "application/problem+json", response.told()
    problem = response.document
    assert set(problem) - {"errors", "task"} == _PROBLEM_FIELDS, response.told()
    assert problem["status"] == response.status == STATUS_OF[problem["code"]], response.told()
    assert problem["instance"] == response.headers["X-Request-Id"], response.told()
    assert all(isinstance(problem[name], str) and problem[name] for name in ("type", "title", "detail"))
    for error in problem.get("errors", ()):
        assert set(error) == {"pointer", "detail"}, response.told()
        assert error["pointer"] == "" or error["pointer"].startswith("/"), response.told()
        assert error["detail"], response.told()
    if problem["code"] == "method_not_allowed":
        assert response.headers["Allow"], response.told()
    if problem["code"] == "unauthenticated":
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), response.told()
    if response.status in {429, 503} and "task" not in problem:
        assert response.headers["Retry-After"].isdigit(), response.told()
    if "task" in problem:
        check_task(problem["task"])


def check_task(task: Json) -> None:
    """Every field of a task, whatever its state."""
    optional = {"of", "not_before"}
    assert set(task) - optional == _TASK_FIELDS, task
    assert TASK_ID.fullmatch(task["id"]), task
    assert task["state"] in STATES_OF[task["kind"]], task
    assert set(task["chat"]) == {"id", "alias", "topic"}, task
    assert all(isinstance(number, int) for number in task["message_ids"]), task
    made, changed, ends = (time_of(task[name]) for name in ("created_at", "updated_at", "expires_at"))
    assert made <= changed, task
    assert made < ends, task
    if task["kind"] in {"edit", "deletion"}:
        assert TASK_ID.fullmatch(task["of"]), task
    if task["state"] in {"failed", "unknown"}:
        assert task["error"]["code"] in STATUS_OF, task
    if task["error"] is not None:
        assert set(task["error"]) == {"code", "detail", "telegram"}, task
    for answer in (task["answer"], *task["answers"]):
        if answer is not None:
            check_answer(answer)
    if task["state"] == "answered":
        assert task["answer"] in task["answers"], task


def check_answer(answer: Json) -> None:
    """Every field of an answer."""
    assert set(answer) == _ANSWER_FIELDS, answer
    time_of(answer["at"])
    if answer["by"] is not None:
        assert set(answer["by"]) == {"id", "username", "name"}, answer


def time_of(text: str) -> datetime:
    """A time as RFC 3339 writes it, in UTC."""
    assert _TIME.fullmatch(text), f"{text!r} is not a time of RFC 3339 in UTC."
    return datetime.fromisoformat(text)
