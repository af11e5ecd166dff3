"""Use case: a service says something, corrects it, or takes it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.model.errors import AlreadyFinal, Invalid, NotFound, Problems
from core.model.message import Chat, Deletion, Edit, Message
from core.model.task import Task, TaskKind, TaskState
from core.policy.policy import ChatId, Policy
from core.ports import Formatter, Part
from core.presentation.render import edited_parts, link_problems, misfit_text
from core.services.factory import Drafter
from core.services.tasks import Submission, TaskDesk

SEND = "POST /v1/messages"
EDIT = "PATCH /v1/messages/{id}"
DELETE = "DELETE /v1/messages/{id}"

CORRECTION_LIFETIME = 3600
"""Seconds within which an edit or a deletion has to reach Telegram, as for a message."""


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """What a service wants to say, as its body says it.

    Attributes:
        chat: an id, `@channel`, or an alias.
        expires_in: seconds after which it fails unsent, 5 to 86,400.
    """

    chat: int | str
    message: Message
    topic: int | None = None
    expires_in: int = 3600
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Telling:
    """Sends messages, edits them, deletes them."""

    policy: Callable[[], Policy]
    formatter: Formatter
    drafter: Drafter
    desk: TaskDesk

    async def send(self, request: MessageRequest, submission: Submission) -> Task:
        """Say something, and wait until Telegram has it.

        Raises:
            Invalid: an unknown chat alias, markup that Telegram would refuse, or too many buttons.
            ChatForbidden: no role of the service names the endpoint and the chat.
            IdempotencyMismatch: the key was used with another body.
        """
        policy = self.policy()
        chat_id, alias = self._checked(request, policy)
        submission.require_chat(policy, SEND, chat_id)
        task = self.drafter.draft(
            request.message,
            service=submission.principal.service,
            chat=Chat(chat_id, alias, request.topic),
            expires_in=request.expires_in,
            metadata=request.metadata,
            jti=submission.principal.jti,
        )
        return await self.desk.submit(task, submission)

    def _checked(self, request: MessageRequest, policy: Policy) -> tuple[ChatId, str | None]:
        problems = Problems()
        chat: tuple[ChatId, str | None] = ("", None)
        with problems.gathering():
            chat = policy.resolve_chat(request.chat)
        with problems.gathering():
            self.formatter.format(request.message.text, request.message.format)
        problems.add(link_problems(request.message.buttons))
        problems.refuse_any("The message does not validate.")
        return chat

    async def edit(self, message_id: str, edit: Edit, submission: Submission) -> Task:
        """Give a message of this service another text and other buttons.

        Raises:
            NotFound: this service has no such message.
            Invalid: markup that Telegram would refuse, too many buttons, or a text that needs more or fewer
                Telegram messages than the old one.
            AlreadyFinal: the message was never sent, or not as a whole.
            ChatForbidden: no role of the service names the endpoint and the chat.
        """
        parts = self._checked_parts(edit)
        message = await self._message(message_id, EDIT, submission)
        repeated = await self.desk.repeated(submission)
        if repeated is not None:
            return repeated
        _require_sent(message)
        if message.final and len(parts) != len(message.message_ids):
            raise Invalid.field("/text", misfit_text(len(parts), len(message.message_ids)))
        return await self._correct(message, edit, submission)

    def _checked_parts(self, edit: Edit) -> tuple[Part, ...]:
        problems = Problems()
        parts: tuple[Part, ...] = ()
        with problems.gathering():
            parts = edited_parts(edit, self.formatter)
        problems.add(link_problems(edit.buttons))
        problems.refuse_any("The message does not validate.")
        return parts

    async def delete(self, message_id: str, submission: Submission) -> Task:
        """Take a message of this service away. Telegram allows it for 48 hours.

        Raises:
            NotFound: this service has no such message.
            AlreadyFinal: no part of the message is known to be in the chat.
            ChatForbidden: no role of the service names the endpoint and the chat.
        """
        message = await self._message(message_id, DELETE, submission)
        repeated = await self.desk.repeated(submission)
        if repeated is not None:
            return repeated
        if not message.message_ids:
            _require_sent(message)
        return await self._correct(message, Deletion(), submission)

    async def _message(self, message_id: str, endpoint: str, submission: Submission) -> Task:
        message = await self.desk.look(message_id, submission.principal.service)
        if message.kind is not TaskKind.MESSAGE:
            raise NotFound(f"This service has no message {message_id}.")
        submission.require_chat(self.policy(), endpoint, message.chat.id)
        return message

    async def _correct(self, message: Task, content: Edit | Deletion, submission: Submission) -> Task:
        task = self.drafter.draft(
            content,
            service=message.service,
            chat=message.chat,
            expires_in=CORRECTION_LIFETIME,
            jti=submission.principal.jti,
            of=message.id,
        )
        return await self.desk.submit(task, submission)


def _require_sent(message: Task) -> None:
    if not message.final or message.state is TaskState.SENT:
        return
    why = (
        f"This message is {message.state}, and not known to be all in the chat; delete it, and send another."
        if message.message_ids
        else f"This message is {message.state}: it is not known to be in the chat."
    )
    raise AlreadyFinal(why, task=message)
