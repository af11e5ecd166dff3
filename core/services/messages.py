"""Messages: a service says something, corrects it, or takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from core.model.chat import Chat
from core.model.errors import AlreadyFinal, Invalid, NotFound, Problems
from core.model.message import Deletion, Edit, Message
from core.model.part import Part
from core.model.task import Task, TaskKind
from core.model.transition import TaskState
from core.policy.policy import Policy
from core.ports import Formatter
from core.presentation.render import edited_parts, link_problems, misfit_text
from core.services.factory import TaskFactory
from core.services.tasks import Submission, TaskService

SEND: Final = "POST /v1/messages"
EDIT: Final = "PATCH /v1/messages/{id}"
DELETE: Final = "DELETE /v1/messages/{id}"

CORRECTION_LIFETIME: Final = 3600
"""Seconds within which an edit or a deletion has to reach Telegram, as for a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageService:
    """Sends messages, edits them, deletes them."""

    policy: Callable[[], Policy]
    formatter: Formatter
    factory: TaskFactory
    tasks: TaskService

    async def send(
        self,
        message: Message,
        submission: Submission,
        *,
        chat: int | str,
        topic: int | None = None,
        expires_in: int = 3600,
        metadata: Mapping[str, str] | None = None,
    ) -> Task:
        """Say something, and wait until Telegram has it.

        Args:
            message: what is said.
            submission: who says it, and how long the request is held.
            chat: an id, `@channel`, or an alias.
            topic: a forum topic, or None.
            expires_in: seconds after which it fails unsent, 5 to 86,400.
            metadata: returned as given.

        Raises:
            Invalid: an unknown chat alias, markup that Telegram would refuse, or too many buttons.
            ChatForbidden: no role of the service names the endpoint and the chat.
            IdempotencyMismatch: the key was used with another body.
        """
        policy = self.policy()
        problems = Problems()
        place: Chat | None = None
        with problems.gathering():
            chat_id, alias = policy.resolve_chat(chat)
            place = Chat(chat_id, alias, topic)
        with problems.gathering():
            self.formatter.format(message.text, message.format)
        problems.add(link_problems(message.buttons))
        problems.refuse_any("The message does not validate.")
        if place is None:
            raise TypeError("A message without a chat was not refused.")
        submission.require_chat(policy, SEND, place.id)
        task = self.factory.task(
            message,
            service=submission.principal.service,
            chat=place,
            expires_in=expires_in,
            metadata=metadata,
            jti=submission.principal.jti,
        )
        return await self.tasks.submit(task, submission)

    async def edit(self, message_id: str, edit: Edit, submission: Submission) -> Task:
        """Give a message of this service another text and other buttons.

        Raises:
            NotFound: this service has no such message.
            Invalid: markup that Telegram would refuse, too many buttons, or a text that needs more or fewer
                Telegram messages than the old one.
            AlreadyFinal: the message was never sent, or not as a whole.
            ChatForbidden: no role of the service names the endpoint and the chat.
        """
        problems = Problems()
        parts: tuple[Part, ...] = ()
        with problems.gathering():
            parts = edited_parts(edit, self.formatter)
        problems.add(link_problems(edit.buttons))
        problems.refuse_any("The message does not validate.")
        message = await self._find(message_id, EDIT, submission)
        repeated = await self.tasks.repeated(submission)
        if repeated is not None:
            return repeated
        _require_sent(message)
        if message.final and len(parts) != len(message.message_ids):
            raise Invalid.field("/text", misfit_text(len(parts), len(message.message_ids)))
        return await self._correct(message, edit, submission)

    async def delete(self, message_id: str, submission: Submission) -> Task:
        """Take a message of this service away. Telegram allows it for 48 hours.

        Raises:
            NotFound: this service has no such message.
            AlreadyFinal: no part of the message is known to be in the chat.
            ChatForbidden: no role of the service names the endpoint and the chat.
        """
        message = await self._find(message_id, DELETE, submission)
        repeated = await self.tasks.repeated(submission)
        if repeated is not None:
            return repeated
        if not message.message_ids:
            _require_sent(message)
        return await self._correct(message, Deletion(), submission)

    async def _find(self, message_id: str, endpoint: str, submission: Submission) -> Task:
        message = await self.tasks.look(message_id, submission.principal.service)
        if message.kind is not TaskKind.MESSAGE:
            raise NotFound(f"This service has no message {message_id}.")
        submission.require_chat(self.policy(), endpoint, message.chat.id)
        return message

    async def _correct(self, message: Task, content: Edit | Deletion, submission: Submission) -> Task:
        task = self.factory.task(
            content,
            service=message.service,
            chat=message.chat,
            expires_in=CORRECTION_LIFETIME,
            jti=submission.principal.jti,
            of=message.id,
        )
        return await self.tasks.submit(task, submission)


def _require_sent(message: Task) -> None:
    if not message.final or message.state is TaskState.SENT:
        return
    why = (
        f"This message is {message.state}, and not known to be all in the chat; delete it, and send another."
        if message.message_ids
        else f"This message is {message.state}: it is not known to be in the chat."
    )
    raise AlreadyFinal(why, task=message)
