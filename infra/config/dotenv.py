"""The `.env` file: a small, strict reader, so that a typing mistake is told and not guessed at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(?P<value>.*)")
_QUOTED = re.compile(r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)')[ \t]*(?:#.*)?""")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class DotenvFile:
    """What a `.env` file says.

    Attributes:
        path: the file, for messages.
        values: the settings that could be read.
        lines: the line on which each of them stands, counted from 1.
        problems: one sentence per line that could not be read, without its value.
        unread: the settings on those lines: they are given, although nobody knows as what.
    """

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


def read_dotenv(path: Path) -> DotenvFile:
    r"""Read a `.env` file; one that does not exist is an empty one.

    A line is empty, a comment (`# …`), or `NAME=value`, with `export` before it if you like. A value
    may stand in single quotes (taken as it is) or in double quotes (`\n`, `\t`, `\"`, `\\` are
    understood); without quotes it ends at the end of the line or before ` #`. Nothing is expanded.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return DotenvFile(path)
    except (OSError, UnicodeDecodeError) as error:
        return DotenvFile(path, problems=(f"{path} cannot be read ({_reason(error)}).",))
    return _parse(path, text)


def _parse(path: Path, text: str) -> DotenvFile:
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    unread: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            assignment = _read_line(line)
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            unread.update(_name(line))
            continue
        if assignment is None:
            continue
        name, value = assignment
        if name in lines:
            problems.append(f"{path}, line {number}: sets {name} again (first on line {lines[name]}).")
        values[name], lines[name] = value, number
    return DotenvFile(path, values, lines, tuple(problems), frozenset(unread))


def _name(line: str) -> tuple[str, ...]:
    match = _ASSIGNMENT.fullmatch(line.strip())
    return () if match is None else (match["name"],)


def _read_line(line: str) -> tuple[str, str] | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        raise ValueError("is neither a comment nor NAME=value.")
    try:
        return match["name"], _read_value(match["value"])
    except ValueError as error:
        raise ValueError(f"{match['name']} {error}") from None


def _read_value(raw: str) -> str:
    if raw[:1] in {'"', "'"}:
        quoted = _QUOTED.fullmatch(raw)
        if quoted is None:
            raise ValueError("has a quote that is not closed, or text after the closing quote.")
        if quoted["single"] is not None:
            return quoted["single"]
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), quoted["double"])
    return re.split(r"(?:^|[ \t])#", raw, maxsplit=1)[0].rstrip()


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (error.strerror or type(error).__name__).lower()
