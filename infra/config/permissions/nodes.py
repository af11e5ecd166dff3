"""YAML with places: text becomes nodes, nodes become typed values, and every problem knows its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeAlias

import yaml

from infra.observability.visible import visible

LARGEST_FILE: Final = 262_144
_DEEPEST = 12
_MOST_ALIASES = 50
_MOST_COPIED = 10_000
_MOST_PROBLEMS = 100
_LONGEST_MESSAGE = 600
_LONGEST_HINT = 64
_MOST_COMPARED = 64
_LARGEST_ID = 2**52  # Telegram's ids have at most 52 significant bits (Bot API, User and Chat)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})",
    re.ASCII,
)
_KINDS = {
    "str": "text",
    "int": "a number",
    "float": "a number with a fraction",
    "bool": "true or false (yes, no, on and off count as that; put names like these in quotes)",
    "null": "empty",
    "timestamp": "a date",
    "map": "a mapping",
    "seq": "a list",
}

# The C parser where PyYAML has it; the pure one says the same, only slower.
_LOADER: Final[type[yaml.SafeLoader | yaml.CSafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Entries: TypeAlias = Mapping[str, tuple[yaml.Node, yaml.Node]]


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One thing that is wrong.

    Attributes:
        line: counted from 1; 0 when the problem is not in the file.
        column: counted from 1; 0 when the problem is not in the file.
        message: what is wrong and what to do, one sentence.
    """

    line: int
    column: int
    message: str


class TooManyProblems(Exception):
    """So much is wrong that nobody would read all of it.

    Attributes:
        problem: says so, at the place of the first that is not told.
    """

    def __init__(self, problem: PolicyProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Count:
    """What has been read of a file so far.

    Attributes:
        copied: values that aliases stand for, as often as they do.
    """

    def __init__(self) -> None:
        self.copied = 0
        self._documents = self._aliases = self._values = 0
        self._sizes: dict[str | None, int] = {}
        self._opened: list[tuple[str | None, int]] = []

    def take(self, event: yaml.Event) -> None:
        """Count one more event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
        elif isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            self.copied += self._sizes.get(event.anchor, 0)
            self._values += self._sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._opened.append((event.anchor, self._values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._opened.pop()
            if anchor is not None:
                self._sizes[anchor] = self._values - before
        elif isinstance(event, yaml.ScalarEvent):
            self._values += 1

    @property
    def trouble(self) -> str | None:
        """Why the file is refused here, whatever comes."""
        if len(self._opened) > _DEEPEST:
            return f"This is nested more than {_DEEPEST} levels deep."
        if self._aliases > _MOST_ALIASES:
            return f"The file uses more than {_MOST_ALIASES} aliases (*name); write the values out."
        if self._documents > 1:
            return "A second document begins here (---); the file is one document."
        return None


class NodeReader:
    """Takes values out of nodes, and notes whatever is wrong instead of stopping at the first problem."""

    def __init__(self) -> None:
        self.problems: list[PolicyProblem] = []

    def complain(self, node: yaml.Node, message: str) -> None:
        """Note a problem at a node.

        Raises:
            TooManyProblems: enough of them are noted.
        """
        if len(self.problems) >= _MOST_PROBLEMS:
            raise TooManyProblems(_problem(node.start_mark, "From here on there are more; mend these first."))
        self.problems.append(_problem(node.start_mark, message))

    def document(self, text: str) -> yaml.Node | None:
        """The root node of the only document, or None when the text is not YAML that can be read safely."""
        self.problems.extend(islice(_tabs(text), _MOST_PROBLEMS))
        try:
            if not self.problems:
                self._check_events(text)
            return None if self.problems else _composed(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.problems.append(_problem(mark, f"This is not YAML: {_in_words(error)}."))
        except yaml.YAMLError as error:
            self.problems.append(_problem(None, f"This is not YAML: {' '.join(str(error).split())}."))
        return None

    def _check_events(self, text: str) -> None:
        # Looked at before anything is built: nesting and aliases are how a small file becomes a large one.
        count = _Count()
        swollen_at: Any = None
        for event in yaml.parse(text, Loader=_LOADER):
            count.take(event)
            if count.copied > _MOST_COPIED and swollen_at is None:
                swollen_at = event.start_mark
            if trouble := count.trouble:
                self.problems.append(_problem(event.start_mark, trouble))
                return
        if swollen_at is not None:
            message = f"The file's aliases (*name) stand for more than {_MOST_COPIED:,} values; write less."
            self.problems.append(_problem(swollen_at, message))

    # Values

    def entries(self, node: yaml.Node, what: str) -> Entries:
        """Keys and values of a mapping; an empty value counts as an empty mapping."""
        if _kind(node) == "null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.complain(node, f"{what} has to be a mapping, and is {_in_kind(node)}.")
            return {}
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if _kind(key) not in {"str", "int"}:
                self.complain(key, f"A key of {what} has to be text, and is {_in_kind(key)}.")
            elif key.value in found:
                line = found[key.value][0].start_mark.line + 1
                self.complain(key, f"{key.value} stands in {what} twice; the first is on line {line}.")
            else:
                found[key.value] = (key, value)
        return found

    def fields(self, node: yaml.Node, what: str, allowed: Iterable[str]) -> dict[str, yaml.Node]:
        """Values of a mapping whose keys are known; other keys are noted."""
        names = list(allowed)
        found: dict[str, yaml.Node] = {}
        for name, (key, value) in self.entries(node, what).items():
            if name in names:
                found[name] = value
            else:
                hint = did_you_mean(name, names) or f" It may have: {', '.join(names)}."
                self.complain(key, f"{what} has no key {name}.{hint}")
        return found

    def items(self, node: yaml.Node | None, what: str) -> list[yaml.Node]:
        """The nodes of a list; nothing, or an empty value, is an empty list."""
        if node is None or _kind(node) == "null":
            return []
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self.complain(node, f"{what} has to be a list, such as [one, two], and is {_in_kind(node)}.")
        return []

    def texts(self, node: yaml.Node | None, what: str) -> Iterator[tuple[yaml.Node, str]]:
        """The texts of a list, each with its node; an entry that stands there twice is noted."""
        seen: set[str] = set()
        for item in self.items(node, what):
            text = self.text(item, f"An entry of {what}")
            if text is not None and text in seen:
                self.complain(item, f"{text} stands in {what} twice.")
            elif text is not None:
                seen.add(text)
                yield item, text

    def text(self, node: yaml.Node, what: str, longest: int = 256) -> str | None:
        """A text of 1 to `longest` characters."""
        if _kind(node) != "str":
            self.complain(node, f"{what} has to be text, and is {_in_kind(node)}.")
            return None
        value = str(node.value)
        if 1 <= len(value) <= longest:
            return value
        self.complain(node, f"{what} has {len(value)} characters; 1 to {longest} are allowed.")
        return None

    def boolean(self, node: yaml.Node, what: str) -> bool:
        """`true` or `false`, spelled so."""
        if _kind(node) == "bool" and node.value.lower() in {"true", "false"}:
            return bool(node.value.lower() == "true")
        self.complain(node, f"{what} has to be true or false.")
        return False

    def telegram_id(self, node: yaml.Node, what: str) -> int | None:
        """An id of a chat (negative for groups and channels) or of a person."""
        if _kind(node) == "int" and _INTEGER.fullmatch(node.value):
            value = int(node.value) if len(node.value) < 20 else 0  # noqa: PLR2004 - longer than any id
            if 0 < abs(value) < _LARGEST_ID:
                return value
        self.complain(node, f"{what} has to be a Telegram id, a plain number without quotes.")
        return None

    def instant(self, node: yaml.Node, what: str) -> datetime | None:
        """A time in RFC 3339, with its offset."""
        if isinstance(node, yaml.ScalarNode) and _INSTANT.fullmatch(node.value):
            try:
                return datetime.fromisoformat(node.value.upper()).astimezone(UTC)
            except (ValueError, OverflowError):
                pass  # told below: the form is right, but there is no such day or hour
        self.complain(node, f"{what} has to be a time such as 2026-11-01T00:00:00Z.")
        return None

    def name(self, key: yaml.Node, what: str) -> str | None:
        """A name of a role, a service or an alias, taken from a key."""
        if _NAME.fullmatch(key.value):
            return str(key.value)
        self.complain(
            key,
            f"{key.value} is no name for {what}: it has to be a small letter, "
            "then up to 31 small letters, digits and hyphens.",
        )
        return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with its leading blank, or nothing when no known name is close."""
    if len(name) > _LONGEST_HINT:
        return ""
    # To compare takes its time, and a file may name thousands; what is meant mostly begins alike.
    near = sorted(
        (one for one in known if len(one) <= _LONGEST_HINT),
        key=lambda one: (one[:1] != name[:1], abs(len(one) - len(name)), one[:2] != name[:2]),
    )
    close = difflib.get_close_matches(name, near[:_MOST_COMPARED], n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def kind_of(node: yaml.Node) -> str:
    """What YAML takes a node for: `str`, `int`, `bool`, `null`, `map`, `seq` and so on."""
    return _kind(node)


def _kind(node: yaml.Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _in_kind(node: yaml.Node) -> str:
    return _KINDS.get(_kind(node), f"of the type {node.tag}, which is not allowed here")


def _composed(text: str) -> yaml.Node | None:
    return yaml.compose(text, Loader=_LOADER)


def _problem(mark: Any, message: str) -> PolicyProblem:
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[: _LONGEST_MESSAGE // 2]} … {message[-_LONGEST_MESSAGE // 2 :]}"
    message = visible(message)
    return PolicyProblem(mark.line + 1, mark.column + 1, message) if mark else PolicyProblem(1, 1, message)


def _tabs(text: str) -> Iterator[PolicyProblem]:
    for number, line in enumerate(text.splitlines(), start=1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent and line.strip():
            yield PolicyProblem(
                number, indent.index("\t") + 1, "This line begins with a tab; indent with blanks."
            )


def _in_words(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part) or "it cannot be read"
