"""Re-arming: after an outage each open question asks for another press, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cluster.heartbeat import Attending, Outage
from core.jobs.chats import ChatBook
from core.jobs.limits import Pacer
from core.jobs.rearming import MOST_TRIES, NAP, Rearming
from core.model.message import Chat, Message
from core.model.question import Question, Respondents, TextInput
from core.model.task import Change, Task, TaskState
from core.ports import GatewayIdentity, Migrated, NotReached, Unclear
from core.presentation.phrases import please_again
from core.presentation.render import closing_part, fingerprint, parts_of
from core.services.factory import LEASE, Drafter
from tests.fakes.clock import START, HandClock
from tests.fakes.formatter import PlainFormatter
from tests.fakes.loop import run
from tests.fakes.messenger import (
    BLOCKED,
    DELIVERED,
    NOT_REACHED,
    UNCLEAR,
    UNCLEAR_LOST,
    Hang,
    Outcome,
    ScriptedMessenger,
    Shown,
    later,
)
from tests.fakes.presence import MemoryPresence
from tests.fakes.world import ADA, BEN, BOT, GROUP, KEYS, YES_NO, ends, turns, until

OUTAGE = Outage(START - timedelta(seconds=200), START)
AGAIN = "Sorry, I was away for a while. If you have already tapped a button, please tap it again."


@dataclass(slots=True)
class Scene:
    """A database and a Telegram that outlive the processes."""

    clock: HandClock = field(default_factory=HandClock)
    store: MemoryPresence = field(default_factory=MemoryPresence)
    messenger: ScriptedMessenger = field(default_factory=ScriptedMessenger)
    formatter: PlainFormatter = field(default_factory=PlainFormatter)
    number: int = 0

    async def process(self, per_second: float = 0.0) -> Rearming:
        """Another process, which has the duty."""
        self.number += 1
        identity = GatewayIdentity(BOT, f"process-{self.number}", KEYS)
        drafter = Drafter(
            identity, self.clock, lambda: f"{self.number:03d}-{len(self.store.tasks.tasks):026d}"
        )
        attending = Attending(self.store, drafter)
        if self.store.row is not None:
            self.store.row = replace(self.store.row, duty=None)
        await attending.attend()
        chats = ChatBook(self.store.tasks, jitter=lambda: 0.0)
        pacer = Pacer(per_second, asyncio.get_running_loop().time)
        return Rearming(self.store, self.messenger, self.formatter, drafter, chats, pacer, attending)

    async def ask(
        self,
        rearming: Rearming,
        *,
        chat: int = ADA.id,
        text: str = "Deploy?",
        written: TextInput | None = None,
    ) -> Task:
        """A question that stands in a chat."""
        content = Question(Message(text), Respondents(anyone=True), YES_NO, written)
        task = rearming.drafter.draft(content, service="ci", chat=Chat(chat), expires_in=3600)
        for part in parts_of(task, self.formatter, KEYS[-1]):
            task = task.with_message(START, await self.messenger.send(chat, None, part))
        task = task.asked(START)
        await self.store.tasks.add(task, None)
        return task

    async def decide(self, task: Task) -> Task:
        """Somebody answers, and the message is edited to show it, as the sender does."""

        def judge(current: Task) -> Change | None:
            if current.state is not TaskState.ASKED:
                return None
            answer = current.question.answer_by_option(0, ADA, START)
            assert answer is not None
            return Change.to_state(current.answered(START, answer))

        decided = await self.store.tasks.amend(task.id, judge)
        assert decided is not None
        await self.messenger.edit(task.chat.id, task.message_ids[-1], closing_part(decided, self.formatter))
        return decided

    def shown(self, task: Task) -> Shown:
        """The question's last message."""
        return self.messenger.chat[task.message_ids[-1]]

    def steps(self, task: Task) -> list[str]:
        """Its history."""
        return self.store.tasks.steps_of(task.id)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_f12_an_open_question_asks_for_another_press_and_keeps_its_buttons(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rearming = await scene.process()
    task = await scene.ask(rearming)
    before = scene.shown(task)
    await rearming.disarm(OUTAGE)
    assert await rearming.work_off() == 1
    after = scene.shown(task)
    assert after.text == f"{before.text}\n\n{AGAIN}"
    assert after.buttons == before.buttons != ()
    assert scene.steps(task) == ["asked", "rearmed"]
    assert after.now is not None
    assert scene.store.tasks.history[-1].change.shown == fingerprint(after.now)
    assert scene.store.tasks.tasks[task.id] == task
    assert await rearming.work_off() == 0
    lines = {record.action: record for record in caplog.records}  # type: ignore[attr-defined]
    assert "ask for another tap: 1." in lines["disarmed"].message
    assert lines["rearmed"].outage_ended == START.isoformat()  # type: ignore[attr-defined]


async def test_what_can_be_answered_in_words_asks_for_another_answer(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming, written=TextInput())
    await rearming.disarm(OUTAGE)
    await rearming.work_off()
    assert scene.shown(task).text.endswith(
        "with your answer.\n\n"
        "Sorry, I was away for a while. If you have already answered, please answer again."
    )


async def test_of_a_long_question_only_what_has_the_buttons_is_edited(scene: Scene) -> None:
    scene.formatter = PlainFormatter(limit=500)
    rearming = await scene.process()
    task = await scene.ask(rearming, text="x" * 1200)
    copy = await scene.messenger.send(ADA.id, None, parts_of(task, scene.formatter, KEYS[-1])[-1])
    grown = task.with_message(START, copy)
    await scene.store.tasks.amend(task.id, lambda _: Change(grown, "copy_found"))
    await rearming.disarm(OUTAGE)
    await rearming.work_off()
    edited = [call.message_id for call in scene.messenger.of("edit")]
    assert edited == [*task.message_ids[-1:], copy]
    assert all(len(shown.text) <= 500 for shown in scene.messenger.chat.values())


async def test_a_second_outage_leaves_a_question_as_it_is_that_asks_again_already(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    for _ in range(2):
        await rearming.disarm(OUTAGE)
        await rearming.work_off()
    assert len(scene.messenger.of("edit")) == 1
    assert scene.steps(task) == ["asked", "rearmed"]
    await scene.store.tasks.amend(task.id, lambda found: Change(found, "answer_refused"))
    await rearming.disarm(OUTAGE)
    await rearming.work_off()
    assert scene.shown(task).text.count("Sorry") == 1
    assert scene.steps(task)[2:] == ["answer_refused", "rearmed"]


async def test_a_question_whose_time_is_over_is_left_alone(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    scene.clock.advance(3600)
    await rearming.work_off()
    assert scene.messenger.of("edit") == []
    assert scene.steps(task) == ["asked"]
    assert scene.store.listed == {}


async def test_a_question_that_was_answered_before_its_turn_came_shows_its_outcome(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    await scene.decide(task)
    await rearming.work_off()
    assert "chose “Deploy”" in scene.shown(task).text
    assert scene.steps(task) == ["asked", "answered"]
    assert scene.store.listed == {}


async def test_an_answer_during_the_edit_is_shown_even_when_the_edit_comes_last(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    hang = Hang()
    scene.messenger.script(hang, verb="edit")
    working = asyncio.create_task(rearming.work_off())
    await hang.arrived.wait()
    await scene.decide(task)
    hang.release()
    await working
    assert "chose “Deploy”" in scene.shown(task).text
    assert scene.shown(task).buttons == ()
    assert scene.store.listed == {}


async def test_f1_a_chat_that_has_to_wait_is_not_called_before_and_the_others_go_on(scene: Scene) -> None:
    rearming = await scene.process()
    slow, same, other = [await scene.ask(rearming, chat=chat) for chat in (GROUP, GROUP, BEN.id)]
    await rearming.disarm(OUTAGE)
    scene.messenger.script(later(30), verb="edit")
    await rearming.work_off()
    assert scene.steps(other)[-1] == "rearmed"
    scene.clock.advance(29)
    calls = len(scene.messenger.of("edit"))
    await rearming.work_off()
    assert len(scene.messenger.of("edit")) == calls
    scene.clock.advance(1)
    await rearming.work_off()
    assert {scene.steps(task)[-1] for task in (slow, same)} == {"rearmed"}


async def test_a_telegram_that_cannot_be_reached_is_tried_again_until_it_can(scene: Scene) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    scene.messenger.script(*[NOT_REACHED] * 9, verb="edit")
    for pause in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        await rearming.work_off()
        assert scene.steps(task) == ["asked"]
        scene.clock.advance(pause - 0.5)
        assert await rearming.work_off() == 0
        scene.clock.advance(0.5)
    await rearming.work_off()
    assert scene.steps(task) == ["asked", "rearmed"]


async def test_an_unclear_edit_is_repeated_and_given_up_after_a_while(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    scene.messenger.script(*[UNCLEAR_LOST] * MOST_TRIES, verb="edit")
    for _ in range(MOST_TRIES):
        await rearming.work_off()
        scene.clock.advance(60)
    assert await rearming.work_off() == 0
    assert scene.steps(task) == ["asked"]
    assert [record.action for record in caplog.records][-1] == "rearm_refused"  # type: ignore[attr-defined]


@pytest.mark.parametrize("refusal", [BLOCKED, Outcome(done=False, error=Migrated(-100))])
async def test_a_message_that_cannot_be_edited_is_told_and_left(
    scene: Scene, caplog: pytest.LogCaptureFixture, refusal: Outcome
) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    scene.messenger.script(refusal, verb="edit")
    await rearming.work_off()
    assert [record.action for record in caplog.records][-1] == "rearm_refused"  # type: ignore[attr-defined]
    assert scene.steps(task) == ["asked"]
    assert await rearming.work_off() == 0


async def test_a_process_that_is_not_on_duty_or_is_stopping_does_nothing(scene: Scene) -> None:
    rearming = await scene.process()
    await scene.ask(rearming)
    await rearming.disarm(OUTAGE)
    rearming.attending.is_serving = lambda: False
    assert await rearming.work_off() == 0
    other = await scene.process()
    await rearming.attending.attend()
    rearming.attending.is_serving = lambda: True
    assert await rearming.work_off() == 0
    assert await other.work_off() == 1


async def test_it_goes_no_faster_than_telegram_likes_it(scene: Scene) -> None:
    rearming = await scene.process(per_second=20)
    for number in range(60):
        await scene.ask(rearming, chat=1000 + number)
    await rearming.disarm(OUTAGE)
    begun = asyncio.get_running_loop().time()
    await rearming.work_off()
    assert asyncio.get_running_loop().time() - begun == pytest.approx((60 - 20) / 20)


async def test_the_loop_works_off_what_is_listed_and_outlives_a_database_that_goes_away(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    rearming = await scene.process()
    task = await scene.ask(rearming)
    running = asyncio.create_task(rearming.run())
    await asyncio.sleep(NAP / 2)
    scene.store.down = True
    rearming.wake()
    await asyncio.sleep(3 * NAP)
    assert [record.action for record in caplog.records] == ["rearming_failed"]  # type: ignore[attr-defined]
    scene.store.down = False
    await rearming.disarm(OUTAGE)
    await until(lambda: scene.steps(task)[-1] == "rearmed")
    late = await scene.ask(rearming)
    await scene.store.disarm(OUTAGE)
    await asyncio.sleep(NAP + 1)
    assert scene.steps(late)[-1] == "rearmed"
    running.cancel()


@pytest.mark.parametrize("turn", range(5))
async def test_the_loop_ends_even_as_its_alarm_rings(scene: Scene, turn: int) -> None:
    rearming = await scene.process()
    running = asyncio.create_task(rearming.run())
    await turns()
    rearming.wake()
    await turns(turn)
    running.cancel()
    assert await ends(running)


OUTCOMES = st.sampled_from([DELIVERED, NOT_REACHED, UNCLEAR, UNCLEAR_LOST, later(3)])


@settings(max_examples=200, deadline=None)
@given(
    outcomes=st.lists(OUTCOMES, max_size=4),
    crashes=st.lists(st.integers(1, 40), max_size=3),
    answer_after=st.one_of(st.none(), st.integers(0, 40)),
)
def test_f12_whatever_crashes_no_question_is_left_disarmed_and_none_is_edited_for_ever(
    outcomes: list[Outcome], crashes: list[int], answer_after: int | None
) -> None:
    run(_live_through(outcomes, crashes, answer_after))


async def _live_through(outcomes: list[Outcome], crashes: list[int], answer_after: int | None) -> None:
    scene = Scene()
    rearming = await scene.process()
    tasks = [await scene.ask(rearming, chat=chat) for chat in (ADA.id, GROUP)]
    await rearming.disarm(OUTAGE)
    scene.messenger.script(*outcomes, verb="edit")
    answering = asyncio.create_task(_answer(scene, tasks[0], answer_after))
    for crash in crashes:
        working = asyncio.create_task(rearming.work_off())
        for _ in range(crash):
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        rearming = await scene.process()
    await answering
    scene.messenger.forget_script()
    rounds = 0
    while scene.store.listed:
        scene.clock.advance(LEASE.total_seconds())
        await rearming.work_off()
        rounds += 1
        assert rounds < 20
    edits = len(scene.messenger.calls)
    scene.clock.advance(600)
    await rearming.work_off()
    assert len(scene.messenger.calls) == edits
    for task in tasks:
        _check(scene, task)


async def _answer(scene: Scene, task: Task, after: int | None) -> None:
    if after is None:
        return
    for _ in range(after):
        await asyncio.sleep(0)
    shown = False
    while not shown:
        # As the sender does: whatever came of the edit, it is done again.
        with contextlib.suppress(NotReached, Unclear):
            await scene.decide(task)
            shown = True


def _check(scene: Scene, task: Task) -> None:
    row, shown = scene.store.tasks.tasks[task.id], scene.shown(task)
    if row.state is TaskState.ANSWERED:
        assert shown.buttons == ()
        assert "Sorry" not in shown.text
        assert scene.steps(task) in (["asked", "answered"], ["asked", "rearmed", "answered"])
    else:
        assert please_again(task.question) in shown.text
        assert shown.buttons
        assert scene.steps(task) == ["asked", "rearmed"]


async def test_a_process_that_is_not_on_duty_rearms_when_it_is_told_to(scene: Scene) -> None:
    first = await scene.process()
    task = await scene.ask(first)
    await first.disarm(OUTAGE)
    second = await scene.process()
    await first.attending.attend()
    assert not first.attending.on_duty
    assert await first.work_off() == 0
    assert await first.work_off(off_duty=True) == 1
    assert await second.work_off() == 0
    assert scene.steps(task) == ["asked", "rearmed"]
