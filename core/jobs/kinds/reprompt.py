"""Asking again: after an outage, an open question asks for another tap. Telegram keeps one for 150 s only."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from core.jobs.kinds.finalize import finalize_job
from core.jobs.kinds.quiet import Quiet, nothing
from core.model.effect import NOTHING, Decision, Effect
from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected
from core.model.failure import Failure
from core.model.identity import GatewayIdentity
from core.model.job import Done, Job, Later, Outcome, Unclear
from core.model.retry import RetryPolicy
from core.model.task import Change, Task
from core.model.transition import DECIDED_STATES, Step, TaskState
from core.ports import Clock, Formatter, Messenger, Run
from core.presentation.render import fingerprint, last_messages, rearmed_part

log = logging.getLogger("telegate.jobs")

KIND = "reprompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprompt(Quiet):
    """Edits the question's messages. An edit that is done twice does no harm; its history says it once."""

    name: ClassVar[str] = KIND
    retry: ClassVar[RetryPolicy] = RetryPolicy(first=1.0, longest=60.0, unclear_tries=19)

    messenger: Messenger
    formatter: Formatter
    identity: GatewayIdentity
    clock: Clock

    async def run(self, run: Run) -> Outcome:
        """Edit each message that carries the question's buttons."""
        task = run.task
        if task is None or task.state is not TaskState.ASKED or task.expires_at <= self.clock.now():
            return Done(nothing)
        key = self.identity.keys[-1]
        part = rearmed_part(task, self.formatter, key)
        edited = 0
        for number, message_id in enumerate(last_messages(task, self.formatter, key)):
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
                # It is gone, or stayed behind in the old group: nobody can tap its buttons.
                _log_refused(task.id, error.detail)
        if not edited:
            return Done(nothing)
        log.info(
            "An open question asks for another tap.",
            extra={
                "action": "rearmed",
                "task": task.id,
                "service": task.service,
                "outage_began": run.job.payload["began"],
                "outage_ended": run.job.payload["ended"],
            },
        )
        return Done(_reprompted(fingerprint(part), self.clock.now()))

    def give_up(self, job: Job, why: Failure, at: datetime) -> Decision:
        """The question stays open as it stands."""
        _log_refused(job.subject, why.detail)
        return Quiet.give_up(self, job, why, at)


def _log_refused(task_id: str, why: str) -> None:
    log.warning(
        "The message of an open question could not be edited to ask for another tap: %s",
        why,
        extra={"action": "rearm_refused", "task": task_id},
    )


def _reprompted(shown: bytes, at: datetime) -> Decision:
    """Its message asks for another tap; when it was decided meanwhile, that has overwritten the outcome."""

    def decide(task: Task | None) -> Effect:
        if task is None:
            return NOTHING
        if task.state is TaskState.ASKED:
            return Effect(changes=(Change(task, Step.REPROMPTED, shown=shown),))
        return Effect(jobs=(finalize_job(task, at),)) if task.state in DECIDED_STATES else NOTHING

    return decide
