"""Operations: what sending, editing and deleting have in common. The task's state follows its job."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Final

from core.jobs.chats import ChatBook
from core.jobs.kinds.finalize import decided
from core.jobs.kinds.quiet import nothing
from core.model.effect import NOTHING, Decision, Effect
from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, OutcomeUnknown, Rejected
from core.model.failure import EXPIRED, LOST, Failure
from core.model.identity import GatewayIdentity
from core.model.job import TELEGRAM, Done, Job, Lane, Later, Outcome, Priority, Refused, Unclear
from core.model.message import Deletion, Edit
from core.model.retry import RetryPolicy
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from core.policy.policy import GATEWAY_SERVICE
from core.ports import Clock, Formatter, Messenger, Run
from core.presentation.render import parts_of, standing_text

_IN_A_CIRCLE: Final = Failure("telegram_rejected", "Telegram sends what is meant for this group in a circle.")


def operation_job(task: Task) -> Job:
    """The job that performs a new task."""
    match task.content:
        case Edit():
            kind = "edit"
        case Deletion():
            kind = "delete"
        case _:
            kind = "send"
    return Job(
        kind,
        TELEGRAM,
        task.id,
        run_at=task.created_at,
        expires_at=task.expires_at,
        lane=Lane(str(task.chat.id)),
        priority=_priority(task),
        service=task.service,
    )


def _priority(task: Task) -> Priority:
    if task.is_question:
        return Priority.HIGH
    return Priority.LOW if task.service == GATEWAY_SERVICE else Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(ABC):
    """Performs a task in Telegram.

    A group that has become a supergroup is followed once, and remembered. A recipient that cannot be reached
    is remembered, too: for a while Telegram is not asked again.
    """

    name: ClassVar[str]
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=1.0, longest=60.0, unclear_tries=5)

    messenger: Messenger
    formatter: Formatter
    chats: ChatBook
    identity: GatewayIdentity
    clock: Clock

    @abstractmethod
    async def perform(self, run: Run, task: Task) -> Outcome:
        """Call Telegram; what it raises is classified by `run`."""

    async def run(self, run: Run) -> Outcome:
        """Perform the task once."""
        task = run.task
        if task is None or task.state is not TaskState.SENDING:
            # It was answered, cancelled or given up meanwhile.
            return Done(nothing)
        note = await self.chats.note(task.chat.id)
        refusal = note.reason_not_to_call(self.clock.now())
        if refusal is not None:
            return Refused(refusal)
        try:
            if note.migrated_to is not None:
                task = await self._move(run, task, note.migrated_to)
            try:
                return await self.perform(run, task)
            except Migrated as error:
                await self.chats.moved(task.chat.id, error.chat)
                task = await self._move(run, run.task or task, error.chat)
                return await self.perform(run, task)
        except Migrated:
            return Refused(_IN_A_CIRCLE)
        except NotDelivered as error:
            later = error.retry_after
            return Later(error.failure, after=later, counts=later is None, hold=later is not None)
        except Rejected as error:
            if error.failure.code == "recipient_unreachable":
                await self.chats.unreachable(task.chat.id, self.clock.now(), error.failure)
            return Refused(error.failure)
        except DeliveryUnknown as error:
            return Unclear(error.failure)

    async def _move(self, run: Run, task: Task, supergroup: int) -> Task:
        chat = replace(task.chat, id=supergroup)
        run.moved(str(supergroup))

        def decide(current: Task | None) -> Effect:
            if current is None or current.chat == chat:
                return NOTHING
            return Effect(changes=(Change(current.in_chat(chat), Step.MIGRATED),))

        return await run.record(decide)

    def claimed(self, job: Job, at: datetime) -> Decision:
        """The task is being sent. When another process was sending it before, that is told."""

        def decide(task: Task | None) -> Effect:
            if task is None:
                return NOTHING
            if task.state is TaskState.QUEUED:
                return Effect(changes=(Change.to_state(task.sending(at)),))
            former = None if job.lease is None else job.lease.holder
            if task.state is TaskState.SENDING and former not in {None, self.identity.holder}:
                return Effect(changes=(Change(task.taken_over(_doubt(task)), Step.TAKEN_OVER),))
            return NOTHING

        return decide

    def waits(self, job: Job, why: Failure | None, at: datetime) -> Decision:
        """The task is queued again; one that may stand in the chat already stays `sending`."""

        def decide(task: Task | None) -> Effect:
            if task is None or task.state is not TaskState.SENDING:
                return NOTHING
            if job.in_doubt:
                reason = why if why is not None and why.code == OutcomeUnknown.code else _doubt(task)
                return Effect(changes=(Change(task.unclear(reason, job.run_at), Step.UNCLEAR),))
            return Effect(changes=(Change.to_state(task.queued_again(at, why or task.error, job.run_at)),))

        return decide

    def repeats(self, task: Task | None) -> bool:
        """A message is repeated only if its service wants that; anything else may be done twice."""
        return task is not None and task.may_be_repeated

    def give_up(self, job: Job, why: Failure, at: datetime) -> Decision:
        """The task has failed; when an attempt may have been done after all, nobody knows."""

        def decide(task: Task | None) -> Effect:
            if task is None or task.state not in {TaskState.QUEUED, TaskState.SENDING}:
                return NOTHING
            if task.state is TaskState.SENDING and (job.in_doubt or why.code == OutcomeUnknown.code):
                if task.is_question and task.expires_at <= at:
                    return decided(Change.to_state(task.expired(at)), at)
                doubt = _doubt(task, why)
                return Effect(changes=(Change.to_state(task.unknown(at, doubt)),), cancels=(task.id,))
            failed = task.failed(at, self._explained(task, (task.error or why) if why is EXPIRED else why))
            return Effect(changes=(Change.to_state(failed),), cancels=(task.id,))

        return decide

    def _explained(self, task: Task, why: Failure) -> Failure:
        """The failure, and how much of the task stands in the chat all the same."""
        if not task.message_ids:
            return why
        parts = parts_of(task, self.formatter, self.identity.keys[-1])
        return replace(why, detail=f"{why.detail} {standing_text(task, len(parts))}")


def _doubt(task: Task, why: Failure = LOST) -> Failure:
    """Why nobody knows whether it was delivered; that an earlier attempt certainly was not is no reason."""
    if task.error is not None and task.error.code == OutcomeUnknown.code:
        return task.error
    return why if why.code == OutcomeUnknown.code else LOST
