"""`/openapi.json`: the description (OpenAPI 3.1), made from the route table and the body models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from core.policy.routes import FOR_EVERY_SERVICE, PUBLIC
from handlers.admission import PROBED
from handlers.documents import TaskDocument, TaskListDocument
from handlers.keys import SERVICES
from handlers.problems import MOST_PROBLEMS, PROBLEMS_BY_CODE
from handlers.responses import SharedResponse, json_bytes
from handlers.route import ROUTE_TABLE, Answers, Route

_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = ("internal",)
_NOT_PROBED: Final = ("tls_required",)
_AUTHENTICATED: Final = ("unauthenticated", "rate_limited", "overloaded", "storage_unavailable")
_WITH_BODY: Final = ("malformed", "too_large", "unsupported_media_type", "invalid")
_TEXTS: Final = ("text/plain", "application/openmetrics-text")
_WITH_TASK: Final = frozenset({"200", "202", "422", "503", "504"})
"""Statuses of answers that can hold the task that the request made."""

_MODELS: Final[Mapping[Answers, str]] = {
    Answers.NEW_TASK: "TaskDocument",
    Answers.TASK: "TaskDocument",
    Answers.TASK_LIST: "TaskListDocument",
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "instance", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id, as in X-Request-Id."},
        "code": {"type": "string", "enum": sorted(PROBLEMS_BY_CODE)},
        "errors": {
            "type": "array",
            "maxItems": MOST_PROBLEMS,
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "task": {"$ref": "#/components/schemas/TaskDocument"},
    },
}
_IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes repeating the request safe: the same key attaches to the same task.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
    },
}
_PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "description": "How long to hold the request (RFC 7240): `wait=20`, or `respond-async`.",
    "schema": {"type": "string", "examples": ["wait=20", "respond-async"]},
}
_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The `id` of the last event that came: what it told is not told again.",
    "schema": {"type": "string"},
}
_HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Request-Id": {
        "description": "The request's id: the one that it came with, when that is well formed.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where the task is, `/v1/tasks/{id}`, whenever the request has one.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "What was followed of `Prefer` (RFC 7240).",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "In how many seconds to come back.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {
        "description": "RFC 6750. `error_description` is `expired` or `invalid`.",
        "required": True,
        "schema": {"type": "string"},
    },
}
_OF_STATUS: Final[Mapping[str, tuple[str, ...]]] = {
    "202": ("Retry-After",),
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
"""Headers that a status brings with it, except to probes."""

_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "One event, by its fields.",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"const": "task"},
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": _REF.format(model="TaskDocument")},
        },
    },
}
_EVENTS: Final[dict[str, Any]] = {
    "200": {
        "description": "Server-sent events, up to the one that tells a final task.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
    "204": {"description": "The task is final, and the client has its last event. Do not come back."},
}


async def tell_description(request: web.Request) -> web.Response:
    """The API's description."""
    about = request.app[SERVICES].about
    body = _encoded(request.app[ROUTE_TABLE], about.version, about.public_url)
    return SharedResponse(body=body, content_type="application/json")


@cache
def _encoded(routes: tuple[Route, ...], version: str, public_url: str | None) -> bytes:
    return json_bytes(description(routes, version, public_url))


@cache
def description(routes: tuple[Route, ...], version: str, public_url: str | None) -> dict[str, Any]:
    """The whole OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Telegate",
            "version": version,
            "summary": "Telegram behind a REST API: ask people, and the answer is the response.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(route.body for route in routes),
            "headers": _HEADERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__ if route.built else _unbuilt_id(route),
        "summary": route.summary if route.built else f"{route.summary} (not in this version)",
        "tags": [route.tag],
        "parameters": list(_parameters(route)),
        "responses": _responses(route),
        "x-permission": _permission(route),
    }
    if route.endpoint in PUBLIC:
        operation["security"] = []
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _unbuilt_id(route: Route) -> str:
    words = re.findall(r"[a-z_]+", route.path)
    return "_".join((route.method.lower(), *words))


def _permission(route: Route) -> str:
    if route.endpoint in PUBLIC:
        return "public"
    return "any service" if route.endpoint in FOR_EVERY_SERVICE else route.endpoint


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if not route.built:
        return
    if route.answers in {Answers.NEW_TASK, Answers.TASK} and route.endpoint != "DELETE /v1/tasks/{id}":
        yield _PREFER
    if route.answers is Answers.NEW_TASK:
        yield _IDEMPOTENCY_KEY
    if route.answers is Answers.TASK_LIST:
        yield from _list_parameters()
    if route.answers is Answers.TASK_EVENTS:
        yield _LAST_EVENT_ID


def _list_parameters() -> Iterable[dict[str, Any]]:
    task = TypeAdapter(TaskDocument).json_schema()["properties"]
    schemas: Mapping[str, Any] = {
        "state": task["state"],
        "kind": task["kind"],
        "chat": {"type": "string"},
        "since": {"type": "string", "format": "date-time"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
        "cursor": {"type": "string"},
    }
    for name, schema in schemas.items():
        yield {"name": name, "in": "query", "schema": schema}


def _responses(route: Route) -> dict[str, Any]:
    responses = _good_responses(route) if route.built else {}
    for status, codes in sorted(_codes_by_status(route).items()):
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {PROBLEMS_BY_CODE[code].title}" for code in codes),
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return {
        status: {**response, "headers": _headers(route, status)} for status, response in responses.items()
    }


def _headers(route: Route, status: str) -> dict[str, Any]:
    makes_task = route.answers is Answers.NEW_TASK
    names = ["X-Request-Id"]
    if makes_task and status in _WITH_TASK:
        names.append("Location")
    if _PREFER in _parameters(route) and (status == "200" or (makes_task and status in _WITH_TASK)):
        names.append("Preference-Applied")
    if route.path not in PROBED:
        names.extend(_OF_STATUS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _good_responses(route: Route) -> dict[str, Any]:
    if route.answers is Answers.NOTHING:
        return {"200": {"description": "Stored."}}
    if route.answers is Answers.TASK_EVENTS:
        return _EVENTS.copy()
    if route.answers is Answers.TEXT:
        text = {"schema": {"type": "string"}}
        return {"200": {"description": "Done.", "content": dict.fromkeys(_TEXTS, text)}}
    model = _MODELS.get(route.answers)
    schema = {"type": "object"} if model is None else {"$ref": _REF.format(model=model)}
    content = {"application/json": {"schema": schema}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    if route.endpoint == "GET /readyz":
        responses["503"] = {"description": "Not ready; the same document says why.", "content": content}
    if route.answers is Answers.NEW_TASK:
        responses["202"] = {"description": "Not final yet.", "content": content}
    return responses


def _codes_by_status(route: Route) -> dict[int, list[str]]:
    codes = dict.fromkeys((*route.codes, *_ALWAYS))
    if route.path not in PROBED:
        codes |= dict.fromkeys(_NOT_PROBED)
    if route.endpoint not in PUBLIC:
        codes |= dict.fromkeys(_AUTHENTICATED)
        if route.endpoint not in FOR_EVERY_SERVICE:
            codes |= dict.fromkeys(("forbidden",))
    if route.body is not None:
        codes |= dict.fromkeys(_WITH_BODY)
    if any(parameter in (_PREFER, _IDEMPOTENCY_KEY) for parameter in _parameters(route)):
        codes |= dict.fromkeys(("malformed",))
    if route.built and route.path.startswith("/v1/"):
        codes |= dict.fromkeys(("invalid",))  # a parameter of the query that the path does not have
    if not route.built:
        codes |= dict.fromkeys(("not_built",))
    grouped: dict[int, list[str]] = {}
    for code in codes:
        grouped.setdefault(PROBLEMS_BY_CODE[code].status, []).append(code)
    return grouped


def _schemas(bodies: Iterable[Any]) -> dict[str, Any]:
    models = [(body, "validation") for body in dict.fromkeys(bodies) if body is not None]
    _, top = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    documents = TypeAdapter(TaskListDocument).json_schema(ref_template=_REF)
    found = {**top["$defs"], **documents.pop("$defs")}
    return {**found, "TaskListDocument": documents, "Problem": _PROBLEM}
