"""Finalizing: the message of a question that is over shows its outcome and loses its buttons."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from core.jobs.kinds.quiet import Quiet, nothing
from core.model.effect import NOTHING, Decision, Effect
from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected
from core.model.identity import GatewayIdentity
from core.model.job import TELEGRAM, Done, Job, Lane, Later, Outcome, Priority, Unclear
from core.model.retry import RetryPolicy
from core.model.task import Change, Task
from core.model.transition import OPEN_QUESTION_STATES, Step
from core.ports import Formatter, Messenger, Run
from core.presentation.render import closing_part, fingerprint, last_messages

log = logging.getLogger("telegate.jobs")

PRECEDENCE: Final = 0.002
"""Seconds that no person notices, in which a service gets its answer: calls to Telegram would hold it up."""


def finalize_job(task: Task, at: datetime) -> Job:
    """The job that makes a decided question's message show the outcome; it overtakes what is sent there."""
    return Job(
        "finalize",
        TELEGRAM,
        task.id,
        run_at=at,
        lane=Lane(str(task.chat.id)),
        overtakes=True,
        priority=Priority.URGENT,
        key=f"finalize:{task.id}",
        service=task.service,
    )


def decided(change: Change, at: datetime) -> Effect:
    """A question is over: its other jobs are cancelled, and its message shows the outcome."""
    jobs = (finalize_job(change.task, at),) if change.task.message_ids else ()
    return Effect(changes=(change,), jobs=jobs, cancels=(change.task.id,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize(Quiet):
    """Edits the question's message and its copies.

    Attributes:
        precedence: seconds by which a service is told an answer before the chat is.
    """

    name: ClassVar[str] = "finalize"
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=5.0, longest=600.0, unclear_tries=None)

    messenger: Messenger
    formatter: Formatter
    identity: GatewayIdentity
    precedence: float = PRECEDENCE

    async def run(self, run: Run) -> Outcome:
        """Edit each message that carries the question's buttons."""
        await asyncio.sleep(self.precedence)
        task = run.task
        if task is None or task.state in OPEN_QUESTION_STATES:
            return Done(nothing)
        part = closing_part(task, self.formatter)
        edited = 0
        for number, message_id in enumerate(last_messages(task, self.formatter, self.identity.keys[-1])):
            if number > 0:
                await run.turn()
            try:
                await self.messenger.edit(task.chat.id, message_id, part)
                edited += 1
            except NotDelivered as error:
                return Later(error.failure, after=error.retry_after, hold=error.retry_after is not None)
            except DeliveryUnknown as error:
                return Unclear(error.failure)
            except (Rejected, Migrated) as error:
                # It is gone or too old, or stayed behind in the old group: nobody can tap its buttons.
                log.warning(
                    "The message of a question that is over could not be edited: %s",
                    error.detail,
                    extra={"action": "close_refused", "task": task.id},
                )
        return Done(_closed(task.message_ids, fingerprint(part) if edited else None))


def _closed(shown_in: tuple[int, ...], shown: bytes | None) -> Decision:
    """All its messages show the outcome, unless one more has come to light: that has a job of its own."""

    def decide(task: Task | None) -> Effect:
        if task is None or task.message_ids != shown_in:
            return NOTHING
        return Effect(changes=(Change(task, Step.CLOSED, shown=shown),))

    return decide
