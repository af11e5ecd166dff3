"""Decisions about updates are pure: the database may take them twice, and in another thread."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

import pytest

import core.inbox
from core.inbox.commands import decide_command
from core.inbox.decisions import say
from core.inbox.presses import decide_press
from core.inbox.replies import decide_reply, decide_words
from core.model.effect import NOTHING, Committed, Effect, UpdateDecision
from core.model.job import Lease
from core.model.lookup import Lookup
from core.model.question import TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.model.update import Carrier, TextReceived, Update
from tests.fakes.clock import HandClock
from tests.fakes.world import ADA, EVE, POLICY, Gateway
from tests.unit.inbox.samples import ANYONE, command, context, draft, question, tap, told, words

IMPURE: Final = (
    *((time, name) for name in ("time", "time_ns", "monotonic", "perf_counter")),
    *((secrets, name) for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow")),
    (random, "random"),
    (HandClock, "now"),
    # Whoever wants to log asks this first, whatever the level.
    (logging.Logger, "isEnabledFor"),
)
"""What tells the time, makes ids or logs."""

WORDY: Final = question(written=TextInput(), respondents=ANYONE, message_ids=())
OTHER: Final = question(number=2, written=TextInput(), respondents=ANYONE, message_ids=())
OVER: Final = question(TaskState.EXPIRED, written=TextInput())
UNKNOWN: Final = question(TaskState.UNKNOWN, message_ids=())


@dataclass(frozen=True)
class Case:
    """One way through a decision.

    Attributes:
        causes: whether anything is to follow from it.
    """

    function: Callable[..., Effect]
    arguments: Sequence[object]
    causes: bool = True


def on_tap(*found: Task, by: object = ADA, **changes: object) -> Case:
    press, data = tap(question())
    press = replace(press, person=by, **changes)  # type: ignore[arg-type]
    return Case(decide_press, (press, data, found, context()))


def on_words(function: Callable[..., Effect], text: TextReceived, *found: Task, causes: bool = True) -> Case:
    return Case(function, (text, found, context(), draft(text)), causes)


def on_command(name: str) -> Case:
    sent = command(name, by=EVE)
    return Case(decide_command, (sent, POLICY, draft(sent)))


HINT: Final = "When?\n\nTap a button, or reply to this message with your answer."

CASES: Final = {
    "a tap answers": on_tap(question()),
    "a tap proves that the question was asked": on_tap(UNKNOWN),
    "a late tap": on_tap(question(TaskState.EXPIRED)),
    "a late tap in a copy": on_tap(question(TaskState.EXPIRED), message_id=4799),
    "a tap of a stranger": on_tap(question(), by=EVE),
    "a tap of nobody": on_tap(question(), by=None),
    "a tap on what nobody remembers": on_tap(),
    "a tap that is not where it should be": on_tap(question(chat=-42)),
    "a tap on nothing of ours": Case(decide_press, (*tap(question())[:1], None, (), context())),
    "a tap on an option that is not there": on_tap(question(options=())),
    "words answer": on_words(decide_reply, words(reply_to=4711), question(written=TextInput())),
    "words of a stranger": on_words(
        decide_reply, words(by=EVE, reply_to=4711), question(written=TextInput())
    ),
    "words that come too late": on_words(decide_reply, words(reply_to=4711), OVER),
    "words for buttons": on_words(decide_reply, words(reply_to=4711), question(), causes=False),
    "words for a message": on_words(decide_reply, words(reply_to=4711), told(), causes=False),
    "words for an unknown message": on_words(
        decide_reply,
        words(reply_to=999, replied_text=HINT),
        question(text="When?", written=TextInput(), message_ids=()),
    ),
    "words for one of two": on_words(decide_words, words(chat=ADA.id), WORDY, OTHER),
    "words for the only one": on_words(decide_words, words(chat=ADA.id), WORDY),
    "words for nobody": on_words(decide_words, words(chat=ADA.id)),
    "words where only buttons are": on_words(decide_words, words(chat=ADA.id), question()),
    **{f"/{name}": on_command(name) for name in ("start", "help", "whoami", "deploy", "dance")},
    "a reply": Case(say, (draft(words()), "Hello")),
}


def refuse(*_arguments: object, **_named: object) -> NoReturn:
    pytest.fail("This is not pure.")


@contextmanager
def only_pure_functions() -> Iterator[None]:
    """Let nobody tell the time, make an id or log while the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in IMPURE:
            patch.setattr(owner, name, refuse)
        yield


def decisions() -> Iterator[object]:
    """Every public function of the inbox that decides."""
    for info in pkgutil.iter_modules(core.inbox.__path__, "core.inbox."):
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_own = function.__module__ == info.name and not name.startswith("_")
            if is_own and inspect.get_annotations(function)["return"] == "Effect":
                yield function


def test_every_decision_of_the_inbox_is_looked_at() -> None:
    assert {case.function for case in CASES.values()} == set(decisions())


@pytest.mark.parametrize("name", CASES)
def test_a_decision_that_is_taken_twice_is_the_same(name: str) -> None:
    case = CASES[name]
    with only_pure_functions():
        first, second = (case.function(*case.arguments) for _ in range(2))
    assert first == second
    assert (first != NOTHING) is case.causes


@dataclass
class TwiceDeciding:
    """The port `InboxStore`; takes each decision twice, and stores nothing.

    Attributes:
        tasks: what any look-up finds.
        effects: what was decided.
    """

    tasks: Sequence[Task]
    effects: list[Effect] = field(default_factory=list)

    async def receive(
        self, update_id: int, lookup: Lookup | None, decide: UpdateDecision, *, lease: Lease
    ) -> Committed | None:
        del update_id, lookup, lease
        with only_pure_functions():
            self.effects += [decide(self.tasks) for _ in range(2)]
        return Committed(self.effects[-1])

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        pytest.fail(f"{update_id} is set aside: {reason} {raw!r}")


@pytest.mark.parametrize(
    ("update", "tasks"),
    [
        (tap(question())[0], (question(),)),
        (replace(tap(question())[0], carrier=Carrier), ()),
        (words(reply_to=4711), (question(written=TextInput()),)),
        (words(by=EVE, chat=EVE.id), ()),
        (command("deploy", by=EVE), ()),
    ],
)
async def test_what_the_inbox_gives_the_store_to_decide_is_pure(
    gateway: Gateway, update: Update, tasks: Sequence[Task]
) -> None:
    store = TwiceDeciding(tasks)
    assert await replace(gateway.inbox, store=store).take(update) == "taken"
    first, second = store.effects
    assert first == second
    assert first != NOTHING
