"""The task factory: makes new tasks, with their ids and times, and the jobs that perform them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from core.jobs.kinds.expire import expire_job
from core.jobs.kinds.operation import operation_job
from core.model.chat import Chat
from core.model.identity import GatewayIdentity
from core.model.job import Job
from core.model.message import Deletion, Edit, Message
from core.model.question import Question
from core.model.task import Content, Task, TaskKind
from core.model.transition import TaskState
from core.policy.policy import GATEWAY_SERVICE
from core.ports import Clock
from core.presentation.buttons import TOKEN_BYTES

REPLY_LIFETIME: Final = timedelta(hours=1)
"""How long the gateway's own reply to a person is worth sending."""

Reply: TypeAlias = Callable[[str], Task]
"""Makes the task that says these words to a person; pure."""

_KINDS: Final[Mapping[type, TaskKind]] = {
    Message: TaskKind.MESSAGE,
    Question: TaskKind.QUESTION,
    Edit: TaskKind.EDIT,
    Deletion: TaskKind.DELETION,
}


@dataclass(frozen=True, slots=True)
class TaskFactory:
    """Makes tasks. They begin as `sending`: a task that can be sent at once costs two writes.

    Attributes:
        new_id: gives the next ULID; `str` writes it.
    """

    identity: GatewayIdentity
    clock: Clock
    new_id: Callable[[], object]

    def task(
        self,
        content: Content,
        *,
        service: str,
        chat: Chat,
        expires_in: float,
        metadata: Mapping[str, str] | None = None,
        jti: str | None = None,
        of: str | None = None,
        task_id: object = None,
        at: datetime | None = None,
    ) -> Task:
        """A new task.

        Args:
            content: what is to be said, asked, edited or deleted.
            service: who asked for it.
            chat: where.
            expires_in: seconds until it fails unsent, or until a question expires.
            metadata: what the service wants to find in the task again.
            jti: the id of the service's token.
            of: for an edit or a deletion, the id of the message's task.
            task_id: its ULID, when that was made before.
            at: the time, when that was read before.
        """
        now = at or self.clock.now()
        return Task(
            id=f"tsk_{task_id or self.new_id()}",
            bot=self.identity.bot,
            kind=_KINDS[type(content)],
            state=TaskState.SENDING,
            service=service,
            chat=chat,
            content=content,
            created_at=now,
            updated_at=now,
            expires_at=now + timedelta(seconds=expires_in),
            token=secrets.token_bytes(TOKEN_BYTES) if isinstance(content, Question) else b"",
            jti=jti,
            of=of,
            metadata=metadata or {},
        )

    def reply(self, chat: int, topic: int | None, reply_to: int, at: datetime) -> Reply:
        """What the gateway itself is going to say to a person, as a task: it is never said twice.

        Its id is made now; the words may come inside a transaction. A crash in the middle of saying it may
        cost it; whoever waits for it asks again.
        """
        task_id = self.new_id()

        def say(words: str) -> Task:
            return self.task(
                Message(text=words, reply_to=reply_to, reply_required=False),
                service=GATEWAY_SERVICE,
                chat=Chat(chat, topic=topic),
                expires_in=REPLY_LIFETIME.total_seconds(),
                task_id=task_id,
                at=at,
            )

        return say


def jobs_of(task: Task) -> tuple[Job, ...]:
    """The jobs of a new task: it is performed, and a question ends when its time is over."""
    return (operation_job(task), expire_job(task)) if task.is_question else (operation_job(task),)
