"""What the Bot API answers: a result, or an error in Telegram's words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


PREFIXES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""What a description begins with, by status."""


class MethodFailed(Exception):
    """A Bot API method that was refused, with the status and the words of the real server.

    It is Telegram speaking, never Telegate: it ends as the body of a Bot API answer, hence it stands
    outside the family of `core.model.errors`.

    Args:
        status: HTTP status and `error_code`.
        description: the text after the prefix that belongs to the status.
        parameters: `ResponseParameters`, for example `{"retry_after": 3}`.
    """

    def __init__(self, status: int, description: str = "", parameters: JsonObject | None = None) -> None:
        prefix = PREFIXES.get(status, "Bad Request")
        self.description = f"{prefix}: {description}" if description else prefix
        super().__init__(self.description)
        self.status = status
        self.parameters = parameters


def bad_request(description: str) -> MethodFailed:
    """A 400, the most common refusal."""
    return MethodFailed(400, description)


def too_many_requests(seconds: int) -> MethodFailed:
    """A 429 that names the seconds to wait."""
    return MethodFailed(429, f"retry after {seconds}", {"retry_after": seconds})


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer of the Bot API.

    Attributes:
        status: HTTP status.
        body: JSON, ready to be written.
        outcome: `ok`, or the description of the error, for the call log.
        retry_after: seconds for the `Retry-After` header, or None.
    """

    status: int
    body: bytes
    outcome: str
    retry_after: int | None = None

    @classmethod
    def of(cls, result: Any) -> Answer:
        """The answer to a call that did what it was asked."""
        return cls(200, dump({"ok": True, "result": result}), "ok")

    @classmethod
    def refusing(cls, failure: MethodFailed) -> Answer:
        """The answer to a call that was refused."""
        body: JsonObject = {"ok": False, "error_code": failure.status, "description": failure.description}
        if failure.parameters:
            body["parameters"] = failure.parameters
        retry_after = (failure.parameters or {}).get("retry_after")
        return cls(failure.status, dump(body), failure.description, retry_after)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dump(value: Any) -> bytes:
    """JSON as the Bot API writes it: UTF-8, no spaces."""
    return _encoder.encode(value).encode()
