"""`permissions.yaml`: read whole, checked whole, and read again when it changes."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from core.model.errors import TelegateError
from core.policy.policy import Policy
from infra.config.permissions.nodes import LARGEST_FILE, PolicyProblem
from infra.config.permissions.sections import read_policy

log = logging.getLogger("telegate.policy")

__all__ = ["PeopleError", "PolicyFile", "PolicyFileError", "PolicyProblem", "load_policy", "parse_people"]

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the file."""

_ROLE_OF_A_BARE_ID = "operator"
_PERSON = re.compile(r"([1-9][0-9]{0,15})(?::(.*))?", re.ASCII)
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)

_Look: TypeAlias = tuple[int, int, int]


class PolicyFileError(TelegateError):
    """The policy file cannot be used; nothing of it is.

    Attributes:
        path: the file.
        problems: everything that is wrong, in the order of the file.
    """

    def __init__(self, path: Path, problems: tuple[PolicyProblem, ...]) -> None:
        super().__init__("\n".join(_line(path, problem) for problem in problems))
        self.path = path
        self.problems = problems


class PeopleError(ValueError):
    """`PERSON_ROLES` cannot be read.

    Attributes:
        problems: what is wrong with each entry that is, without a full stop.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(f"cannot be read: {'; '.join(problems)}.")
        self.problems = problems


def parse_people(text: str) -> dict[int, frozenset[str]]:
    """The roles of each person, out of `PERSON_ROLES`.

    Entries stand between commas or on lines of their own: `815:operator`, `4711:viewer|operator`, or a
    bare id, which gets the role `operator`.

    Raises:
        PeopleError: with all entries that are wrong.
    """
    people: dict[int, frozenset[str]] = {}
    problems: list[str] = []
    for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        match = _PERSON.fullmatch(entry)
        roles = _roles(match[2]) if match else None
        if match is None or roles is None:
            problems.append(f"{entry!r} is neither a person's id nor an id with roles, such as 815:operator")
        elif int(match[1]) in people:
            problems.append(
                f"{match[1]} stands there twice; write {match[1]}:viewer|operator for several roles."
            )
        else:
            people[int(match[1])] = roles
    if problems:
        raise PeopleError(tuple(problems))
    return people


def load_policy(
    path: Path, people: Mapping[int, frozenset[str]], *, allow_http_addresses: bool = False
) -> Policy:
    """Read and check the whole file.

    Args:
        path: usually `permissions.yaml`.
        people: the roles that `PERSON_ROLES` gives.
        allow_http_addresses: whether services may have plain http addresses (`DELIVERY_ALLOW_PRIVATE`).

    Raises:
        PolicyFileError: with every problem, each with its line and column.
    """
    policy = read_policy(_read(path), people, allow_http=allow_http_addresses)
    if isinstance(policy, Policy):
        return policy
    raise PolicyFileError(path, policy)


class PolicyFile:
    """The policy of the moment; a broken new version of the file is refused whole, and the old one stays.

    Args:
        path: usually `permissions.yaml`.
        people: the roles that `PERSON_ROLES` gives.
        allow_http_addresses: as for `load_policy`.

    Attributes:
        current: the policy that counts.
        last_error: why the newest version of the file does not count, or None when it does.

    Raises:
        PolicyFileError: the file cannot be used, and there is no older version.
    """

    def __init__(
        self, path: Path, people: Mapping[int, frozenset[str]], *, allow_http_addresses: bool = False
    ) -> None:
        self.path = path
        self._people = people
        self._allow_http = allow_http_addresses
        self._callbacks: list[Callable[[Policy], None]] = []
        self.last_error: PolicyFileError | None = None
        # Looked at before it is read, here and in reload: a change in between is seen at the next look.
        self._seen = _look(path)
        self.current = load_policy(path, people, allow_http_addresses=allow_http_addresses)

    @classmethod
    def opened(cls, path: Path, people: Mapping[int, frozenset[str]]) -> PolicyFile:
        """The file as this process has read it last, or the process that it was forked from.

        A worker that is started anew while the file is broken (by SIGHUP, or because one died) has the
        old rules this way, instead of not starting.

        Raises:
            PolicyFileError: the file cannot be used, and there is no older version.
        """
        asked_for = (path, frozenset(people.items()))
        if asked_for in _opened:
            _opened[asked_for].check_for_change()
        else:
            _opened[asked_for] = cls(path, people)
        return _opened[asked_for]

    def on_change(self, callback: Callable[[Policy], None]) -> Callable[[], None]:
        """Call this with each new policy, once it is the current one, until what is returned is called."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def check_for_change(self) -> bool:
        """Read the file again when it is another one than the last time; whether a new policy counts now."""
        return _look(self.path) != self._seen and self.reload()

    def reload(self) -> bool:
        """Read the file again in any case (SIGHUP); whether the file's policy counts now."""
        self._seen = _look(self.path)
        return self._take(self._read_again())

    def _read_again(self) -> Policy | PolicyFileError:
        try:
            return load_policy(self.path, self._people, allow_http_addresses=self._allow_http)
        except PolicyFileError as error:
            return error

    def _take(self, policy: Policy | PolicyFileError) -> bool:
        if isinstance(policy, PolicyFileError):
            self._refuse(policy)
            return False
        self.last_error = None
        self.current = policy
        log.info(
            "The policy was read again from %s and counts from now on.",
            self.path,
            extra={"action": "policy_changed", "path": str(self.path)},
        )
        for callback in self._callbacks:
            callback(policy)
        return True

    async def watch(self, interval: float = LOOK_EVERY) -> None:
        """Look at the file every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self._look_again()
            except Exception:
                # The outermost loop: a callback that fails must not end the watching.
                log.exception(
                    "Looking at the policy file %s failed; the next look is in %g s.",
                    self.path,
                    interval,
                    extra={"action": "policy_watch_failed", "path": str(self.path)},
                )

    async def _look_again(self) -> None:
        seen = _look(self.path)
        if seen != self._seen:
            self._seen = seen
            # In a thread: a large file takes a second, in which nobody could be answered.
            self._take(await asyncio.to_thread(self._read_again))

    def _refuse(self, error: PolicyFileError) -> None:
        self.last_error = error
        log.error(
            "The new version of %s is refused whole, and the rules from before stay in force:\n%s",
            self.path,
            error,
            extra={
                "action": "policy_refused",
                "path": str(self.path),
                "problems": [
                    {"line": problem.line, "column": problem.column, "message": problem.message}
                    for problem in error.problems
                ],
            },
        )


_opened: dict[tuple[Path, frozenset[tuple[int, frozenset[str]]]], PolicyFile] = {}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        way_out = "Go to the folder that has it, or let PERMISSIONS_FILE name a file that can be read."
        words = f"{path.absolute()} cannot be read ({reason}). {way_out}"
        raise PolicyFileError(path, (PolicyProblem(0, 0, words),)) from error
    if len(data) > LARGEST_FILE:
        raise _whole(path, f"The file is larger than {LARGEST_FILE // 1024} KiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _whole(path, f"The file is not UTF-8 text (byte {error.start}).") from error


def _look(path: Path) -> _Look | None:
    try:
        status = path.stat()
    except OSError:
        return None  # a file that is gone is another one than before: reading it tells why
    return status.st_mtime_ns, status.st_size, status.st_ino


def _whole(path: Path, message: str) -> PolicyFileError:
    return PolicyFileError(path, (PolicyProblem(1, 1, message),))


def _line(path: Path, problem: PolicyProblem) -> str:
    if problem.line == 0:
        return problem.message
    return f"{path}:{problem.line}:{problem.column}: {problem.message}"


def _roles(text: str | None) -> frozenset[str] | None:
    if text is None:
        return frozenset({_ROLE_OF_A_BARE_ID})
    roles = [role.strip() for role in text.split("|")]
    return frozenset(roles) if all(map(_ROLE.fullmatch, roles)) else None
