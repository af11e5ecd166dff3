"""Updates: what a press, a word and a command do, each exactly once, and what the person is told."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

import pytest

from core.jobs.kinds.finalize import Finalize
from core.model.chat import Chat
from core.model.errors import StorageUnavailable, TelegramUnavailable
from core.model.identity import ButtonKey
from core.model.person import Person
from core.model.question import Respondents, TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.model.update import ButtonPressed, Carrier, Ignored, Unreadable
from core.presentation import phrases
from core.presentation.buttons import ButtonData
from tests.fakes.messenger import BLOCKED, UNCLEAR, Hang, later
from tests.fakes.world import ADA, BEN, BOT, CHANNEL, EVE, GROUP, KEYS, Gateway, World, turns, until
from tests.unit.inbox.samples import ANYONE, OPERATORS


async def asked(gateway: Gateway, text: str = "Deploy?", **how: object) -> Task:
    task = await gateway.ask(text, **how)  # type: ignore[arg-type]
    await gateway.settled()
    return gateway.row(task)


async def told(gateway: Gateway) -> tuple[str, bool]:
    """What the person who pressed last was told, and whether it was a popup."""
    await gateway.settled()
    call = gateway.world.messenger.of("acknowledge")[-1]
    return call.text, call.popup


def unchanged(gateway: Gateway, task: Task) -> bool:
    return gateway.row(task) == task


def lines(caplog: pytest.LogCaptureFixture, action: str) -> list[logging.LogRecord]:
    """What the log says of one kind."""
    return [record for record in caplog.records if vars(record).get("action") == action]


# Buttons


async def test_a_respondent_s_press_decides(gateway: Gateway) -> None:
    task = await asked(gateway)
    press = await gateway.press("Deploy")
    row = gateway.row(task)
    assert row.state is TaskState.ANSWERED
    assert row.decision is not None
    assert (row.decision.choice, row.decision.label, row.decision.by) == ("deploy", "Deploy", ADA)
    assert await told(gateway) == ("Thank you! You chose “Deploy”.", False)
    step = next(entry for entry in gateway.world.store.history if entry.step == "answered")
    assert (step.person, step.update) == (ADA.id, press.update_id)
    assert gateway.world.messenger.of("acknowledge")[-1].press_id == press.press_id


async def test_the_decided_message_shows_who_chose_what(gateway: Gateway) -> None:
    await asked(gateway)
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.world.messenger.last.text.endswith(
        "Ada L. chose “Deploy” on 22 November 2026 at 10:00 UTC."
    )
    assert gateway.world.messenger.last.buttons == ()


async def test_the_service_has_its_answer_before_the_chat_is_told(gateway: Gateway) -> None:
    waiting = asyncio.create_task(gateway.ask(wait=30))
    await until(lambda: len(gateway.world.messenger.chat) == 1)
    finalize = gateway.runner.kinds["finalize"]
    assert isinstance(finalize, Finalize)
    gateway.runner.kinds = {**gateway.runner.kinds, "finalize": replace(finalize, precedence=0.2)}
    await gateway.press("Deploy")
    assert (await waiting).state is TaskState.ANSWERED
    await turns()
    assert gateway.world.messenger.last.buttons
    await gateway.settled()
    assert not gateway.world.messenger.last.buttons


async def test_a_second_press_is_told_who_was_first_and_changes_nothing(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=ANYONE)
    await gateway.press("Deploy")
    await gateway.settled()
    answered = gateway.row(task)
    await gateway.press("Cancel", by=BEN)
    assert await told(gateway) == ("Ada L. has already answered: “Deploy”.", True)
    assert gateway.row(task).decision == answered.decision
    assert gateway.row(task).answers == answered.answers


async def test_the_same_update_twice_has_one_effect(gateway: Gateway) -> None:
    await asked(gateway)
    press = await gateway.press("Deploy")
    await gateway.settled()
    before = (dict(gateway.world.store.tasks), len(gateway.world.messenger.calls))
    await gateway.inbox.take(press)
    await gateway.settled()
    # The button is let go of once more, without a word: whoever took the press first may have died before.
    said = gateway.world.messenger.of("acknowledge")[-1].text
    assert (dict(gateway.world.store.tasks), len(gateway.world.messenger.calls) - 1, said) == (*before, "")


async def test_a_stranger_s_tap_changes_nothing(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=OPERATORS)
    await gateway.press("Deploy", by=EVE)
    assert await told(gateway) == (phrases.NOT_YOURS, True)
    assert unchanged(gateway, task)
    assert gateway.world.store.steps_of(task.id)[-1] == "answer_refused"
    await gateway.press("Deploy", by=ADA)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_a_role_counts_when_the_answer_comes_and_not_when_the_question_went(
    world: World, gateway: Gateway
) -> None:
    task = await asked(gateway, chat=GROUP, respondents=OPERATORS)
    world.policy = replace(world.policy, people={BEN.id: frozenset({"operator"})})
    await gateway.press("Deploy", by=ADA)
    assert unchanged(gateway, task)
    await gateway.press("Deploy", by=BEN)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_a_press_by_nobody_in_particular_does_not_count(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=ANYONE)
    await gateway.press("Deploy", by=None)
    assert await told(gateway) == (phrases.ONLY_PEOPLE, True)
    assert unchanged(gateway, task)


@pytest.mark.parametrize("data", ["", "deploy", "A" * 32, "🚀", "x" * 64])
async def test_data_that_never_was_a_button_of_ours_changes_nothing(gateway: Gateway, data: str) -> None:
    task = await asked(gateway)
    await gateway.inbox.take(gateway.pressed(data))
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert unchanged(gateway, task)


async def test_a_signature_of_another_key_changes_nothing(gateway: Gateway) -> None:
    task = await asked(gateway)
    stolen = replace(KEYS[-1], secret=b"a guessed key, thirty-two bytes.")
    forged = ButtonData.sign(stolen, task.token, 0, ADA.id).pack()
    await gateway.inbox.take(gateway.pressed(forged))
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert unchanged(gateway, task)


async def test_a_button_that_was_signed_before_the_key_changed_still_counts(gateway: Gateway) -> None:
    task = await asked(gateway)
    older = ButtonData.sign(KEYS[0], task.token, 1, ADA.id).pack()
    await gateway.inbox.take(gateway.pressed(older))
    decision = gateway.row(task).decision
    assert decision is not None
    assert decision.choice == "cancel"


async def test_a_genuine_button_with_an_option_that_is_not_there_changes_nothing(gateway: Gateway) -> None:
    task = await asked(gateway)
    beyond = ButtonData.sign(KEYS[-1], task.token, 2, ADA.id).pack()
    await gateway.inbox.take(gateway.pressed(beyond))
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert unchanged(gateway, task)


async def test_a_button_carried_into_another_chat_changes_nothing(gateway: Gateway) -> None:
    task = await asked(gateway, respondents=ANYONE)
    await gateway.press("Deploy", by=EVE, chat=EVE.id)
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert unchanged(gateway, task)


# A button of a question that nobody remembers


async def forgotten(gateway: Gateway, **how: object) -> Task:
    """A question that stands in its chat, and whose row is gone."""
    task = await asked(gateway, "Deploy?", **how)
    del gateway.world.store.tasks[task.id]
    return task


def stripped(gateway: Gateway) -> list[int | None]:
    """The messages whose buttons were to be taken away."""
    return [call.message_id for call in gateway.world.messenger.of("strip")]


async def test_a_press_on_a_forgotten_question_takes_its_buttons_away(gateway: Gateway) -> None:
    await forgotten(gateway)
    await gateway.press("Deploy")
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert gateway.world.messenger.last.buttons == ()
    assert gateway.world.messenger.last.text == "Deploy?"


async def test_two_presses_at_once_on_a_forgotten_question_edit_it_once(gateway: Gateway) -> None:
    await forgotten(gateway, chat=GROUP, respondents=ANYONE)
    hang = Hang()
    gateway.world.messenger.script(hang, verb="strip")
    await gateway.press("Deploy")
    await hang.arrived.wait()
    await gateway.press("Cancel", by=BEN)
    hang.release()
    await gateway.settled()
    assert len(stripped(gateway)) == 1
    assert len(gateway.world.messenger.of("acknowledge")) == 2


async def test_buttons_of_a_database_that_was_replaced_are_known_by_their_layout(gateway: Gateway) -> None:
    await forgotten(gateway)
    lost = ButtonKey(1, b"the key of another database, 32.")
    carried = tuple(ButtonData.sign(lost, b"another toke", at, ADA.id).pack() for at in range(2))
    press = replace(gateway.pressed(carried[1]), carrier=lambda: Carrier(4242, carried))
    await gateway.inbox.take(press)
    await gateway.settled()
    assert stripped(gateway) == []
    ours = Carrier(BOT, carried)
    await gateway.inbox.take(replace(gateway.pressed(carried[1]), carrier=lambda: ours))
    await gateway.settled()
    assert stripped(gateway) == [press.message_id]


@pytest.mark.parametrize("options", [(0, 0), (1, 2), (1,), (1, 0)])
async def test_buttons_that_nobody_s_question_has_are_left_alone(
    gateway: Gateway, options: tuple[int, ...]
) -> None:
    await forgotten(gateway)
    lost = ButtonKey(1, b"the key of another database, 32.")
    carried = tuple(ButtonData.sign(lost, b"another toke", at, ADA.id).pack() for at in options)
    for others in (carried, (*carried, "deploy"), ("deploy", *carried)):
        carrier = Carrier(BOT, others)
        await gateway.inbox.take(replace(gateway.pressed(carried[0]), carrier=partial(replace, carrier)))
    await gateway.settled()
    assert stripped(gateway) == []


async def test_a_forgotten_button_carried_under_another_message_takes_nothing_away(gateway: Gateway) -> None:
    await forgotten(gateway)
    data = gateway.world.messenger.last.first_buttons[0].data or ""
    await asked(gateway)
    await gateway.inbox.take(gateway.pressed(data))
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert stripped(gateway) == []


async def test_a_forgotten_question_waits_while_telegram_asks_to_wait(gateway: Gateway) -> None:
    await forgotten(gateway)
    gateway.world.messenger.script(later(60), verb="strip")
    for _ in range(2):
        await gateway.press("Deploy")
        assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert len(stripped(gateway)) == 1
    gateway.world.clock.advance(61)
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.world.messenger.last.buttons == ()


async def test_a_button_of_one_question_pressed_under_another_changes_neither(gateway: Gateway) -> None:
    decided = await gateway.ask("Deploy?")
    await gateway.settled()
    old = gateway.world.messenger.last.first_buttons[0].data or ""
    await gateway.press("Deploy")
    await gateway.settled()
    still_open = await gateway.ask("Delete everything?")
    await gateway.settled()
    under = gateway.world.messenger.last
    await gateway.inbox.take(gateway.pressed(old, under=under))
    await gateway.settled()
    assert await told(gateway) == (phrases.BUTTON_GONE, True)
    assert gateway.row(still_open).state is TaskState.ASKED
    assert gateway.world.messenger.last.first_buttons
    assert under.message_id not in gateway.row(decided).message_ids


async def test_a_channel_known_by_its_name_takes_answers(gateway: Gateway) -> None:
    task = await asked(gateway, chat=CHANNEL, respondents=ANYONE)
    assert task.chat == Chat(CHANNEL)
    await gateway.press("Deploy", by=BEN)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_a_press_after_the_time_is_over_is_told_so(gateway: Gateway) -> None:
    task = await asked(gateway, expires_in=60)
    await gateway.pass_time(60)
    await gateway.press("Deploy")
    assert await told(gateway) == ("The time to answer this question is over.", True)
    assert gateway.row(task).state is TaskState.EXPIRED


async def test_a_press_after_the_question_was_withdrawn_is_told_so(gateway: Gateway) -> None:
    task = await asked(gateway)
    await gateway.withdraw(task)
    await gateway.press("Deploy")
    assert await told(gateway) == ("This question was withdrawn.", True)


async def test_a_late_press_takes_the_buttons_away_that_were_pressed(gateway: Gateway) -> None:
    gateway.world.messenger.script(BLOCKED, verb="edit")
    await asked(gateway)
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.world.messenger.last.buttons != (), "Telegram refused to take them away."
    await gateway.press("Deploy")
    await gateway.settled()
    assert gateway.world.messenger.last.buttons == ()


async def test_a_late_press_on_a_copy_that_nobody_knew_of_takes_its_buttons_away(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gateway.world.messenger.script(UNCLEAR)
    await asked(gateway)
    await gateway.pass_time(1)
    lost, known = gateway.world.messenger.chat.values()
    await gateway.press("Deploy", under=known)
    await gateway.settled()
    await gateway.press("Deploy", under=lost)
    await gateway.settled()
    assert gateway.world.messenger.chat[lost.message_id].buttons == ()
    (line,) = lines(caplog, "copy_found")
    assert "an unknown copy of a question that is over" in line.getMessage()


async def test_a_press_proves_that_an_unclear_message_was_delivered(gateway: Gateway) -> None:
    hang = Hang(done_first=True)
    gateway.world.messenger.script(hang)
    task = await gateway.ask()
    await hang.arrived.wait()
    await gateway.press("Deploy")
    assert gateway.row(task).message_ids == (4711,)
    hang.release(UNCLEAR)
    await gateway.settled()
    assert gateway.row(task).state is TaskState.ANSWERED


# Words


async def test_words_that_reply_to_a_question_answer_it(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=ANYONE, written=TextInput())
    await gateway.write("next Thursday", by=BEN, chat=GROUP, reply_to=task.message_ids[0])
    row = gateway.row(task)
    assert row.decision is not None
    assert (row.state, row.decision.text, row.decision.value, row.decision.by) == (
        TaskState.ANSWERED,
        "next Thursday",
        "next Thursday",
        BEN,
    )
    assert row.decision.choice is None


async def test_words_that_reply_to_a_question_before_its_delivery_is_known_answer_it(
    gateway: Gateway,
) -> None:
    hang = Hang(done_first=True)
    gateway.world.messenger.script(hang)
    task = await gateway.ask("When?", chat=GROUP, respondents=ANYONE, written=TextInput())
    await hang.arrived.wait()
    shown = gateway.world.messenger.last
    await gateway.write("Friday", by=BEN, chat=GROUP, reply_to=shown.message_id, replied_text=shown.text)
    row = gateway.row(task)
    assert (row.state, row.decision and row.decision.text) == (TaskState.ANSWERED, "Friday")
    assert row.message_ids == (shown.message_id,)
    hang.release()
    await gateway.settled()
    assert gateway.world.store.steps_of(task.id)[-1] == "closed"


async def test_words_that_reply_to_an_unknown_message_answer_no_question_that_says_something_else(
    gateway: Gateway,
) -> None:
    task = await asked(gateway, "When?", chat=GROUP, respondents=ANYONE, written=TextInput())
    text = gateway.world.messenger.last.text
    for replied in ("Something else", None):
        await gateway.write("Friday", by=BEN, chat=GROUP, reply_to=999, replied_text=replied)
    assert gateway.row(task).state is TaskState.ASKED
    await asked(gateway, "When?", chat=GROUP, respondents=ANYONE, written=TextInput())
    await gateway.write("Friday", by=BEN, chat=GROUP, reply_to=999, replied_text=text)
    assert gateway.row(task).state is TaskState.ASKED, "Which of the two was meant?"


async def test_words_in_a_private_chat_answer_the_only_question_that_waits_for_words(
    gateway: Gateway,
) -> None:
    buttons_only = await asked(gateway, "Deploy?")
    wordy = await asked(gateway, "When?", options=(), written=TextInput())
    await gateway.write("next Thursday")
    assert gateway.row(wordy).state is TaskState.ANSWERED
    assert unchanged(gateway, buttons_only)


async def test_words_that_could_mean_two_questions_answer_none(gateway: Gateway) -> None:
    tasks = [await asked(gateway, text, options=(), written=TextInput()) for text in ("When?", "Where?")]
    await gateway.write("next Thursday")
    await gateway.settled()
    assert all(unchanged(gateway, task) for task in tasks)
    assert gateway.world.messenger.last.text == phrases.WHICH_QUESTION
    await gateway.write("in the office", reply_to=tasks[1].message_ids[0])
    assert unchanged(gateway, tasks[0])
    assert gateway.row(tasks[1]).state is TaskState.ANSWERED


async def test_words_for_a_question_with_buttons_only_are_shown_the_buttons(gateway: Gateway) -> None:
    task = await asked(gateway)
    for reply_to in (None, task.message_ids[0]):
        await gateway.write("yes, please", reply_to=reply_to)
        await gateway.settled()
        assert gateway.world.messenger.last.text == phrases.USE_BUTTONS
    assert unchanged(gateway, task)


async def test_words_when_nothing_is_open_are_answered_in_words(gateway: Gateway) -> None:
    await gateway.write("hello?")
    await gateway.settled()
    assert gateway.said() == [phrases.NOTHING_OPEN]


async def test_words_in_a_group_that_reply_to_nothing_are_none_of_our_business(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=ANYONE, written=TextInput())
    await gateway.write("nice weather", chat=GROUP)
    assert unchanged(gateway, task)
    assert len(gateway.said()) == 1


@pytest.mark.parametrize("chat", [GROUP, ADA.id])
async def test_words_that_reply_to_something_else_are_answered_in_private_only(
    gateway: Gateway, chat: int
) -> None:
    message = await gateway.tell(chat=chat, wait=5)
    for reply_to in (message.message_ids[0], 99):
        await gateway.write("thanks!", chat=chat, reply_to=reply_to)
    await gateway.settled()
    said = [phrases.NOTHING_OPEN] * 2 if chat == ADA.id else []
    assert gateway.said() == ["Hello", *said]


async def test_words_of_a_stranger_are_refused_and_change_nothing(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=OPERATORS, written=TextInput())
    written = await gateway.write("never", by=EVE, chat=GROUP, reply_to=task.message_ids[0])
    await gateway.settled()
    assert unchanged(gateway, task)
    assert gateway.world.messenger.last.text == phrases.NOT_YOURS
    assert gateway.world.messenger.last.first.reply_to == written.message_id
    assert gateway.world.store.steps_of(task.id)[-1] == "answer_refused"


async def test_words_in_one_s_own_chat_do_not_answer_a_question_for_somebody_else(gateway: Gateway) -> None:
    task = await asked(
        gateway, options=(), written=TextInput(), respondents=Respondents(people=frozenset({BEN.id}))
    )
    await gateway.write("mine!")
    await gateway.settled()
    assert unchanged(gateway, task)
    assert gateway.world.messenger.last.text == phrases.NOTHING_OPEN


async def test_words_that_reply_to_a_question_that_is_over_are_told_so(gateway: Gateway) -> None:
    task = await asked(gateway, options=(), written=TextInput())
    await gateway.write("Thursday")
    await gateway.write("no, Friday", reply_to=task.message_ids[0])
    await gateway.settled()
    assert gateway.world.messenger.last.text == "Ada L. has already answered: “Thursday”."
    decision = gateway.row(task).decision
    assert decision is not None
    assert decision.text == "Thursday"


async def test_the_same_words_twice_are_answered_once(gateway: Gateway) -> None:
    written = await gateway.write("hello?")
    await gateway.inbox.take(written)
    await gateway.settled()
    assert len(gateway.said()) == 1


# Commands


async def test_everybody_may_start_and_ask_who_he_is(gateway: Gateway) -> None:
    await gateway.command("start", by=EVE)
    await gateway.command("whoami", by=EVE)
    await gateway.settled()
    hello, who = gateway.said()
    assert hello.startswith("Hello Eve!")
    assert "666" in who


@pytest.mark.parametrize(("person", "sees"), [(ADA, True), (EVE, False)])
async def test_help_shows_each_person_what_he_may_run(gateway: Gateway, person: Person, sees: bool) -> None:
    await gateway.command("help", by=person)
    await gateway.settled()
    assert ("/deploy" in gateway.said()[0]) is sees


async def test_a_command_that_a_person_may_not_run_is_refused(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    await gateway.command("deploy", by=EVE, text="prod")
    await gateway.settled()
    assert gateway.said() == ["Sorry, you may not use /deploy here. Whoever runs this bot can allow it."]
    (refused,) = lines(caplog, "command_refused")
    assert vars(refused)["person"] == EVE.id


async def test_what_is_not_stored_is_not_logged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    gateway.world.store.down = True
    with pytest.raises(StorageUnavailable):
        await gateway.command("deploy", by=EVE)
    gateway.world.store.down = False
    assert lines(caplog, "command_refused") == []
    refused = await gateway.command("deploy", by=EVE)
    await gateway.inbox.take(refused)
    assert len(lines(caplog, "command_refused")) == 1


async def test_a_command_that_nobody_has_heard_of_is_told_so_in_private(gateway: Gateway) -> None:
    await gateway.command("dance")
    await gateway.settled()
    assert gateway.said() == [phrases.UNKNOWN_COMMAND]


@pytest.mark.parametrize(
    ("name", "addressed_to", "answered"),
    [
        ("help", None, True),
        ("deploy", None, True),
        ("dance", None, False),
        ("dance", "telegatebot", True),
        ("help", "telegatebot", True),
        ("help", "someotherbot", False),
    ],
)
async def test_in_a_group_only_commands_for_this_bot_are_answered(
    gateway: Gateway, name: str, addressed_to: str | None, answered: bool
) -> None:
    await gateway.command(name, chat=GROUP, addressed_to=addressed_to)
    await gateway.settled()
    assert bool(gateway.said()) is answered


async def test_a_command_for_a_name_is_to_come_again_as_long_as_we_do_not_know_our_own(
    gateway: Gateway,
) -> None:
    gateway.username = None
    with pytest.raises(TelegramUnavailable) as refused:
        await gateway.command("help", chat=GROUP, addressed_to="telegatebot")
    assert refused.value.retry_after == 3
    await gateway.settled()
    assert gateway.said() == []


@pytest.mark.parametrize("chat", [ADA.id, GROUP])
async def test_a_reply_is_a_task_like_any_other(gateway: Gateway, chat: int) -> None:
    sent = await gateway.command("whoami", chat=chat)
    (reply,) = gateway.world.store.tasks.values()
    assert (reply.service, reply.chat.id) == ("telegate", chat)
    await gateway.settled()
    first = gateway.world.messenger.last.first
    # The person may have deleted meanwhile what is replied to.
    assert (first.reply_to, first.reply_required) == (sent.message_id, False)


async def test_a_tap_tells_that_a_question_was_asked_even_after_its_time(gateway: Gateway) -> None:
    gateway.world.messenger.script(*[UNCLEAR] * 6)
    task = await gateway.ask(expires_in=3600)
    for _ in range(8):
        await gateway.pass_time(60)
    assert gateway.row(task).state is TaskState.UNKNOWN
    gateway.world.clock.advance(3600)
    await gateway.press("Deploy")
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_a_reply_is_not_said_twice_whenever_a_crash_comes(world: World) -> None:
    first = world.start()
    await first.command("start")
    await first.crash()
    (reply,) = world.store.tasks.values()
    second = world.start()
    await second.pass_time(31)
    assert (second.row(reply).state, second.said()) == (TaskState.UNKNOWN, [])


# Everything else


async def test_an_update_that_means_nothing_does_nothing(gateway: Gateway) -> None:
    await gateway.inbox.take(Ignored(9001, "a sticker"))
    assert gateway.world.store.history == []


async def test_an_update_that_cannot_be_read_is_put_aside_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (9001, 9001, None):
        await gateway.inbox.take(Unreadable(number, "no chat", b"{}"))
    assert gateway.world.store.quarantined == {9001: ("no chat", b"{}"), b"{}": ("no chat", b"{}")}
    assert "Update quarantined, because it could not be read: no chat" in caplog.text


async def test_a_database_that_is_down_leaves_the_update_with_telegram(gateway: Gateway) -> None:
    task = await asked(gateway)
    gateway.world.store.down = True
    with pytest.raises(StorageUnavailable):
        await gateway.press("Deploy", update_id=9500)
    gateway.world.store.down = False
    assert gateway.world.messenger.of("acknowledge") == []
    await gateway.press("Deploy", update_id=9500)
    assert gateway.row(task).state is TaskState.ANSWERED


async def test_whoever_brings_an_update_may_hang_up_and_it_still_takes_effect(gateway: Gateway) -> None:
    held = gateway.world.store.hold_back("receive")
    bringing = asyncio.create_task(gateway.command("whoami"))
    await held.arrived.wait()
    bringing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    held.released.set()
    await turns()
    await gateway.settled()
    assert len(gateway.said()) == 1


async def test_two_presses_at_once_make_one_decision(gateway: Gateway) -> None:
    task = await asked(gateway, chat=GROUP, respondents=ANYONE)
    await asyncio.gather(gateway.press("Deploy", by=ADA), gateway.press("Cancel", by=BEN))
    await gateway.settled()
    assert gateway.world.store.steps_of(task.id).count("answered") == 1
    assert len(gateway.row(task).answers) == 1
    assert len(gateway.world.messenger.of("acknowledge")) == 2


async def test_a_press_that_names_a_message_of_another_id_still_counts_by_its_token(gateway: Gateway) -> None:
    task = await asked(gateway)
    shown = gateway.world.messenger.last
    data = shown.first_buttons[0].data or ""
    shown_there = Carrier(BOT, (data,))
    await gateway.inbox.take(ButtonPressed(9500, "press-9500", ADA, ADA.id, 4799, data, lambda: shown_there))
    assert gateway.row(task).message_ids == (shown.message_id, 4799)
    await gateway.settled()
