"""What decisions about updates have in common: what they are based on, an answer that counts, a reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from core.jobs.kinds.finalize import decided
from core.model.answer import Answer
from core.model.chat import ChatId
from core.model.effect import Effect
from core.model.identity import GatewayIdentity
from core.model.part import Part
from core.model.person import Person
from core.model.task import Change, Task
from core.model.transition import TaskState
from core.policy.policy import Policy
from core.ports import Formatter
from core.presentation.render import fingerprint, parts_of
from core.services.factory import Reply, jobs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a decision is based on besides the update and the tasks; read before the transaction begins.

    Attributes:
        is_same_chat: whether two ids name one chat: a group gets another one when it becomes a supergroup.
    """

    now: datetime
    policy: Policy
    identity: GatewayIdentity
    formatter: Formatter
    is_same_chat: Callable[[ChatId, ChatId], bool]

    def may_answer(self, person: Person, task: Task) -> bool:
        """Whether this person is now a respondent of the question."""
        return task.question.respondents.include(person.id, self.policy.roles_of_person)

    def last_part(self, task: Task) -> Part:
        """The Telegram message that people answer: it carries the question's buttons."""
        return parts_of(task, self.formatter, self.identity.keys[-1])[-1]

    def answered(self, task: Task, answer: Answer, by: Person, update_id: int) -> Effect:
        """The answer decides the question.

        An answer to a question that is not known to be in the chat proves what was shown there.
        """
        proven = None if task.state is TaskState.ASKED else fingerprint(self.last_part(task))
        after = task.answered(self.now, answer)
        return decided(Change.to_state(after, person=by.id, update=update_id, shown=proven), self.now)


def say(reply: Reply, words: str) -> Effect:
    """Say this to the person.

    Args:
        reply: makes the task.
        words: what it says.
    """
    task = reply(words)
    return Effect(tasks=(task,), jobs=jobs_of(task))
