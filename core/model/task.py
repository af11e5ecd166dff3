"""Tasks: what a service asks the bot to perform, and the states such a task goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from core.model.errors import OutcomeUnknown
from core.model.message import Chat, Deletion, Edit, Message
from core.model.question import Answer, Question


class TaskKind(StrEnum):
    """What is to be done."""

    MESSAGE = "message"
    QUESTION = "question"
    EDIT = "edit"
    DELETION = "deletion"
    BROADCAST = "broadcast"
    CALL = "call"


class TaskState(StrEnum):
    """How far it has come. The graph is `SUCCESSORS`, drawn in docs/explanation/architecture.md."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    ASKED = "asked"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    UNKNOWN = "unknown"


_S = TaskState

SUCCESSORS: Mapping[TaskState, frozenset[TaskState]] = MappingProxyType(
    {
        # A try that was given up for lost may have been delivered after all, and a press proves it.
        _S.QUEUED: frozenset({_S.SENDING, _S.SENT, _S.ASKED, _S.ANSWERED, _S.CANCELLED, _S.FAILED}),
        # A press can come before the sender has stored `asked`.
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

FINAL_STATES = frozenset(
    {_S.SENT, _S.ANSWERED, _S.EXPIRED, _S.CANCELLED, _S.FAILED, _S.UNKNOWN},
)
"""`unknown` is final for whoever waits, and alone may still be corrected by later evidence."""

DECIDED_STATES = frozenset({_S.ANSWERED, _S.EXPIRED, _S.CANCELLED})
"""The states in which a question's message tells its outcome and has no buttons."""

OPEN_QUESTION_STATES = frozenset({_S.QUEUED, _S.SENDING, _S.ASKED, _S.UNKNOWN})
"""The states in which an answer to a question counts."""


class IllegalTransition(Exception):
    """A task was told to do what its state does not allow; the row has moved on meanwhile."""

    def __init__(self, task: Task, target: TaskState) -> None:
        super().__init__(f"Task {task.id} cannot go from {task.state} to {target}.")
        self.task = task


Content = Message | Question | Edit | Deletion


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task is not done, or not done yet.

    Attributes:
        code: one of the codes of `core.model.errors`.
        detail: a sentence for the service's author.
        error_code: Telegram's number, when Telegram answered.
        description: Telegram's words, when Telegram answered.
    """

    code: str
    detail: str
    error_code: int | None = None
    description: str | None = None


LOST: Final = Failure("outcome_unknown", "The gateway stopped while it was sending this.")
"""Why nobody knows what became of a task that was being sent."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Which process works on a task, and until when nobody else may."""

    holder: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Task:
    """One operation that a service asked for, as its row tells it.

    Attributes:
        id: `tsk_` and a ULID, so that ids sort by time.
        bot: the bot's numeric id, part of every key.
        token: 96 random bits that buttons of this task carry; never shown.
        jti: the id of the token that asked for it, for the history.
        of: for an edit or a deletion, the id of the message's task.
        message_ids: Telegram's ids of the messages sent so far, in order; behind the parts of a question
            come further copies of its last part, sent because the outcome of a send was unclear.
        not_before: it is not tried, or not tried again, before this.
        attempts: how often Telegram was tried without being reached.
        closed: whether a decided question's message shows its outcome and lost its buttons.
        steps: how many steps its row had made when it was read; the first one is that it was stored.
    """

    id: str
    bot: int
    kind: TaskKind
    state: TaskState
    service: str
    chat: Chat
    content: Content
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    token: bytes = b""
    jti: str | None = None
    of: str | None = None
    message_ids: tuple[int, ...] = ()
    answers: tuple[Answer, ...] = ()
    decision: Answer | None = None
    error: Failure | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    lease: Lease | None = None
    not_before: datetime | None = None
    attempts: int = 0
    closed: bool = False
    steps: int = field(default=1, compare=False)

    @property
    def final(self) -> bool:
        """Whether waiting for it is over."""
        return self.state in FINAL_STATES

    @property
    def in_doubt(self) -> bool:
        """Whether an earlier try may have been delivered: then it never certainly failed."""
        return self.error is not None and self.error.code == OutcomeUnknown.code

    @property
    def is_question(self) -> bool:
        """Whether it asks something."""
        return isinstance(self.content, Question)

    @property
    def may_be_repeated(self) -> bool:
        """Whether it is done again when nobody knows whether it was done."""
        return not isinstance(self.content, Message) or self.content.resend

    @property
    def question(self) -> Question:
        """The content of a task that is known to be a question."""
        if not isinstance(self.content, Question):
            raise TypeError(f"Task {self.id} is a {self.kind}, not a question.")
        return self.content

    def _changed(self, **changes: object) -> Task:
        """A copy with other values: `dataclasses.replace`, which takes twice as long for so many fields."""
        copy: Task = object.__new__(Task)
        for name in Task.__slots__:
            object.__setattr__(copy, name, changes[name] if name in changes else getattr(self, name))
        return copy

    def _to(self, target: TaskState, at: datetime, **changes: object) -> Task:
        if target not in SUCCESSORS[self.state]:
            raise IllegalTransition(self, target)
        # Another process's clock, or one that was put right since, may be a little ahead of this one.
        updated_at = max(at, self.updated_at)
        return self._changed(**{"state": target, "updated_at": updated_at, "not_before": None, **changes})

    def after_step(self) -> Task:
        """The same, as its row tells it once one more step is stored."""
        return self._changed(steps=self.steps + 1)

    def waits(self) -> Task:
        """A new task whose turn has not come: an earlier one is not sent yet, or too many are in hand."""
        return self._changed(state=_S.QUEUED, lease=None)

    def sending(self, at: datetime, lease: Lease) -> Task:
        """A process has taken it and is about to call Telegram."""
        return self._to(_S.SENDING, at, lease=lease)

    def queued_again(self, at: datetime, error: Failure | None, not_before: datetime, attempts: int) -> Task:
        """Telegram was certainly not reached, or it is too early; it is tried again at `not_before`."""
        return self._to(_S.QUEUED, at, error=error, not_before=not_before, attempts=attempts, lease=None)

    def unclear(self, error: Failure, attempts: int, lease: Lease) -> Task:
        """Nobody knows what the last try did; it stays `sending` and is repeated at the lease's end.

        With `not_before` while it is `sending`, it does not keep later ones in its chat from being sent.
        """
        return self._changed(error=error, attempts=attempts, lease=lease, not_before=lease.until)

    def in_chat(self, chat: Chat) -> Task:
        """Its group has become a supergroup."""
        return self._changed(chat=chat)

    def with_message(self, at: datetime, message_id: int) -> Task:
        """One more of its messages is delivered. Keeps the state: a press may have told it before.

        What is delivered after the decision still has its buttons, so the question is not closed.
        """
        if message_id in self.message_ids:
            return self
        updated_at = self.updated_at if self.final else max(at, self.updated_at)
        message_ids = (*self.message_ids, message_id)
        return self._changed(message_ids=message_ids, updated_at=updated_at, closed=False)

    def leased(self, lease: Lease) -> Task:
        """The work on it takes longer."""
        return self._changed(lease=lease)

    def taken_over(self, lease: Lease) -> Task:
        """Whoever had it stopped in the middle: that is an unclear try like any other, and counts as one.

        A process that dies of a task would otherwise send it again after each start. What only waited for
        its next try was stopped in no middle.
        """
        if self.lease is not None and self.not_before == self.lease.until:
            return self._changed(lease=lease)
        if self.in_doubt:
            return self._changed(lease=lease, attempts=self.attempts + 1)
        return self._changed(lease=lease, error=LOST, attempts=1)

    def shown(self) -> Task:
        """Its message tells the outcome and has no buttons any more."""
        return self._changed(closed=True)

    def sent(self, at: datetime) -> Task:
        """Telegram has done it."""
        return self._to(_S.SENT, at, error=None, lease=None)

    def asked(self, at: datetime) -> Task:
        """The question stands in the chat."""
        return self._to(_S.ASKED, at, error=None, lease=None)

    def answered(self, at: datetime, answer: Answer) -> Task:
        """The answer that decides has come."""
        answers = (*self.answers, answer)
        return self._to(_S.ANSWERED, at, answers=answers, decision=answer, error=None, lease=None)

    def expired(self, at: datetime) -> Task:
        """Nobody answered in time; what then counts stands in `on_expiry`."""
        return self._to(_S.EXPIRED, at, decision=self.question.answer_on_expiry(at), lease=None)

    def cancelled(self, at: datetime) -> Task:
        """The service took its question back."""
        return self._to(_S.CANCELLED, at, lease=None)

    def failed(self, at: datetime, error: Failure) -> Task:
        """Telegram certainly did not do it, and will not."""
        return self._to(_S.FAILED, at, error=error, lease=None)

    def unknown(self, at: datetime, error: Failure) -> Task:
        """Bytes were written and no answer came: it may or may not have been delivered."""
        return self._to(_S.UNKNOWN, at, error=error, lease=None)


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a task: what it is afterwards, and who or what made it (a row of its history).

    Attributes:
        what: the new state, or another word for a step that keeps the state.
        person: the id of the person who made it, or None.
        update: the `update_id` that brought it, or None.
        jti: the id of the service's token that brought it, or None.
        shown: the fingerprint of what stands in the chat since then, or None when that did not change.
        choice: the id of the option that was decided for, or None.
    """

    task: Task
    what: str
    person: int | None = None
    update: int | None = None
    jti: str | None = None
    shown: bytes | None = None
    choice: str | None = None

    @property
    def ends_task(self) -> bool:
        """Whether this step made the task final."""
        return self.task.final and self.what == self.task.state.value

    @classmethod
    def to_state(cls, task: Task, **origin: object) -> Change:
        """A step that is named after the state it leads to; a decision brings its choice."""
        choice = None if task.decision is None else task.decision.choice
        return cls(task, task.state.value, choice=choice, **origin)  # type: ignore[arg-type]
