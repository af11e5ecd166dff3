"""Tasks: what a service asks the bot to perform, and each step that a task can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.failure import Failure
from core.model.frozen import changed
from core.model.message import Deletion, Edit, Message
from core.model.question import Question
from core.model.transition import FINAL_STATES, TRANSITIONS, Step, TaskState


class TaskKind(StrEnum):
    """What is to be done."""

    MESSAGE = "message"
    QUESTION = "question"
    EDIT = "edit"
    DELETION = "deletion"
    BROADCAST = "broadcast"
    CALL = "call"


class IllegalTransition(Exception):
    """A task was told to do what its state does not allow; the row has moved on meanwhile."""

    def __init__(self, task: Task, target: TaskState) -> None:
        super().__init__(f"Task {task.id} cannot go from {task.state} to {target}.")
        self.task = task


Content = Message | Question | Edit | Deletion


class Progress(NamedTuple):
    """How far a task has come, for whoever waits for it or follows it."""

    steps: int
    final: bool


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
    not_before: datetime | None = None
    steps: int = field(default=1, compare=False)

    @property
    def final(self) -> bool:
        """Whether waiting for it is over."""
        return self.state in FINAL_STATES

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

    def _to(self, target: TaskState, at: datetime, **changes: object) -> Task:
        if target not in TRANSITIONS[self.state]:
            raise IllegalTransition(self, target)
        # Another process's clock, or one that was put right since, may be a little ahead of this one.
        updated_at = max(at, self.updated_at)
        return changed(self, **{"state": target, "updated_at": updated_at, "not_before": None, **changes})

    def after_step(self) -> Task:
        """The same, as its row tells it once one more step is stored."""
        return changed(self, steps=self.steps + 1)

    def waiting(self) -> Task:
        """A new task whose turn has not come: an earlier one is not sent yet, or too many are being sent."""
        return changed(self, state=TaskState.QUEUED)

    def sending(self, at: datetime) -> Task:
        """A process has taken it and is about to call Telegram."""
        return self._to(TaskState.SENDING, at)

    def queued_again(self, at: datetime, error: Failure | None, not_before: datetime) -> Task:
        """Telegram was certainly not reached, or it is too early; it is tried again at `not_before`."""
        return self._to(TaskState.QUEUED, at, error=error, not_before=not_before)

    def unclear(self, error: Failure, not_before: datetime) -> Task:
        """Nobody knows what the last attempt did; it stays `sending`, and is repeated at `not_before`."""
        return changed(self, error=error, not_before=not_before)

    def taken_over(self, error: Failure) -> Task:
        """The process that was sending it has died; it stays `sending`."""
        return changed(self, error=error, not_before=None)

    def in_chat(self, chat: Chat) -> Task:
        """Its group has become a supergroup."""
        return changed(self, chat=chat)

    def with_message(self, at: datetime, message_id: int) -> Task:
        """One more of its messages is delivered. Keeps the state: a tap may have told it before."""
        if message_id in self.message_ids:
            return self
        updated_at = self.updated_at if self.final else max(at, self.updated_at)
        return changed(self, message_ids=(*self.message_ids, message_id), updated_at=updated_at)

    def sent(self, at: datetime) -> Task:
        """Telegram has done it."""
        return self._to(TaskState.SENT, at, error=None)

    def asked(self, at: datetime) -> Task:
        """The question stands in the chat."""
        return self._to(TaskState.ASKED, at, error=None)

    def answered(self, at: datetime, answer: Answer) -> Task:
        """The answer that decides has come."""
        answers = (*self.answers, answer)
        return self._to(TaskState.ANSWERED, at, answers=answers, decision=answer, error=None)

    def expired(self, at: datetime) -> Task:
        """Nobody answered in time; what then counts stands in `on_expiry`."""
        return self._to(TaskState.EXPIRED, at, decision=self.question.answer_on_expiry(at))

    def cancelled(self, at: datetime) -> Task:
        """The service took its question back."""
        return self._to(TaskState.CANCELLED, at)

    def failed(self, at: datetime, error: Failure) -> Task:
        """Telegram certainly did not do it, and will not."""
        return self._to(TaskState.FAILED, at, error=error)

    def unknown(self, at: datetime, error: Failure) -> Task:
        """Bytes were written and no answer came: it may or may not have been delivered."""
        return self._to(TaskState.UNKNOWN, at, error=error)


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a task: what it is afterwards, and who or what made it (a row of its history).

    Attributes:
        person: the id of the person who made it, or None.
        update: the `update_id` that brought it, or None.
        jti: the id of the service's token that brought it, or None.
        shown: the fingerprint of what stands in the chat since then, or None when that did not change.
        choice: the id of the option that was decided for, or None.
    """

    task: Task
    step: Step
    person: int | None = None
    update: int | None = None
    jti: str | None = None
    shown: bytes | None = None
    choice: str | None = None

    @property
    def ends_task(self) -> bool:
        """Whether this step made the task final."""
        return self.task.final and self.step.value == self.task.state.value

    @classmethod
    def to_state(
        cls,
        task: Task,
        *,
        person: int | None = None,
        update: int | None = None,
        jti: str | None = None,
        shown: bytes | None = None,
    ) -> Change:
        """A step that is named after the state it leads to; a decision brings its choice."""
        choice = None if task.decision is None else task.decision.choice
        return cls(task, Step(task.state.value), person, update, jti, shown, choice)
