"""Questions: a service asks people something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from core.model.chat import Chat
from core.model.errors import FieldProblem, Problems
from core.model.question import UNNAMED, Question, Respondents
from core.model.task import Task
from core.policy.policy import Policy
from core.ports import Formatter
from core.presentation.render import MARKUP_LIMIT, OUTCOME_ROOM, json_size
from core.services.factory import TaskFactory
from core.services.tasks import Submission, TaskService

ASK: Final = "POST /v1/questions"

_BYTES_PER_BUTTON: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionService:
    """Asks questions."""

    policy: Callable[[], Policy]
    formatter: Formatter
    factory: TaskFactory
    tasks: TaskService

    async def ask(
        self,
        question: Question,
        submission: Submission,
        *,
        chat: int | str,
        topic: int | None = None,
        expires_in: int = 3600,
        metadata: Mapping[str, str] | None = None,
    ) -> Task:
        """Ask, and wait for the answer; or attach to the question that this key already asked.

        Args:
            question: what is asked; `UNNAMED` respondents are the person of a private chat.
            submission: who asks, and how long the request is held.
            chat: an id, `@channel`, or an alias.
            topic: a forum topic, or None.
            expires_in: seconds until it is over, 5 to 2,592,000.
            metadata: returned as given.

        Raises:
            Invalid: fields that contradict each other, an unknown chat alias, markup Telegram would refuse.
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
            self.formatter.format(question.message.text, question.message.format, reserve=OUTCOME_ROOM)
        problems.add(_option_problems(question))
        if (
            place is not None
            and question.respondents is UNNAMED
            and isinstance(place.id, int)
            and place.is_private
        ):
            question = replace(question, respondents=Respondents(people=frozenset({place.id})))
        if place is not None or question.respondents is not UNNAMED:
            problems.add(_respondent_problems(question.respondents, policy))
        problems.refuse_any("The question does not validate.")
        if place is None:
            raise TypeError("A question without a chat was not refused.")
        submission.require_chat(policy, ASK, place.id)
        task = self.factory.task(
            question,
            service=submission.principal.service,
            chat=place,
            expires_in=expires_in,
            metadata=metadata,
            jti=submission.principal.jti,
        )
        return await self.tasks.submit(task, submission)


def _option_problems(question: Question) -> Iterator[FieldProblem]:
    if not question.options and question.input is None:
        yield FieldProblem("/options", "Give options, an input, or both: there is nothing to answer with.")
    seen: set[str] = set()
    for index, option in enumerate(question.options):
        if option.id in seen:
            yield FieldProblem(f"/options/{index}/id", f"The id {option.id} is used twice; ids are unique.")
        seen.add(option.id)
    if question.on_expiry is not None and question.on_expiry not in seen:
        yield FieldProblem("/on_expiry/choice", f"No option has the id {question.on_expiry}.")
    if sum(json_size(option.label) + _BYTES_PER_BUTTON for option in question.options) > MARKUP_LIMIT:
        yield FieldProblem(
            "/options", "These options are too much for one message; use fewer or shorter labels."
        )


def _respondent_problems(respondents: Respondents, policy: Policy) -> Iterator[FieldProblem]:
    if respondents is UNNAMED:
        yield FieldProblem(
            "/respondents",
            'Say who may answer: people, roles, or {"anyone": true}. Only in a private chat is it clear.',
        )
    elif not (respondents.people or respondents.roles or respondents.anyone):
        yield FieldProblem("/respondents", "An empty list means nobody; name people, roles, or anyone.")
    for role in sorted(respondents.roles):
        if role not in policy.person_roles:
            yield FieldProblem("/respondents/roles", f"permissions.yaml names no person role {role}.")
        elif not policy.people_with_role(role):
            yield FieldProblem("/respondents/roles", f"Nobody has the role {role}, so nobody could answer.")
