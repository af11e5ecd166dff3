"""Reading: from a token's text to its header and claims, before any of it is believed."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from infra.auth.errors import TokenRefused

_LARGEST_TOKEN = 8192
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MOST_BRACKETS = 64
"""More than any token of ours needs, and far fewer than what makes a parser recurse too deep."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A token's header and claims, read and not yet believed."""

    header: dict[str, Any]
    claims: dict[str, Any]


def read(token: str) -> Parts:
    """Take a token apart.

    Raises:
        TokenRefused: it is no JWS in compact form (RFC 7515, section 3.1), or not strict JSON.
    """
    if len(token) > _LARGEST_TOKEN:
        raise TokenRefused(f"The token is longer than {_LARGEST_TOKEN} characters.")
    segments = token.split(".")
    if len(segments) != 3:  # noqa: PLR2004 - header, claims, signature (RFC 7515, section 3.1)
        raise TokenRefused("A token is three segments with dots between; this one is not.")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise TokenRefused("A segment of the token is empty or is not base64url.")
    return Parts(_json_object(segments[0], "header"), _json_object(segments[1], "payload"))


def _json_object(segment: str, what: str) -> dict[str, Any]:
    try:
        text = _decoded(segment).decode("utf-8")
        value = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise TokenRefused(f"The token's {what} cannot be read as JSON: {why_unreadable(error)}.") from error
    if not isinstance(value, dict):
        raise TokenRefused(f"The token's {what} is not a JSON object.")
    return value


def strict_json(text: str, most_brackets: int = _MOST_BRACKETS) -> Any:
    """JSON in which no name stands twice, every number is one of JSON's, and not too much is nested.

    A number may be larger than any float: whoever uses it looks at its range.

    Raises:
        ValueError: it is not; `why_unreadable` has the words.
        RecursionError: it is nested too deeply for the parser.
    """
    if text.count("[") + text.count("{") > most_brackets:
        raise ValueError("it holds too many brackets")
    return json.loads(
        text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants, parse_int=_whole_number
    )


def _decoded(segment: str) -> bytes:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise ValueError("its last character has bits that mean nothing")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:
        raise ValueError("a number in it has too many digits") from error


def why_unreadable(error: ValueError | RecursionError) -> str:
    """What is wrong with it, without a word of it."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, binascii.Error):
        return "it is not base64url"
    return str(error)
