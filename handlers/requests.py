"""Reading requests: bodies within their limits, and the headers that say how to answer."""

from __future__ import annotations

import hashlib
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from aiohttp import web
from pydantic import ValidationError

from core.model.errors import FieldProblem, Invalid, Malformed, TooLarge, UnsupportedMediaType
from core.ports import Idempotency
from core.services.tasks import Submission
from handlers.bodies import Body
from handlers.in_flight import note_reach
from handlers.keys import PRINCIPAL, SERVICES

JSON_LIMIT: Final = 1024 * 1024
"""Bytes of a JSON body."""

DEPTH_LIMIT: Final = 32
"""How deep a JSON body may be nested; the deepest of ours needs 4."""

DEFAULT_WAIT: Final = 25.0
"""Seconds that a request which makes a task is held: common routers cut at 30."""

_SENTENCES: Final[Mapping[str, str]] = {
    "string_too_short": "Write at least {min_length} character(s).",
    "string_too_long": "Write at most {max_length} characters.",
    "too_short": "Give at least {min_length} item(s).",
    "too_long": "Give at most {max_length} item(s).",
}
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
_WAIT = re.compile(r"[0-9]+")
_OUTSIDE_QUOTES = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# Pairs and every other escape are passed over, so that what is left is alone.
_ESCAPED = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)

BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body that is strict JSON, as bytes and parsed."""

    raw: bytes
    value: Any

    @property
    def fingerprint(self) -> str:
        """The same for bodies that mean the same: keys sorted, spaces dropped, defaults not filled in."""
        canonical = json.dumps(self.value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Preference:
    """How long to hold the request (RFC 7240).

    Attributes:
        wait: seconds; 0 answers at once.
        applied: what to say in `Preference-Applied`, or None when nothing was preferred.
    """

    wait: float
    applied: str | None = None


async def read_json(request: web.Request) -> JsonBody:
    """The body of a request, as strict JSON.

    Raises:
        UnsupportedMediaType: it is not JSON in UTF-8, or is compressed.
        TooLarge: it is over 1 MiB.
        Malformed: it is not JSON, or says something twice, or nests too deep.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    if request.content_type != "application/json":
        raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("Send JSON in UTF-8.")
    raw = await read_bytes(request, JSON_LIMIT)
    return JsonBody(raw, parse_json(raw))


async def read_bytes(request: web.Request, limit: int) -> bytes:
    """The body of a request, when it is at most `limit` bytes.

    Raises:
        TooLarge: it is longer.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(f"The body is over {limit:,} bytes.")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"The body is over {limit:,} bytes.")
    return bytes(body)


def parse_json(raw: bytes) -> Any:
    """Strict JSON (RFC 8259): UTF-8, no key twice, no NaN, no deep nesting, no endless numbers.

    Raises:
        Malformed: with what is wrong and where.
    """
    if _SURROGATE.search(raw):
        _refuse_lone_surrogates(raw)
    try:
        value = _DECODER.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} makes no sense.") from error
    except json.JSONDecodeError as error:
        if raw.startswith(BOM_UTF8):
            raise Malformed("The body begins with a byte order mark; leave it out.") from error
        raise Malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise Malformed(f"The body is nested deeper than {DEPTH_LIMIT} levels.") from error
    except ValueError as error:
        raise Malformed("The body contains a number with too many digits.") from error
    if _depth_over(value, DEPTH_LIMIT):
        raise Malformed(f"The body is nested deeper than {DEPTH_LIMIT} levels.")
    return value


def parse_body(body: JsonBody, model: type[BodyT]) -> BodyT:
    """A body as its model.

    Args:
        body: the JSON.
        model: what it has to be.

    Raises:
        Invalid: with every wrong field.
    """
    try:
        return model.model_validate_json(body.raw)
    except ValidationError as error:
        problems = _problems(error, body.value, model.not_built)
        raise Invalid(_summary(problems), problems=problems) from error


def preference(request: web.Request, default: float) -> Preference:
    """How long the request is to be held.

    Args:
        request: with or without `Prefer`.
        default: seconds, when it says nothing.

    Raises:
        Malformed: `wait` is no number of seconds.
    """
    longest = float(request.app[SERVICES].limits.max_wait)
    wanted: dict[str, str] = {}
    for entry in _OUTSIDE_QUOTES.findall(",".join(request.headers.getall("Prefer", []))):
        name, _, value = entry.split(";")[0].partition("=")
        wanted.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "respond-async" in wanted and "wait" not in wanted:
        return Preference(0.0, "respond-async")
    if "wait" not in wanted:
        return Preference(min(default, longest))
    if not _WAIT.fullmatch(wanted["wait"]):
        raise Malformed("Prefer: wait takes a whole number of seconds, as in Prefer: wait=20.")
    wait = min(float(wanted["wait"]), longest)
    return Preference(wait, f"wait={wait:.0f}")


def refuse_parameters(request: web.Request, *known: str) -> None:
    """Refuse parameters of the query that a path of the API does not have, as fields that it does not have.

    Args:
        request: with or without a query.
        known: names that pass.

    Raises:
        Invalid: with every such parameter.
    """
    # The earlier interface has the same handlers, and has always taken any.
    if request.query_string and request.path.startswith("/v1/"):
        problems = unknown_parameters(request, known)
        if problems:
            raise Invalid("The query does not validate.", problems=problems)


def unknown_parameters(request: web.Request, known: Container[str]) -> list[FieldProblem]:
    """What to say of each parameter that is not known."""
    unknown = [name for name in dict.fromkeys(request.query) if name not in known]
    return [FieldProblem(_step(name), "There is no such parameter; check its name.") for name in unknown]


def submission(request: web.Request, wait: float, route: str, fingerprint: Callable[[], str]) -> Submission:
    """How a service wants its new task to be handled.

    Raises:
        Malformed: the `Idempotency-Key` is empty, too long, or given twice.
    """
    principal = request[PRINCIPAL]
    reached = partial(note_reach, request)
    keys = request.headers.getall("Idempotency-Key", [])
    if not keys:
        return Submission(principal, wait, reached=reached)
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Malformed("Idempotency-Key takes one value of 1 to 255 printable ASCII characters.")
    idempotency = Idempotency(principal.service, route, keys[0], fingerprint())
    return Submission(principal, wait, idempotency, reached)


def _refuse_lone_surrogates(raw: bytes) -> None:
    """Python's JSON takes half a character for one; nothing that stores or shows it does."""
    for found in _ESCAPED.finditer(raw):
        if found["lone"]:
            raise Malformed(
                f"The escape {found['lone'].decode()} at byte {found.start('lone')} of the body is half a "
                "character; its other half is missing."
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Malformed(f"The body names {twice[:64]!r} twice in one object; say it once.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON.")


def _depth_over(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, dict | list) for inner in level)


def _summary(problems: Sequence[FieldProblem]) -> str:
    return "One field does not validate." if len(problems) == 1 else "Several fields do not validate."


def _problems(error: ValidationError, value: Any, not_built: frozenset[str]) -> Sequence[FieldProblem]:
    found: dict[str, list[str]] = {}
    for entry in error.errors(include_url=False, include_context=True, include_input=False):
        pointer = _pointer(entry["loc"], value, absent=entry["type"] in {"missing", "extra_forbidden"})
        found.setdefault(pointer, []).append(_sentence(entry, not_built=pointer in not_built))
    return [FieldProblem(pointer, " Or: ".join(dict.fromkeys(said))) for pointer, said in found.items()]


def _pointer(location: tuple[int | str, ...], value: Any, *, absent: bool) -> str:
    """A JSON Pointer to what pydantic names; its names of union members are no part of the body."""
    pointer = ""
    for step in location:
        if isinstance(value, Mapping) and (step in value or (absent and step == location[-1])):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        pointer += _step(step)
    return pointer


def _step(name: int | str) -> str:
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def _sentence(entry: Mapping[str, Any], *, not_built: bool) -> str:
    if entry["type"] == "extra_forbidden":
        if not_built:
            return f"This version does not have {entry['loc'][-1]} yet."
        return "There is no such field; check its name."
    if entry["type"] == "missing":
        return "This field is required."
    if entry["type"] in _SENTENCES:
        return _SENTENCES[entry["type"]].format(**entry.get("ctx", {}))
    message: str = entry["msg"]
    return message if message.endswith(".") else f"{message}."


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
