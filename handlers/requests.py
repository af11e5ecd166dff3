"""Reading requests: bodies within their limits, and the headers that say how to answer."""

from __future__ import annotations

import asyncio
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
from core.model.lookup import Idempotency
from core.services.tasks import Submission
from handlers.bodies import Body
from handlers.in_flight import note_reach
from handlers.keys import PRINCIPAL, SERVICES
from handlers.problems import MOST_PROBLEMS

JSON_LIMIT: Final = 1024 * 1024
"""Bytes of a JSON body."""

DEPTH_LIMIT: Final = 32
"""How deep a JSON body may be nested; the deepest of ours needs 4."""

MOST_VALUES: Final = 2500
"""Values in a JSON body; the largest of ours needs some 1,500. Each may become a problem to tell."""

READ_AT_ONCE: Final = 65_536
"""Bytes of a JSON body that is read in the loop; a larger one is read in a thread."""

LONGEST_NUMBER: Final = 400
"""Digits of a number; the time that Python takes for one grows with their square."""

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
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NESTED = re.compile(rb"[\[{]{%d}" % (DEPTH_LIMIT + 1))
_LONGEST_NAME = 100
"""Characters of a field's name that a problem repeats."""

BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body that is strict JSON, as bytes and parsed."""

    raw: bytes
    value: Any
    known_fingerprint: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for bodies that mean the same: keys sorted, spaces dropped, defaults not filled in."""
        return self.known_fingerprint or _fingerprint(self.value)


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
        Invalid: it has more values than any request needs.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    if request.content_type != "application/json":
        raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
    if (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType("Send JSON in UTF-8.")
    raw = await read_bytes(request, JSON_LIMIT)
    if len(raw) > READ_AT_ONCE:
        return await asyncio.to_thread(_read_large, raw)
    return JsonBody(raw, parse_json(raw))


async def inner_body(value: Any, *, like: JsonBody) -> JsonBody:
    """A part of a body as a body of its own.

    Args:
        value: the part.
        like: the whole.
    """
    if len(like.raw) > READ_AT_ONCE:
        return await asyncio.to_thread(_written, value)
    return JsonBody(json.dumps(value).encode(), value)


def _read_large(raw: bytes) -> JsonBody:
    value = parse_json(raw)
    return JsonBody(raw, value, _fingerprint(value))


def _written(value: Any) -> JsonBody:
    return JsonBody(json.dumps(value).encode(), value, _fingerprint(value))


def _fingerprint(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


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
        Invalid: there are more values than any request needs, counted before anything is made of them.
    """
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") >= MOST_VALUES:
        _refuse_too_many_values(raw)
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
    if _depth_over(value, DEPTH_LIMIT):
        raise Malformed(f"The body is nested deeper than {DEPTH_LIMIT} levels.")
    if _SURROGATE.search(raw):
        _refuse_lone_surrogates(raw, value)
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
        problems, more = _problems(error, body.value, model.not_built)
        raise Invalid(_summary(problems), problems=problems, more=more) from error


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


def _refuse_too_many_values(raw: bytes) -> None:
    """Count values, up to the first mistake, by a few searches for bytes, which are cheap."""
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = bare.count(b'"') // 2
    if strings > 2 * MOST_VALUES:
        count = strings // 2  # a value has one at most, and one for its name
    else:
        # What stands within strings separates nothing.
        outside = b"".join(bare.split(b'"')[::2])
        if _NESTED.search(outside.translate(None, _NO_BRACKETS)):
            raise Malformed(f"The body is nested deeper than {DEPTH_LIMIT} levels.")
        count = outside.count(b",") + outside.count(b"[") + outside.count(b"{") + 1
    if count > MOST_VALUES:
        raise Invalid.field(
            "",
            f"The body has {count:,} or more values, and no request needs more than {MOST_VALUES:,}: "
            f"leave at least {count - MOST_VALUES:,} out.",
        )


def _refuse_lone_surrogates(raw: bytes, value: Any) -> None:
    """Python's JSON takes half a character for one; nothing that stores or shows it does."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = _LONE_SURROGATE.search(raw.replace(b"\\\\", b"\0\0"))
        where = "" if found is None else f" {found[0].decode()} at byte {found.start()} of the body"
        raise Malformed(f"The escape{where} is half a character; its other half is missing.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Malformed(f"The body names {twice[:64]!r} twice in one object; say it once.")
    return found


def _integer(digits: str) -> int:
    return int(_not_too_long(digits))


def _float(digits: str) -> float:
    return float(_not_too_long(digits))


def _not_too_long(digits: str) -> str:
    if len(digits) > LONGEST_NUMBER:
        raise Malformed("The body contains a number with too many digits.")
    return digits


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


def _problems(
    error: ValidationError, value: Any, not_built: frozenset[str]
) -> tuple[Sequence[FieldProblem], int]:
    """The first problems, and how many there are beyond these."""
    found: dict[str, list[str]] = {}
    entries = error.errors(include_url=False, include_context=True, include_input=False)
    seen = 0
    for entry in entries:
        pointer = _pointer(entry["loc"], value, absent=entry["type"] in {"missing", "extra_forbidden"})
        if len(found) == MOST_PROBLEMS and pointer not in found:
            break
        found.setdefault(pointer, []).append(_sentence(entry, not_built=pointer in not_built))
        seen += 1
    more = len({entry["loc"] for entry in entries[seen:]})
    return [FieldProblem(pointer, " Or: ".join(dict.fromkeys(said))) for pointer, said in found.items()], more


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
    told = str(name)
    if len(told) > _LONGEST_NAME:
        told = f"{told[:_LONGEST_NAME]}…"
    return "/" + told.replace("~", "~0").replace("/", "~1")


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


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
)
