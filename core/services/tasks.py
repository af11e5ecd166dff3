"""Tasks as services see them: handed in, looked up, waited for, followed, cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.jobs.background import run_to_completion
from core.jobs.kinds.finalize import decided
from core.jobs.runner import Runner
from core.model.chat import ChatId
from core.model.effect import Committed, Effect
from core.model.errors import AlreadyFinal, NotFound, StorageUnavailable
from core.model.job import TELEGRAM
from core.model.lookup import Idempotency, TaskFilter
from core.model.task import Change, Task
from core.policy.policy import Policy, Principal
from core.ports import Clock, TaskStore
from core.services.factory import jobs_of
from core.waiting.following import Following
from core.waiting.room import Seat, WaitingRoom

log = logging.getLogger("telegate.tasks")


@dataclass(frozen=True, slots=True)
class Submission:
    """How a service wants a new task to be handled.

    Attributes:
        principal: who asks for it.
        idempotency: the key that makes repeating the request safe, or None.
        wait: seconds to hold the request until the task is final; 0 for not at all.
        reached: told which endpoint and chat the request needs, as soon as they are known and allowed.
    """

    principal: Principal
    wait: float = 0.0
    idempotency: Idempotency | None = None
    reached: Callable[[str, ChatId], None] | None = None

    def require_chat(self, policy: Policy, endpoint: str, chat_id: ChatId) -> None:
        """Go on only when one role of the principal names both.

        Raises:
            ChatForbidden: none does.
        """
        policy.require_chat(self.principal, endpoint, chat_id)
        if self.reached is not None:
            self.reached(endpoint, chat_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskService:
    """Takes tasks in, and tells what became of them."""

    store: TaskStore
    room: WaitingRoom
    runner: Runner
    clock: Clock

    async def submit(self, task: Task, submission: Submission) -> Task:
        """Store a new task and wait for it; or attach to the one that this key already made.

        Returns:
            The task as its row tells it: final, or as far as it has come in `submission.wait` seconds.

        Raises:
            IdempotencyMismatch: the key was used with another body.
            RateLimited: too much of this service waits to be sent.
            Overloaded: too much waits to be sent, whoever it is of.
            StorageUnavailable: nothing was done.
        """
        with self.room.seat(task.id) as seat:
            # A client that goes away in between must not leave a stored task that nobody performs.
            stored = await run_to_completion(self._store(task, submission))
            if stored.id == task.id:
                return await self._await_final(stored, seat, submission.wait)
        return await self.look(stored.id, submission.principal.service, submission.wait)

    async def _store(self, task: Task, submission: Submission) -> Task:
        limits = self.runner.limits[TELEGRAM]
        refusal = limits.backlog.refusal(task.service)
        with limits.rate.slot_for(task.service) as slot:
            stored = await self.store.add(
                task,
                jobs_of(task),
                lease=self.runner.lease() if slot.reserved else None,
                idempotency=submission.idempotency,
                refusal=refusal,
            )
            if not isinstance(stored, Committed):
                return stored
            if not slot.reserved:
                self.runner.starved.add(TELEGRAM)
            self.runner.follow(stored, slot)
        return stored.rows[task.id]

    async def repeated(self, submission: Submission) -> Task | None:
        """The task that this key already made, as it is now or once it is final; None when it made none.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """
        made = None if submission.idempotency is None else await self.store.made_by(submission.idempotency)
        if made is None:
            return None
        return await self.look(made.id, submission.principal.service, submission.wait)

    async def look(
        self, task_id: str, service: str, wait: float = 0.0, in_sight: Callable[[Task], bool] | None = None
    ) -> Task:
        """One of this service's tasks, as it is now or once it is final.

        Args:
            task_id: its id.
            service: whose it has to be.
            wait: seconds.
            in_sight: whether whoever asks may see it; None when that is known.

        Raises:
            NotFound: this service has no such task, or it is out of sight.
        """
        with self.room.seat(task_id) as seat:
            return await self._await_final(await self._find(task_id, service, in_sight), seat, wait)

    @asynccontextmanager
    async def follow(
        self, task_id: str, service: str, in_sight: Callable[[Task], bool] | None = None
    ) -> AsyncIterator[Following]:
        """One of this service's tasks, to be told of each of its steps.

        Raises:
            NotFound: this service has no such task, or it is out of sight.
            StorageUnavailable: the database cannot tell.
        """
        with self.room.seat(task_id, steps_matter=True) as seat:
            yield Following(await self._find(task_id, service, in_sight), seat, self.store)

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """A page of a service's tasks, newest first, and whether there are more."""
        return await self.store.page(wanted)

    async def cancel(self, task_id: str, principal: Principal, allowed: Callable[[Task], None]) -> Task:
        """Take a question back.

        Args:
            task_id: the question's id.
            principal: who takes it back.
            allowed: raises when the principal may not do this to the task.

        Raises:
            NotFound: this service has no such question.
            AlreadyFinal: it is over.
        """
        now = self.clock.now()
        allowed(await self._find(task_id, principal.service))

        def decide(task: Task | None) -> Effect:
            if task is None:
                raise _no_such_task(task_id)
            if task.final or not task.is_question:
                raise AlreadyFinal(
                    f"This task is {task.state}; only an open question can be cancelled.", task=task
                )
            return decided(Change.to_state(task.cancelled(now), jti=principal.jti), now)

        async def end() -> Committed:
            committed = await self.store.change(task_id, decide, lease=self.runner.lease())
            self.runner.follow(committed)
            return committed

        return (await run_to_completion(end())).rows[task_id]

    async def _find(
        self, task_id: str, service: str | None = None, in_sight: Callable[[Task], bool] | None = None
    ) -> Task:
        task = await self.store.find(task_id, service)
        if task is None or not (in_sight is None or in_sight(task)):
            raise _no_such_task(task_id)
        return task

    async def _await_final(self, task: Task, seat: Seat, wait: float) -> Task:
        """Hold until the task is final; its row is read again after every hint and at the end."""
        deadline = asyncio.get_running_loop().time() + wait
        waiting = wait > 0
        while waiting and not task.final:
            waiting = await seat.hinted(deadline)
            try:
                task = await self._find(task.id)
            except StorageUnavailable:
                # The task exists, so this is no 503: what was known last counts until the database is back.
                log.debug("A waiting request could not read its task.", extra={"action": "read_failed"})
        return task


def _no_such_task(task_id: str) -> NotFound:
    return NotFound(f"This service has no task {task_id}.")
