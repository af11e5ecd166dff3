"""How a new task comes to be: with its id, its times, and its token when it has buttons."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.model.message import Chat, Deletion, Edit, Message
from core.model.question import Question
from core.model.task import Content, Lease, Task, TaskKind, TaskState
from core.policy.policy import GATEWAY_SERVICE
from core.ports import Clock, GatewayIdentity
from core.presentation.buttons import TOKEN_BYTES

LEASE = timedelta(seconds=30)
"""How long a process may work on a task unseen: Telegram's 20 s limit for a call, and some."""

REPLY_LIFETIME = timedelta(hours=1)
"""How long the gateway's own reply to a person is worth sending."""

_KINDS: Mapping[type, TaskKind] = {
    Message: TaskKind.MESSAGE,
    Question: TaskKind.QUESTION,
    Edit: TaskKind.EDIT,
    Deletion: TaskKind.DELETION,
}


@dataclass(frozen=True, slots=True)
class Drafter:
    """Makes tasks. They begin as `sending`, held by this process: a task costs two writes on its way.

    Attributes:
        new_id: gives the next ULID, without the prefix.
    """

    identity: GatewayIdentity
    clock: Clock
    new_id: Callable[[], str]

    def draft(
        self,
        content: Content,
        *,
        service: str,
        chat: Chat,
        expires_in: float,
        metadata: Mapping[str, str] | None = None,
        jti: str | None = None,
        of: str | None = None,
    ) -> Task:
        """A task that this process is about to perform.

        Args:
            content: what is to be said, asked, edited or deleted.
            service: who asked for it.
            chat: where.
            expires_in: seconds until it fails unsent, or until a question expires.
            metadata: what the service wants to find in the task again.
            jti: the id of the service's token.
            of: for an edit or a deletion, the id of the message's task.
        """
        now = self.clock.now()
        return Task(
            id=f"tsk_{self.new_id()}",
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
            lease=self.lease(now),
        )

    def reply(self, text: str, chat: Chat, reply_to: int) -> Task:
        """What the gateway itself says to a person, as a task: it keeps its place, and is never said twice.

        A crash in the middle of saying it may cost it; whoever waits for it asks again.
        """
        message = Message(text=text, reply_to=reply_to, reply_required=False)
        lifetime = REPLY_LIFETIME.total_seconds()
        return self.draft(message, service=GATEWAY_SERVICE, chat=chat, expires_in=lifetime)

    def lease(self, now: datetime) -> Lease:
        """This process's hold on a task, from now on."""
        return Lease(self.identity.holder, now + LEASE)
