"""Use case: a service asks people something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from core.model.errors import FieldProblem, Problems
from core.model.message import Chat, Message
from core.model.question import Option, Question, Respondents, TextInput
from core.model.task import Task
from core.policy.policy import Policy
from core.ports import Formatter
from core.presentation.render import MARKUP_LIMIT, OUTCOME_ROOM, json_size
from core.services.factory import Drafter
from core.services.tasks import Submission, TaskDesk

ENDPOINT = "POST /v1/questions"

_BYTES_PER_BUTTON = 90


@dataclass(frozen=True, slots=True)
class QuestionRequest:
    """What a service wants to ask, as its body says it.

    Attributes:
        chat: an id, `@channel`, or an alias.
        respondents: who may answer; None means the person of a private chat.
        expires_in: seconds until it is over, 5 to 2,592,000.
    """

    chat: int | str
    message: Message
    topic: int | None = None
    options: tuple[Option, ...] = ()
    input: TextInput | None = None
    respondents: Respondents | None = None
    on_expiry: str | None = None
    expires_in: int = 3600
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks questions, and takes them back."""

    policy: Callable[[], Policy]
    formatter: Formatter
    drafter: Drafter
    desk: TaskDesk

    async def ask(self, request: QuestionRequest, submission: Submission) -> Task:
        """Ask, and wait for the answer; or attach to the question that this key already asked.

        Raises:
            Invalid: fields that contradict each other, an unknown chat alias, markup Telegram would refuse.
            ChatForbidden: no role of the service names the endpoint and the chat.
            IdempotencyMismatch: the key was used with another body.
        """
        policy = self.policy()
        chat, question = self._checked(request, policy)
        submission.require_chat(policy, ENDPOINT, chat.id)
        task = self.drafter.draft(
            question,
            service=submission.principal.service,
            chat=chat,
            expires_in=request.expires_in,
            metadata=request.metadata,
            jti=submission.principal.jti,
        )
        return await self.desk.submit(task, submission)

    def _checked(self, request: QuestionRequest, policy: Policy) -> tuple[Chat, Question]:
        problems = Problems()
        chat: Chat | None = None
        with problems.gathering():
            chat_id, alias = policy.resolve_chat(request.chat)
            chat = Chat(chat_id, alias, request.topic)
        with problems.gathering():
            self.formatter.format(request.message.text, request.message.format, reserve=OUTCOME_ROOM)
        problems.add(_option_problems(request))
        respondents = request.respondents or _person_of(chat)
        problems.add(_respondent_problems(respondents, chat, policy))
        problems.refuse_any("The question does not validate.")
        if chat is None or respondents is None:
            raise TypeError("A question without chat or respondents was not refused.")
        question = Question(
            message=request.message,
            respondents=respondents,
            options=request.options,
            input=request.input,
            on_expiry=request.on_expiry,
        )
        return chat, question


def _option_problems(request: QuestionRequest) -> Iterator[FieldProblem]:
    if not request.options and request.input is None:
        yield FieldProblem("/options", "Give options, an input, or both: there is nothing to answer with.")
    seen: set[str] = set()
    for index, option in enumerate(request.options):
        if option.id in seen:
            yield FieldProblem(f"/options/{index}/id", f"The id {option.id} is used twice; ids are unique.")
        seen.add(option.id)
    if request.on_expiry is not None and request.on_expiry not in seen:
        yield FieldProblem("/on_expiry/choice", f"No option has the id {request.on_expiry}.")
    if sum(json_size(option.label) + _BYTES_PER_BUTTON for option in request.options) > MARKUP_LIMIT:
        yield FieldProblem(
            "/options", "These options are too much for one message; use fewer or shorter labels."
        )


def _respondent_problems(
    respondents: Respondents | None, chat: Chat | None, policy: Policy
) -> Iterator[FieldProblem]:
    if respondents is None:
        if chat is not None:
            yield FieldProblem(
                "/respondents",
                'Say who may answer: people, roles, or {"anyone": true}. Only in a private chat is it clear.',
            )
        return
    if not (respondents.people or respondents.roles or respondents.anyone):
        yield FieldProblem("/respondents", "An empty list means nobody; name people, roles, or anyone.")
    for role in sorted(respondents.roles):
        if role not in policy.person_role_names:
            yield FieldProblem("/respondents/roles", f"permissions.yaml names no person role {role}.")
        elif not policy.people_with_role(role):
            yield FieldProblem("/respondents/roles", f"Nobody has the role {role}, so nobody could answer.")


def _person_of(chat: Chat | None) -> Respondents | None:
    """Who answers when the service names nobody: the person of a private chat."""
    if chat is None or not chat.is_private or not isinstance(chat.id, int):
        return None
    return Respondents(people=frozenset({chat.id}))
