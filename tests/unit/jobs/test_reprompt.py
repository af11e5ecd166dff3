"""Reprompting: after an outage each open question asks for another tap, once, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobs.kinds.reprompt import Reprompt
from core.jobs.limits import RateLimiter
from core.jobs.runner import LEASE
from core.model.cluster import Outage
from core.model.effect import Effect
from core.model.errors import Migrated
from core.model.question import Respondents, TextInput
from core.model.task import Change, Task
from core.model.transition import Step, TaskState
from core.presentation.phrases import please_again
from core.presentation.render import fingerprint, parts_of
from tests.fakes.clock import START
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
    Shown,
    later,
)
from tests.fakes.world import ADA, BEN, EVE, GROUP, KEYS, Gateway, World

OUTAGE = Outage(START - timedelta(seconds=200), START)
AGAIN = "Sorry, I was away for a while. If you have already tapped a button, please tap it again."


async def asked(gateway: Gateway, **options: Any) -> Task:
    """A question that stands in a chat."""
    task = await gateway.ask(**{"respondents": Respondents(anyone=True), **options})
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ASKED
    return gateway.row(task)


async def reprompt(gateway: Gateway) -> int:
    """An outage is over: let open questions ask for another tap; returns how many have to."""
    count = await gateway.world.store.reprompt(OUTAGE)
    await gateway.scheduler.claim_due()
    await gateway.settled()
    return count


def shown(gateway: Gateway, task: Task) -> Shown:
    """The question's last message."""
    return gateway.world.messenger.chat[gateway.row(task).message_ids[-1]]


def steps(gateway: Gateway, task: Task) -> Sequence[str]:
    """What happened to it since it was asked."""
    history = gateway.world.store.steps_of(task.id)
    return history[history.index("asked") + 1 :]


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(getattr(record, "action", "")) for record in caplog.records]


async def test_an_open_question_asks_for_another_tap_and_keeps_its_buttons(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task = await asked(gateway)
    before = shown(gateway, task)
    assert await reprompt(gateway) == 1
    after = shown(gateway, task)
    assert after.text == f"{before.text}\n\n{AGAIN}"
    assert after.buttons == before.buttons != ()
    assert steps(gateway, task) == ["rearmed"]
    assert after.now is not None
    assert gateway.world.store.history[-1].shown == fingerprint(after.now)
    assert gateway.row(task) == task
    [line] = [record for record in caplog.records if getattr(record, "action", "") == "rearmed"]
    assert (line.__dict__["task"], line.__dict__["outage_ended"]) == (task.id, START.isoformat())
    assert await gateway.pass_time(600) == 0


async def test_what_can_be_answered_in_words_asks_for_another_answer(gateway: Gateway) -> None:
    task = await asked(gateway, written=TextInput())
    await reprompt(gateway)
    assert shown(gateway, task).text.endswith(
        "with your answer.\n\n"
        "Sorry, I was away for a while. If you have already answered, please answer again."
    )


async def test_of_a_long_question_only_what_has_the_buttons_is_edited(world: World) -> None:
    world.formatter = PlainFormatter(limit=500)
    gateway = world.start()
    task = await asked(gateway, text="x" * 1200)
    copy = await world.messenger.send(ADA.id, None, parts_of(task, world.formatter, KEYS[-1])[-1])

    def find_copy(found: Task | None) -> Effect:
        assert found is not None
        return Effect(changes=(Change(found.with_message(START, copy), Step.COPY_FOUND),))

    await world.store.change(task.id, find_copy, lease=None)
    await reprompt(gateway)
    assert [call.message_id for call in world.messenger.of("edit")] == [task.message_ids[-1], copy]
    assert all(len(message.text) <= 500 for message in world.messenger.chat.values())
    await gateway.runner.stop(0)


async def test_a_question_that_asks_again_already_is_left_as_it_is_until_something_happens_to_it(
    gateway: Gateway,
) -> None:
    task = await asked(gateway, respondents=Respondents(people=frozenset({ADA.id})))
    assert [await reprompt(gateway) for _ in range(2)] == [1, 0]
    assert len(gateway.world.messenger.of("edit")) == 1
    await gateway.press("Deploy", by=EVE)
    assert await reprompt(gateway) == 1
    assert shown(gateway, task).text.count("Sorry") == 1
    assert steps(gateway, task) == ["rearmed", "answer_refused", "rearmed"]


async def test_a_question_whose_time_is_over_asks_for_no_tap(gateway: Gateway) -> None:
    task = await asked(gateway, expires_in=60)
    gateway.world.messenger.script(NOT_REACHED, verb="edit")
    await reprompt(gateway)
    await gateway.pass_time(60)
    assert AGAIN not in shown(gateway, task).text
    assert steps(gateway, task)[0] == "expired"
    assert "rearmed" not in steps(gateway, task)


async def test_a_question_that_was_answered_before_its_turn_came_shows_its_outcome(gateway: Gateway) -> None:
    task = await asked(gateway)
    gateway.world.messenger.script(NOT_REACHED, verb="edit")
    await reprompt(gateway)
    await gateway.press("Deploy")
    await gateway.settled()
    await gateway.pass_time(60)
    assert "chose “Deploy”" in shown(gateway, task).text
    assert "Sorry" not in shown(gateway, task).text
    assert "rearmed" not in steps(gateway, task)


async def test_an_answer_during_the_edit_is_shown_even_when_the_edit_comes_last(gateway: Gateway) -> None:
    task = await asked(gateway)
    hang = Hang()
    gateway.world.messenger.script(hang, verb="edit")
    reprompting = asyncio.create_task(reprompt(gateway))
    await hang.arrived.wait()
    await gateway.press("Deploy")
    hang.release()
    await reprompting
    await gateway.pass_time(60)
    assert "chose “Deploy”" in shown(gateway, task).text
    assert "Sorry" not in shown(gateway, task).text
    assert shown(gateway, task).buttons == ()


async def test_a_chat_that_has_to_wait_is_not_called_before_and_the_others_go_on(gateway: Gateway) -> None:
    slow, same, other = [await asked(gateway, chat=chat) for chat in (GROUP, GROUP, BEN.id)]
    gateway.world.messenger.script(later(30), verb="edit")
    await reprompt(gateway)
    assert steps(gateway, other) == ["rearmed"]
    calls = len(gateway.world.messenger.of("edit"))
    await gateway.pass_time(29)
    assert len(gateway.world.messenger.of("edit")) == calls
    await gateway.pass_time(1)
    assert {steps(gateway, task)[-1] for task in (slow, same)} == {"rearmed"}


async def test_a_telegram_that_cannot_be_reached_is_tried_again_until_it_can(gateway: Gateway) -> None:
    task = await asked(gateway)
    gateway.world.messenger.script(*[NOT_REACHED] * 9, verb="edit")
    await reprompt(gateway)
    for pause in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        assert steps(gateway, task) == []
        assert await gateway.pass_time(pause - 0.5) == 0
        assert await gateway.pass_time(0.5) == 1
    assert steps(gateway, task) == ["rearmed"]


async def test_an_unclear_edit_is_repeated_and_given_up_after_a_while(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    task = await asked(gateway)
    tries = Reprompt.retry.unclear_tries
    assert tries is not None
    gateway.world.messenger.script(*[UNCLEAR_LOST] * 2 * tries, verb="edit")
    await reprompt(gateway)
    for _ in range(tries):
        await gateway.pass_time(60)
    assert len(gateway.world.messenger.of("edit")) == tries + 1
    assert await gateway.pass_time(600) == 0
    assert steps(gateway, task) == []
    assert actions(caplog)[-2:] == ["job_given_up", "rearm_refused"]


@pytest.mark.parametrize("refusal", [BLOCKED, Outcome(done=False, error=Migrated(-100))])
async def test_a_message_that_cannot_be_edited_is_logged_and_left(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, refusal: Outcome
) -> None:
    task = await asked(gateway)
    gateway.world.messenger.script(refusal, verb="edit")
    await reprompt(gateway)
    assert actions(caplog)[-1] == "rearm_refused"
    assert steps(gateway, task) == []
    assert await gateway.pass_time(600) == 0


async def test_it_goes_no_faster_than_telegram_likes_it(world: World) -> None:
    time = asyncio.get_running_loop().time
    asking = world.start()
    tasks = [await asked(asking, chat=1000 + number) for number in range(60)]
    gateway = world.start(RateLimiter(20, time))
    begun = time()
    await reprompt(gateway)
    while not all(steps(gateway, task) for task in tasks):
        await gateway.scheduler.claim_due()
        await gateway.settled()
    assert time() - begun == pytest.approx((60 - 20) / 20, abs=0.5)
    for process in (asking, gateway):
        await process.runner.stop(0)


async def test_any_process_takes_up_what_one_that_died_was_doing(world: World) -> None:
    first, second = world.start(), world.start()
    task = await asked(first)
    world.messenger.script(Hang(), verb="edit")
    await world.store.reprompt(OUTAGE)
    await first.scheduler.claim_due()
    await asyncio.sleep(0.01)
    await first.crash()
    assert await second.pass_time(LEASE.total_seconds() - 1) == 0
    assert await second.pass_time(1) == 1
    assert steps(second, task) == ["rearmed"]
    await second.runner.stop(0)


OUTCOMES = st.sampled_from([DELIVERED, NOT_REACHED, UNCLEAR, UNCLEAR_LOST, later(3)])


@settings(max_examples=200, deadline=None)
@given(
    outcomes=st.lists(OUTCOMES, max_size=4),
    crashes=st.lists(st.integers(1, 40), max_size=3),
    answer_after=st.one_of(st.none(), st.integers(0, 40)),
)
def test_whatever_crashes_every_open_question_asks_for_another_tap_and_none_for_ever(
    outcomes: list[Outcome], crashes: list[int], answer_after: int | None
) -> None:
    run(_live_through(outcomes, crashes, answer_after))


async def _live_through(outcomes: list[Outcome], crashes: list[int], answer_after: int | None) -> None:
    world = World()
    gateway = world.start()
    tasks = [await asked(gateway, chat=chat) for chat in (ADA.id, GROUP)]
    await world.store.reprompt(OUTAGE)
    world.messenger.script(*outcomes, verb="edit")
    answering = asyncio.create_task(_answer(gateway, tasks[0], answer_after))
    for crash in crashes:
        claiming = asyncio.create_task(gateway.scheduler.claim_due())
        for _ in range(crash):
            await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        await gateway.crash()
        gateway = world.start()
    await answering
    world.messenger.forget_script()
    for _ in range(20):
        await gateway.pass_time(LEASE.total_seconds())
    assert {job.kind for job in world.store.jobs} <= {"expire"}
    edits = len(world.messenger.of("edit"))
    assert edits < 20
    await gateway.pass_time(600)
    assert len(world.messenger.of("edit")) == edits
    await gateway.runner.stop(0)
    for task in tasks:
        _check(gateway, task)


async def _answer(gateway: Gateway, task: Task, after: int | None) -> None:
    if after is None:
        return
    for _ in range(after):
        await asyncio.sleep(0)
    message = gateway.world.messenger.chat[task.message_ids[-1]]
    await gateway.press("Deploy", under=message)


def _check(gateway: Gateway, task: Task) -> None:
    message = shown(gateway, task)
    if gateway.row(task).state is TaskState.ANSWERED:
        assert message.buttons == ()
        assert "Sorry" not in message.text
        assert set(steps(gateway, task)) <= {"rearmed", "answered", "closed"}
        assert steps(gateway, task).count("rearmed") <= 1
    else:
        assert please_again(task.question) in message.text
        assert message.buttons
        assert steps(gateway, task) == ["rearmed"]
