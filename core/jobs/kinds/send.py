"""Sending: a message or a question, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from core.jobs.kinds.finalize import finalize_job
from core.jobs.kinds.operation import Operation
from core.model.effect import NOTHING, Decision, Effect
from core.model.job import Done, Outcome
from core.model.task import Change, Task
from core.model.transition import DECIDED_STATES, UNDELIVERED_STATES, Step
from core.ports import Run
from core.presentation.render import fingerprint, parts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Operation):
    """Sends what is not in the chat yet; each part is stored before the next one goes."""

    name: ClassVar[str] = "send"

    async def perform(self, run: Run, task: Task) -> Outcome:
        """See `Operation.perform`."""
        parts = parts_of(task, self.formatter, self.identity.keys[-1])
        last = len(parts) - 1
        for number, part in enumerate(parts):
            if number < last and number < len(task.message_ids):
                continue
            if number > 0:
                await run.turn()
            message_id = await self.messenger.send(task.chat.id, task.chat.topic, part)
            delivered = _delivered(message_id, fingerprint(part), self.clock.now(), last=number == last)
            if number == last:
                return Done(delivered, proof=True)
            task = await run.record(delivered)
        raise AssertionError("A message without parts.")


def _delivered(message_id: int, shown: bytes, at: datetime, *, last: bool) -> Decision:
    """One of its messages is in the chat. A tap may have told it before, and decided the question."""

    def decide(task: Task | None) -> Effect:
        if task is None:
            return NOTHING
        grown = task.with_message(at, message_id)
        is_open = task.state in UNDELIVERED_STATES
        if grown is task and not (last and is_open):
            return NOTHING
        if not is_open:
            step = Step.DELIVERED if last else Step.PART_SENT
            jobs = (finalize_job(grown, at),) if grown.state in DECIDED_STATES else ()
            return Effect(changes=(Change(grown, step, shown=shown),), jobs=jobs)
        if not last:
            return Effect(changes=(Change(grown, Step.PART_SENT, shown=shown),))
        done = grown.asked(at) if task.is_question else grown.sent(at)
        return Effect(changes=(Change.to_state(done, shown=shown),))

    return decide
