"""The parameters of a Bot API call, from the query, a form, a multipart or a JSON body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from infra.sandbox.answers import MethodFailed, bad_request

LARGEST_UPLOAD = 50 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a call."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a call was given: values by name, and files.

    Values keep the type they came with: text in forms, anything in JSON.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A text; empty when it is not given."""
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return value if isinstance(value, str) else str(value)

    def integer(self, name: str) -> int:
        """A whole number; 0 when it is not given or not a number, as Telegram reads it."""
        match = re.match(r"\s*(-?\d{1,19})", self.text(name))
        return int(match[1]) if match else 0

    def flag(self, name: str) -> bool:
        """A yes or no."""
        return self.text(name).lower() in {"true", "yes", "1"}

    def structure(self, name: str, what: str) -> Any:
        """An object or array, given as JSON; None when it is not given.

        Args:
            name: of the parameter.
            what: how the error text calls it.

        Raises:
            MethodFailed: it is not JSON.
        """
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        if not value:
            return None
        try:
            return json.loads(value)
        except ValueError as error:
            raise bad_request(f"can't parse {what} JSON object") from error

    def chat(self) -> int | str | None:
        """The chat it is about, for the log and for faults."""
        value = self.text("chat_id")
        return (int(value) if re.fullmatch(r"-?\d{1,19}", value) else value) if value else None


async def read_parameters(request: web.Request) -> Parameters:
    """Read a request in any of the forms that the Bot API takes.

    Raises:
        MethodFailed: the body cannot be read, or is too large.
    """
    try:
        return await _read(request, dict(request.query))
    except web.HTTPRequestEntityTooLarge as error:
        raise MethodFailed(413) from error


async def _read(request: web.Request, values: dict[str, Any]) -> Parameters:
    kind = request.content_type
    if request.method == "GET" or not request.can_read_body:
        return Parameters(values)
    if kind == "application/json":
        return Parameters(values | _json_body(await request.read()))
    if kind == "application/x-www-form-urlencoded":
        return Parameters(values | {name: str(value) for name, value in (await request.post()).items()})
    if kind == "multipart/form-data":
        return await _multipart(request, values)
    return Parameters(values)


def _json_body(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body) if body.strip() else {}
    except ValueError as error:
        raise bad_request("can't parse JSON object") from error
    if not isinstance(value, dict):
        raise bad_request("JSON object expected")
    return value


async def _multipart(request: web.Request, values: dict[str, Any]) -> Parameters:
    files: dict[str, Upload] = {}
    try:
        form = await request.post()
    except ValueError as error:
        raise bad_request("can't parse multipart body") from error
    for name, value in form.items():
        if isinstance(value, web.FileField):
            files[name] = Upload(value.filename, value.content_type, value.file.read())
        else:
            values[name] = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else value
    return Parameters(values, files)
