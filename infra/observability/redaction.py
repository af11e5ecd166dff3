"""Redaction: secrets are taken out of words before anybody is told them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from infra.config.secret import Secret

HIDDEN: Final = "(hidden)"

_SHORTEST = 6
"""Characters; what is shorter stands in every other sentence."""

_DEEPEST = 6

# What a secret looks like, for those that nobody registered: bot tokens in Telegram's addresses, JWTs,
# and the value of `Authorization` however a library prints its headers. Before each stands a part of
# it in small letters: looking for that first costs a hundredth of the search, and few lines hold any.
_PATTERNS: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    ("bot", re.compile(r"\bbot[0-9]+(?::|%3[Aa])[A-Za-z0-9_-]+"), f"bot{HIDDEN}"),
    ("eyj", re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"), HIDDEN),
    (
        "authorization",
        re.compile(
            r"(?i)(\b(?:proxy-)?authorization\b['\"]?\s*[:=,]\s*(?:b?['\"])?(?:(?:bearer|basic|digest)\s+)?)"
            r"(?!\(hidden\))[^\s'\",;)\]}]+"
        ),
        rf"\1{HIDDEN}",
    ),
    ("bearer", re.compile(r"(?i)\b(bearer\s+)(?!\(hidden\))[A-Za-z0-9._~+/=-]{8,}"), rf"\1{HIDDEN}"),
)

_SIGNS: Final = tuple(sign for sign, *_ in _PATTERNS)


class KnownSecrets:
    """Secrets that are known by their values, in whatever form they stand in words."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.register(secrets)

    def register(self, secrets: Iterable[Secret]) -> None:
        """Never let these values through. Values under six characters are left alone."""
        for secret in secrets:
            self._known.update(form for form in _forms(secret.reveal()) if len(form) >= _SHORTEST)
        # What holds another one goes first.
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def hide(self, text: str) -> str:
        """The text without them."""
        if self._pattern is not None and any(secret in text for secret in self._known):
            return self._pattern.sub(HIDDEN, text)
        return text


def _forms(value: str) -> Iterator[str]:
    """A secret as it is, as `repr` and JSON escape it, and as addresses quote it."""
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield value.replace(":", "%3A")
    quoted = quote(value, safe="")
    yield quoted
    if "%" in quoted:
        # Not of every secret: in small letters, some are a word of every other line.
        yield quoted.lower()


class Redaction(KnownSecrets):
    """Replaces secrets in text: the registered ones wherever they stand, and what looks like one."""

    def suspects(self, text: str) -> bool:
        """Whether `clean` might change the text; quick, since nearly no line holds anything."""
        # Loops: a generator costs more than what it looks for, and a regular expression ten times as much.
        for secret in self._known:
            if secret in text:
                return True
        lower = text.lower()
        for sign in _SIGNS:  # noqa: SIM110 -- see above
            if sign in lower:
                return True
        return False

    def clean(self, text: str) -> str:
        """The text without secrets."""
        text = self.hide(text)
        lower = text.lower()
        for part, pattern, replacement in _PATTERNS:
            if part in lower:
                text = pattern.sub(replacement, text)
        return text

    def clean_value(self, value: object, depth: int = 0) -> object:
        """A value fit for JSON, without secrets; what is no plain value is told by its `str`."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self.clean(value)
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {self.clean(str(key)): self.clean_value(one, depth + 1) for key, one in value.items()}
        if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self.clean_value(one, depth + 1) for one in value]
        return self.clean(str(value))
