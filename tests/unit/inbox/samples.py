"""Questions, updates, and what decisions about them are based on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from core.inbox.decisions import Context
from core.model.chat import Chat
from core.model.identity import GatewayIdentity
from core.model.message import Message
from core.model.person import Person
from core.model.question import Option, Question, Respondents, TextInput
from core.model.task import Task, TaskKind
from core.model.transition import TaskState
from core.model.update import ButtonPressed, Carrier, CommandReceived, TextReceived
from core.presentation.buttons import ButtonData
from core.services.factory import Reply, TaskFactory
from tests.fakes.clock import START, HandClock
from tests.fakes.formatter import PlainFormatter
from tests.fakes.world import ADA, BOT, GROUP, KEYS, POLICY, YES_NO

IDENTITY: Final = GatewayIdentity(BOT, "process-1", KEYS)
ANYONE: Final = Respondents(anyone=True)
OPERATORS: Final = Respondents(roles=frozenset({"operator"}))
NOW: Final = START + timedelta(seconds=60)


def question(
    state: TaskState = TaskState.ASKED,
    *,
    number: int = 1,
    text: str = "Deploy?",
    chat: int | str = GROUP,
    message_ids: tuple[int, ...] = (4711,),
    options: tuple[Option, ...] = YES_NO,
    written: TextInput | None = None,
    respondents: Respondents = OPERATORS,
) -> Task:
    """A question of the service `ci`, asked a minute ago."""
    asked = Task(
        id=f"tsk_{number:026d}",
        bot=BOT,
        kind=TaskKind.QUESTION,
        state=TaskState.ASKED,
        service="ci",
        chat=Chat(chat),
        content=Question(Message(text), respondents, options, written),
        created_at=START,
        updated_at=START,
        expires_at=START + timedelta(hours=1),
        token=f"{number:012d}".encode(),
        message_ids=message_ids,
    )
    match state:
        case TaskState.ANSWERED:
            answer = asked.question.answer_by_text("yes", ADA, START)
            return asked.answered(START, answer)
        case TaskState.EXPIRED:
            return asked.expired(START)
        case TaskState.CANCELLED:
            return asked.cancelled(START)
        case _:
            return replace(asked, state=state)


def told() -> Task:
    """A message of the service `ci`, which stands in the group."""
    message = replace(question(), kind=TaskKind.MESSAGE, content=Message("Hello"), token=b"")
    return replace(message, state=TaskState.SENT)


def context(formatter: PlainFormatter | None = None) -> Context:
    """What decisions are based on a minute after the question."""
    return Context(
        now=NOW,
        policy=POLICY,
        identity=IDENTITY,
        formatter=formatter or PlainFormatter(),
        is_same_chat=lambda chat, other: chat == other,
    )


def draft(to: TextReceived | CommandReceived) -> Reply:
    """A reply whose words are still to come."""
    return TaskFactory(IDENTITY, HandClock(NOW), lambda: "0" * 26).reply(
        to.chat, to.topic, to.message_id, NOW
    )


def tap(
    on: Task, option: int = 0, *, by: Person | None = ADA, message_id: int = 4711, update_id: int = 9001
) -> tuple[ButtonPressed, ButtonData]:
    """Somebody taps a button of this question, which stands in the group with all its buttons."""
    signed = [ButtonData.sign(KEYS[-1], on.token, index, on.chat.id) for index in range(len(YES_NO))]
    carrier = Carrier(BOT, tuple(data.pack() for data in signed))
    data = signed[option].pack()
    press = ButtonPressed(update_id, f"press-{update_id}", by, GROUP, message_id, data, lambda: carrier)
    return press, signed[option]


def words(
    text: str = "Friday",
    *,
    by: Person = ADA,
    chat: int = GROUP,
    reply_to: int | None = None,
    replied_text: str | None = None,
) -> TextReceived:
    """Somebody writes something."""
    return TextReceived(
        9001, by, chat, chat == by.id, 59_001, text, reply_to=reply_to, replied_text=replied_text
    )


def command(
    name: str, *, by: Person = ADA, chat: int | None = None, addressed_to: str | None = None
) -> CommandReceived:
    """Somebody sends a command, in his or her own chat or another."""
    where = by.id if chat is None else chat
    return CommandReceived(9001, by, where, where == by.id, 59_001, name, "", addressed_to=addressed_to)
