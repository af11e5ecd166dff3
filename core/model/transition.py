"""Transitions: the states of a task, the steps that its history tells, and the graph of both."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class TaskState(StrEnum):
    """How far a task has come. The graph is `TRANSITIONS`, drawn in docs/explanation/architecture.md."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    ASKED = "asked"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Step(StrEnum):
    """What a row of history says: the task has come to another state, or something has happened to it."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    ASKED = "asked"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"

    PART_SENT = "part_sent"
    """One of its messages is in the chat, and others are still to come."""
    DELIVERED = "delivered"
    """One more of its messages has come to light after it had moved on."""
    COPY_FOUND = "copy_found"
    """A tap has shown that there is one more message of it."""
    MIGRATED = "migrated"
    """Its group has become a supergroup."""
    UNCLEAR = "unclear"
    """The outcome of an attempt is unclear; it is repeated."""
    TAKEN_OVER = "taken_over"
    """The process that was sending it has died; another one goes on."""
    ANSWER_REFUSED = "answer_refused"
    """Somebody answered who may not."""
    REPROMPTED = "rearmed"
    """Its message asks for another tap, after a time in which taps may have been lost."""
    CLOSED = "closed"
    """Its message shows the outcome and has no buttons."""


_S = TaskState

TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = MappingProxyType(
    {
        # An attempt that was given up for lost may have been delivered after all, and a tap proves it.
        _S.QUEUED: frozenset({_S.SENDING, _S.SENT, _S.ASKED, _S.ANSWERED, _S.CANCELLED, _S.FAILED}),
        # A tap can come before the sender has stored `asked`.
        _S.SENDING: frozenset(
            {_S.QUEUED, _S.SENT, _S.ASKED, _S.ANSWERED, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.UNKNOWN}
        ),
        _S.ASKED: frozenset({_S.ANSWERED, _S.EXPIRED, _S.CANCELLED}),
        _S.UNKNOWN: frozenset({_S.SENT, _S.ASKED, _S.ANSWERED}),
        _S.SENT: frozenset(),
        _S.ANSWERED: frozenset(),
        _S.EXPIRED: frozenset(),
        _S.CANCELLED: frozenset(),
        _S.FAILED: frozenset(),
    }
)
"""Which states may follow which."""

FINAL_STATES = frozenset({_S.SENT, _S.ANSWERED, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.UNKNOWN})
"""`unknown` is final for whoever waits, and alone may still be corrected by later evidence."""

DECIDED_STATES = frozenset({_S.ANSWERED, _S.EXPIRED, _S.CANCELLED})
"""The states in which a question's message tells its outcome and has no buttons."""

OPEN_QUESTION_STATES = frozenset({_S.QUEUED, _S.SENDING, _S.ASKED, _S.UNKNOWN})
"""The states in which an answer to a question counts."""

UNDELIVERED_STATES = frozenset({_S.QUEUED, _S.SENDING, _S.UNKNOWN})
"""The states that a delivery ends."""
