"""Evidence: the facts of a run, sorted so that a rule finds what belongs to a task, a chat or an update."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from tests.nemesis.facts import Act, Call, Deed, Exchange, Facts, Row, Step
from tests.nemesis.plan import OF_DATABASE, OF_SERVERS, Kind, Plan, PlannedTask, Torment

FINAL = frozenset({"sent", "answered", "expired", "cancelled", "failed", "unknown"})
SAYING = frozenset({Kind.MESSAGE, Kind.QUESTION})
_METHODS = {
    Kind.MESSAGE: "sendMessage",
    Kind.QUESTION: "sendMessage",
    Kind.EDIT: "editMessageText",
    Kind.DELETION: "deleteMessage",
}

_DISTURBING = OF_SERVERS | OF_DATABASE | {Torment.DOWN}

WARMING_UP = 1.0
"""Seconds that a server may take, once it is ready, to work off what came due while it was away."""

RECOVERY = 2.0
"""Seconds that servers may take to find their database again."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def _grouped(pairs: Iterable[tuple[Key, Value]]) -> Mapping[Key, Sequence[Value]]:
    groups: defaultdict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


@dataclass(frozen=True)
class Evidence:
    """A plan and the facts of its run."""

    plan: Plan
    facts: Facts

    # By task

    @cached_property
    def planned(self) -> Mapping[str, PlannedTask]:
        """What was asked for, by marker."""
        return {task.marker: task for task in self.plan.tasks}

    @cached_property
    def _rows(self) -> Mapping[str, Sequence[Row]]:
        return _grouped((row.marker, row) for row in self.facts.rows if row.marker)

    @cached_property
    def _exchanges(self) -> Mapping[str, Sequence[Exchange]]:
        return _grouped((each.marker, each) for each in self.facts.exchanges)

    @cached_property
    def _steps(self) -> Mapping[str, Sequence[Step]]:
        return _grouped((step.task, step) for step in sorted(self.facts.steps, key=lambda step: step.seq))

    @cached_property
    def _calls(self) -> Mapping[object, Sequence[Call]]:
        return _grouped((_subject(call), call) for call in self.facts.calls)

    @cached_property
    def _deeds(self) -> Mapping[object, Sequence[Deed]]:
        return _grouped((_subject(deed), deed) for deed in self.facts.deeds)

    @cached_property
    def deleted(self) -> frozenset[tuple[int, int]]:
        """Chat and id of every message that vanished."""
        return frozenset((deed.chat, deed.message) for deed in self.facts.deeds if deed.kind == "deleted")

    @cached_property
    def row_of(self) -> Mapping[str, Row]:
        """The rows by their task's id."""
        return {row.id: row for row in self.facts.rows}

    def rows(self, marker: str) -> Sequence[Row]:
        """The rows of one planned task; one is right."""
        return self._rows.get(marker, ())

    def exchanges(self, marker: str) -> Sequence[Exchange]:
        """Everything that services asked about one planned task."""
        return self._exchanges.get(marker, ())

    def steps(self, row: Row) -> Sequence[Step]:
        """A task's history, oldest first."""
        return self._steps.get(row.id, ())

    def sends(self, row: Row) -> Sequence[Call]:
        """The calls of `sendMessage` for a message or a question, oldest first."""
        return [call for call in self._calls.get(_said_by(row), ()) if call.method == "sendMessage"]

    def was_asked_for(self, row: Row) -> bool:
        """Whether Telegram was asked to do it, and did not refuse; a deletion is known by its chat alone."""
        is_deletion = row.kind == Kind.DELETION
        calls = self.facts.calls if is_deletion else self._calls.get(_said_by(row), ())
        wanted = (_METHODS[Kind(row.kind)], row.chat)
        return any(call.done_or_unclear for call in calls if (call.method, call.chat) == wanted)

    def copies(self, row: Row) -> Sequence[Deed]:
        """The messages that really appeared in the chat for it, oldest first."""
        return [deed for deed in self._deeds.get(_said_by(row), ()) if deed.kind == "sent"]

    def was_edited(self, row: Row) -> bool:
        """Whether a message really says what this edit wanted."""
        return any(deed.kind == "edited" for deed in self._deeds.get(_said_by(row), ()))

    def finished_at(self, row: Row) -> float | None:
        """When it first became final; None when it is not."""
        return next((step.at for step in self.steps(row) if step.what in FINAL), None)

    def name(self, row: Row) -> str:
        """How reports call a task."""
        return f"{row.marker or 'a reply of the gateway'} ({row.id})"

    # By update

    @cached_property
    def acts(self) -> Mapping[int, Act]:
        """What people did, by the update that tells of it."""
        return {act.update: act for act in self.facts.acts}

    @cached_property
    def acts_on(self) -> Mapping[str | None, Sequence[Act]]:
        """What people did to each question."""
        return _grouped((act.marker, act) for act in self.facts.acts)

    @cached_property
    def taken_at(self) -> Mapping[int, float]:
        """When each update was first answered with success."""
        taken: dict[int, float] = {}
        for post in self.facts.posts:
            if post.status is not None and 200 <= post.status < 300:
                taken[post.update] = min(post.at, taken.get(post.update, post.at))
        return taken

    @cached_property
    def effects(self) -> Mapping[int, Sequence[Step]]:
        """The steps of planned tasks that updates have made, by update; a reply to a person is none."""
        replies = {row.id for row in self.facts.rows if row.marker is None}
        return _grouped(
            (step.update, step)
            for step in self.facts.steps
            if step.update is not None and step.task not in replies
        )

    @cached_property
    def replies(self) -> Mapping[tuple[int, int | None], Sequence[Row]]:
        """What the gateway itself says, by chat and by the message that it replies to."""
        return _grouped(((row.chat, row.reply_to), row) for row in self.facts.rows if row.marker is None)

    # By time

    def disturbed(self, since: float, until: float, by: Container[Torment] = _DISTURBING) -> bool:
        """Whether a server, its database or its way to Telegram was disturbed in between."""
        return any(
            fault.begun <= until and fault.ended >= since
            for fault in self.facts.faults
            if fault.torment in by
        )

    def dark(self, since: float, until: float) -> float:
        """Seconds in between in which no server was up and warm, or none could reach its database."""
        lit = [(up.since + WARMING_UP, up.until) for up in self.facts.uptimes]
        out = [
            (fault.begun, fault.ended + RECOVERY)
            for fault in self.facts.faults
            if fault.torment in OF_DATABASE
        ]
        edges = sorted(
            {since, until, *(edge for pair in (*lit, *out) for edge in pair if since < edge < until)}
        )
        total = 0.0
        for begin, end in itertools.pairwise(edges):
            middle = (begin + end) / 2
            if not _covers(lit, middle) or _covers(out, middle):
                total += end - begin
        return total


def _covers(stretches: Iterable[tuple[float, float]], moment: float) -> bool:
    return any(begin <= moment <= end for begin, end in stretches)


def _said_by(row: Row) -> object:
    return row.marker or (row.chat, row.reply_to)


def _subject(seen: Call | Deed) -> object:
    return seen.marker or (seen.chat, seen.reply_to)


def chats_with_sends(evidence: Evidence) -> Iterator[Sequence[tuple[PlannedTask, int]]]:
    """For each chat, its planned messages and questions with the number of their first try, in that order."""
    tried: dict[str, Call] = {}
    for call in evidence.facts.calls:
        if call.method == "sendMessage" and call.marker is not None and call.done_or_unclear:
            tried.setdefault(call.marker, call)
    found = _grouped(
        (evidence.planned[name].chat, (evidence.planned[name], call.number)) for name, call in tried.items()
    )
    for sends in found.values():
        yield sorted(sends, key=lambda pair: pair[1])
