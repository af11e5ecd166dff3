"""Everything at once, in any order: services ask, people answer, Telegram stumbles, processes die.

Hypothesis writes the stories. After every step of each, and at its end, what is promised must hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.model.answer import Answer
from core.model.errors import AlreadyFinal, StorageUnavailable
from core.model.person import Person
from core.model.question import Respondents, TextInput
from core.model.task import Task, TaskKind
from core.model.transition import DECIDED_STATES, FINAL_STATES, TRANSITIONS, TaskState
from core.model.update import ButtonPressed, TextReceived
from tests.fakes.loop import runner
from tests.fakes.messenger import (
    BLOCKED,
    DELIVERED,
    NOT_REACHED,
    UNCLEAR,
    UNCLEAR_LOST,
    Hang,
    Outcome,
    Shown,
    Verb,
    later,
)
from tests.fakes.notifier import DeafNotifier, PromptNotifier
from tests.fakes.store import Method
from tests.fakes.world import ADA, BEN, EVE, GROUP, YES_NO, Gateway, World, key

T = TypeVar("T")

RESPONDENTS = Respondents(people=frozenset({ADA.id, BEN.id}))
LOSABLE: tuple[Method, ...] = ("claim", "claim_expired", "claim_next", "record", "complete", "retry", "renew")
OVER = DECIDED_STATES | {TaskState.FAILED}


@dataclass(frozen=True, slots=True)
class Body:
    """What a service asks or says; the same for every request with the same key."""

    kind: TaskKind = TaskKind.QUESTION
    chat: int = ADA.id
    written: bool = False
    on_expiry: str | None = None
    expires_in: int = 3600


BODIES = (
    Body(),
    Body(chat=GROUP, on_expiry="cancel", expires_in=60),
    Body(chat=GROUP, written=True, expires_in=60),
    Body(kind=TaskKind.MESSAGE),
    Body(kind=TaskKind.MESSAGE, chat=GROUP, expires_in=60),
)


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request of a service, as its process holds it."""

    request: asyncio.Task[Task]
    text: str


class _Errors(logging.Handler):
    """Keeps what is logged as a bug: a send that breaks has nobody else to be told to."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Story(RuleBasedStateMachine):
    """One world, one living process, perhaps others that are late, and everybody who acts in it."""

    notifier: type[PromptNotifier] = PromptNotifier

    def __init__(self) -> None:
        super().__init__()
        self.runner = runner()
        self.world = World(notifier=self.notifier())
        self.gateway = self.world.start()
        self.late: list[Gateway] = []
        self.waiters: list[Waiter] = []
        self.hangs: list[Hang] = []
        self.updates: list[ButtonPressed | TextReceived] = []
        self.known: dict[str, tuple[TaskState, Answer | None]] = {}
        self.bodies: dict[str, Body] = {}
        self.hints_may_be_missing = self.notifier is DeafNotifier
        self.bugs = _Errors()
        logging.getLogger("telegate").addHandler(self.bugs)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Do something, and let everything else go as far as it gets without time passing."""

        async def both() -> T:
            done = await work
            await _idle()
            return done

        return self.runner.run(both())

    # Services

    @initialize(
        body=st.sampled_from(BODIES),
        outcomes=st.lists(st.sampled_from([UNCLEAR, UNCLEAR_LOST, NOT_REACHED, DELIVERED]), max_size=3),
        hangs=st.booleans(),
    )
    def begin(self, body: Body, outcomes: list[Outcome], hangs: bool) -> None:
        """Every story begins with somebody who wants something, and with trouble."""
        self.world.messenger.script(*outcomes)
        if hangs:
            self.hang(done_first=True, verb="send")
        self.ask(body, 600)

    @rule(body=st.sampled_from(BODIES), wait=st.sampled_from([0, 30, 600]))
    def ask(self, body: Body, wait: float) -> None:
        """A service asks or says something."""
        name = f"k{len(self.bodies)}"
        self.bodies[name] = body
        self.run(self._hand_in(name, body, wait))

    @precondition(lambda self: self.bodies)
    @rule(data=st.data(), wait=st.sampled_from([0, 30, 600]))
    def ask_again(self, data: st.DataObject, wait: float) -> None:
        """A service repeats a request with its key."""
        name = data.draw(st.sampled_from(sorted(self.bodies)))
        self.run(self._hand_in(name, self.bodies[name], wait))

    async def _hand_in(self, text: str, body: Body, wait: float) -> None:
        gateway, idempotency = self.gateway, key(text)
        if body.kind is TaskKind.MESSAGE:
            work = gateway.tell(
                text, chat=body.chat, expires_in=body.expires_in, wait=wait, idempotency=idempotency
            )
        else:
            work = gateway.ask(
                text,
                chat=body.chat,
                options=() if body.written else YES_NO,
                written=TextInput() if body.written else None,
                respondents=RESPONDENTS,
                on_expiry=body.on_expiry,
                expires_in=body.expires_in,
                wait=wait,
                idempotency=idempotency,
            )
        self.waiters.append(Waiter(asyncio.create_task(work), text))

    @precondition(lambda self: any(task.is_question for task in self.world.store.tasks.values()))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A service takes a question back, or is told that it is over."""
        questions = [task for task in self.world.store.tasks.values() if task.is_question]
        before = data.draw(st.sampled_from(questions))
        try:
            after = self.run(self.gateway.withdraw(before))
        except AlreadyFinal:
            assert before.final
        else:
            assert (before.final, after.state) == (False, TaskState.CANCELLED)

    @precondition(lambda self: any(not waiter.request.done() for waiter in self.waiters))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        """A service goes away in the middle of its request."""
        waiting = [waiter for waiter in self.waiters if not waiter.request.done()]
        data.draw(st.sampled_from(waiting)).request.cancel()
        self.run(_idle())

    # People

    @precondition(lambda self: self._with_buttons())
    @rule(data=st.data(), label=st.sampled_from(["Deploy", "Cancel"]), by=st.sampled_from([ADA, BEN]))
    def press(self, data: st.DataObject, label: str, by: Person) -> None:
        """A respondent presses a button: if anything is open, it is decided now."""
        shown = data.draw(st.sampled_from(self._with_buttons()))
        before = self._task_of(shown)
        self.updates.append(self.run(self.gateway.press(label, by=by, under=shown)))
        after = self.world.store.tasks[before.id]
        if before.state not in OVER:
            assert after.decision is not None
            assert (after.state, after.decision.by, after.decision.label) == (TaskState.ANSWERED, by, label)
        else:
            assert (after.state, after.decision) == (before.state, before.decision)

    @precondition(lambda self: self._with_buttons())
    @rule(data=st.data())
    def press_by_a_stranger(self, data: st.DataObject) -> None:
        """Somebody presses who may not."""
        shown = data.draw(st.sampled_from(self._with_buttons()))
        before = self._task_of(shown)
        self.updates.append(self.run(self.gateway.press("Deploy", by=EVE, under=shown)))
        after = self.world.store.tasks[before.id]
        assert (after.state, after.decision) == (before.state, before.decision)

    @precondition(lambda self: self.world.messenger.chat)
    @rule(data=st.data(), by=st.sampled_from([ADA, BEN, EVE]))
    def reply(self, data: st.DataObject, by: Person) -> None:
        """Somebody replies in words to any message."""
        shown = data.draw(st.sampled_from(list(self.world.messenger.chat.values())))
        assert isinstance(shown.chat, int)
        written = self.gateway.write("in words", by=by, chat=shown.chat, reply_to=shown.message_id)
        self.updates.append(self.run(written))

    @precondition(lambda self: self.updates)
    @rule(data=st.data())
    def bring_an_update_again(self, data: st.DataObject) -> None:
        """Telegram brings an update that it has brought before: nothing changes."""
        before = dict(self.world.store.tasks)
        self.run(self.gateway.inbox.take(data.draw(st.sampled_from(self.updates))))
        assert self.world.store.tasks == before

    # Telegram

    @rule(
        outcome=st.sampled_from([NOT_REACHED, later(5), UNCLEAR, UNCLEAR_LOST, BLOCKED]),
        verb=st.sampled_from(["send", "send", "edit", "acknowledge"]),
    )
    def stumble(self, outcome: Outcome, verb: Verb) -> None:
        """The next call of this verb will end so."""
        # A refusal to edit is the end of it: the buttons stay, and nobody can take them away.
        self.world.messenger.script(
            NOT_REACHED if outcome is BLOCKED and verb == "edit" else outcome, verb=verb
        )

    @rule(done_first=st.booleans(), verb=st.sampled_from(["send", "send", "edit"]))
    def hang(self, done_first: bool, verb: Verb) -> None:
        """The next call of this verb will hang."""
        self.hangs.append(Hang(done_first))
        self.world.messenger.script(self.hangs[-1], verb=verb)

    @precondition(lambda self: self.hangs)
    @rule(outcome=st.sampled_from([DELIVERED, NOT_REACHED, UNCLEAR, UNCLEAR_LOST]))
    def say_at_last(self, outcome: Outcome) -> None:
        """The oldest call that hangs ends, however late."""
        hang = self.hangs.pop(0)
        # What was done cannot be said to have been certainly not done.
        hang.release(DELIVERED if hang.done_first and outcome is NOT_REACHED else outcome)
        self.run(_idle())

    # Time and processes

    @rule(seconds=st.sampled_from([1, 5, 11, 31, 61, 3601]))
    def pass_time(self, seconds: float) -> None:
        """Time passes for everybody, and the living process does what is due."""
        self.run(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        await asyncio.sleep(seconds)
        with suppress(StorageUnavailable):
            await self.gateway.scheduler.claim_due()

    @rule(method=st.sampled_from(LOSABLE))
    def lose(self, method: Method) -> None:
        """The next commit of this kind is done, and whoever asked for it is told that it was not."""
        self.world.store.lose(method)
        self.hints_may_be_missing = True

    @rule()
    def crash(self) -> None:
        """The process dies with everything that it held; another takes its place."""
        self.run(self._crash())

    async def _crash(self) -> None:
        self.gateway.room.close()
        for waiter in self.waiters:
            waiter.request.cancel()
        await self.gateway.crash()
        self.gateway = self.world.start()

    @rule()
    def fall_behind(self) -> None:
        """The process is only slow; another takes its place, and what it does comes late."""
        self.late.append(self.gateway)
        self.gateway = self.world.start()

    # What is promised

    @invariant()
    def nothing_final_changes(self) -> None:
        for task_id, task in self.world.store.tasks.items():
            state, decision = self.known.get(task_id, (task.state, task.decision))
            if state is TaskState.UNKNOWN:
                assert task.state in TRANSITIONS[state] | {state}
            elif state in FINAL_STATES:
                assert (task.state, task.decision) == (state, decision)
            self.known[task_id] = (task.state, task.decision)

    @invariant()
    def each_question_is_decided_once(self) -> None:
        decided = [
            entry.task
            for entry in self.world.store.history
            if entry.step.value in {state.value for state in DECIDED_STATES}
        ]
        assert len(decided) == len(set(decided))
        for task in self.world.store.tasks.values():
            assert len(task.answers) <= 1
            assert task.decision is None or task.decision.by in {ADA, BEN, None}

    @invariant()
    def no_message_is_sent_twice(self) -> None:
        for name, body in self.bodies.items():
            if body.kind is TaskKind.MESSAGE:
                assert len(self.world.messenger.delivered(name)) <= 1, name

    @invariant()
    def one_key_makes_one_task(self) -> None:
        made = [_text(task) for task in self.world.store.tasks.values() if task.service == "ci"]
        assert len(made) == len(set(made))

    @invariant()
    def whoever_waits_waits_for_something_open(self) -> None:
        if self.hints_may_be_missing:
            for gateway in self._processes():
                self.run(gateway.sweep_room())
        for gateway in self._processes():
            for task_id in gateway.room.task_ids:
                assert not self.world.store.tasks[task_id].final

    @invariant()
    def whoever_has_waited_has_left_with_what_the_row_says(self) -> None:
        waiting = [waiter for waiter in self.waiters if not waiter.request.done()]
        assert sum(len(gateway.room) for gateway in self._processes()) == len(waiting)
        for waiter in self.waiters:
            if waiter.request.done() and not waiter.request.cancelled():
                told = waiter.request.result()
                row = self.world.store.tasks[told.id]
                assert _text(told) == waiter.text
                if told.final and told.state is not TaskState.UNKNOWN:
                    assert (row.state, row.decision) == (told.state, told.decision)

    @invariant()
    def nothing_was_logged_as_a_bug(self) -> None:
        assert [record.getMessage() for record in self.bugs.records] == []

    # The end

    def teardown(self) -> None:
        """Once Telegram is well again, everything ends: tasks, waits, and buttons of what is over."""
        try:
            self.world.messenger.forget_script()
            for hang in self.hangs:
                hang.release(DELIVERED)
            for seconds in (1, 31, 61, 61, 61, 61, 11, 3601, 11, 3601, 11):
                self.pass_time(seconds)
            self.everything_has_ended()
        finally:
            logging.getLogger("telegate").removeHandler(self.bugs)
            self.runner.close()

    def everything_has_ended(self) -> None:
        for check in (self.whoever_waits_waits_for_something_open, self.nothing_was_logged_as_a_bug):
            check()
        assert all(waiter.request.done() for waiter in self.waiters)
        for gateway in self._processes():
            assert (len(gateway.room), len(gateway.runner.background.running)) == (0, 0)
        assert self.world.store.jobs == [], "Something is left to be done for ever."
        for task in self.world.store.tasks.values():
            assert task.final, f"{task.id} is {task.state} for ever."
            if task.state in DECIDED_STATES:
                shown = [self.world.messenger.chat[message_id] for message_id in task.message_ids]
                assert not [one.message_id for one in shown if one.buttons], "Buttons of what is over."

    # Inside

    def _processes(self) -> list[Gateway]:
        return [self.gateway, *self.late]

    def _with_buttons(self) -> list[Shown]:
        return [shown for shown in self.world.messenger.chat.values() if shown.first_buttons]

    def _task_of(self, shown: Shown) -> Task:
        tasks = self.world.store.tasks.values()
        return next(task for task in tasks if task.is_question and _text(task) == shown.first.body.text)


class DeafStory(Story):
    """The same with a notifier that drops every hint."""

    notifier = DeafNotifier


async def _idle() -> None:
    """Come back when nobody can go on without time passing: the loop leaps only then."""
    await asyncio.sleep(0.000_001)


def _text(task: Task) -> str:
    content = task.question.message if task.is_question else task.content
    return getattr(content, "text", "")


@pytest.mark.hypothesis
@pytest.mark.parametrize("story", [Story, DeafStory], ids=["prompt hints", "no hints"])
def test_in_any_story_what_is_promised_holds(story: type[Story]) -> None:
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=200,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
