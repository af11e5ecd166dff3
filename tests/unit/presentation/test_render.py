"""How a task looks in the chat: parts, rows of buttons, and the outcome under a question."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.identity import GatewayIdentity
from core.model.message import Deletion, Edit, LinkButton, Message
from core.model.part import Button, Entity, FormattedText, Part
from core.model.question import Option, Question, Respondents, Style, TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.presentation.buttons import ButtonData
from core.presentation.render import (
    OUTCOME_ROOM,
    closing_part,
    edited_parts,
    fingerprint,
    last_messages,
    link_rows,
    option_rows,
    parts_of,
    rearmed_part,
)
from core.services.factory import TaskFactory
from tests.fakes.clock import START, HandClock
from tests.fakes.formatter import TELEGRAM_LIMIT, PlainFormatter
from tests.fakes.world import ADA, BOT, KEYS, YES_NO

KEY = KEYS[-1]
FACTORY = TaskFactory(GatewayIdentity(BOT, "process-1", KEYS), HandClock(), lambda: "0" * 26)
FORMATTER = PlainFormatter()
LINKS = ((LinkButton("Log", "https://ci.example/1"), LinkButton("Diff", "https://ci.example/2")),)


def draft(content: Message | Question | Edit | Deletion) -> Task:
    return FACTORY.task(content, service="ci", chat=Chat(ADA.id), expires_in=60)


def asked(
    text: str = "Deploy?", options: tuple[Option, ...] = YES_NO, written: TextInput | None = None
) -> Task:
    return draft(Question(Message(text), Respondents(people=frozenset({ADA.id})), options, written))


def answered(task: Task, answer: Answer) -> Task:
    return replace(task, state=TaskState.ANSWERED, decision=answer)


def test_a_short_message_is_one_part_with_everything() -> None:
    message = Message("Hello", reply_to=4700, buttons=LINKS, silent=True, protect=True, preview=True)
    (part,) = parts_of(draft(message), FORMATTER, KEY)
    assert part.body == FormattedText("Hello")
    assert (part.reply_to, part.silent, part.protect, part.preview) == (4700, True, True, True)
    assert [[button.url for button in row] for row in part.keyboard] == [
        ["https://ci.example/1", "https://ci.example/2"]
    ]


def test_a_long_message_replies_with_its_first_part_and_has_buttons_under_its_last() -> None:
    message = Message("x" * (2 * TELEGRAM_LIMIT + 1), reply_to=4700, buttons=LINKS, silent=True)
    parts = parts_of(draft(message), FORMATTER, KEY)
    assert [len(part.body.text) for part in parts] == [TELEGRAM_LIMIT, TELEGRAM_LIMIT, 1]
    assert [part.reply_to for part in parts] == [4700, None, None]
    assert [len(part.keyboard) for part in parts] == [0, 0, 1]
    assert all(part.silent for part in parts)


def test_a_question_s_buttons_are_genuine_for_its_chat_and_have_their_styles() -> None:
    options = (Option("go", "Go", Style.SUCCESS), Option("stop", "Stop", Style.DANGER))
    task = asked(options=options)
    (part,) = parts_of(task, FORMATTER, KEY)
    ((go, stop),) = part.keyboard
    assert [(go.text, go.style), (stop.text, stop.style)] == [("Go", Style.SUCCESS), ("Stop", Style.DANGER)]
    data = ButtonData.unpack(stop.data or "")
    assert data is not None
    assert (data.token, data.option) == (task.token, 1)
    assert data.genuine(KEYS, ADA.id)


def test_a_question_keeps_room_for_its_outcome() -> None:
    long = asked("x" * (TELEGRAM_LIMIT - OUTCOME_ROOM + 1))
    assert len(parts_of(long, FORMATTER, KEY)) == 2
    assert len(parts_of(asked("x" * (TELEGRAM_LIMIT - OUTCOME_ROOM)), FORMATTER, KEY)) == 1


@pytest.mark.parametrize(
    ("placeholder", "line"),
    [("A date", "Reply to this message: A date"), (None, "Reply to this message with your answer.")],
)
def test_a_question_that_takes_words_says_how_to_answer(placeholder: str | None, line: str) -> None:
    (part,) = parts_of(asked(options=(), written=TextInput(placeholder)), FORMATTER, KEY)
    assert part.body.text.endswith(f"\n\n{line}")
    assert part.keyboard == ()


def test_a_question_with_buttons_and_words_names_both_ways() -> None:
    (part,) = parts_of(asked(written=TextInput("A date")), FORMATTER, KEY)
    assert part.body.text.endswith("\n\nTap a button, or reply to this message: A date")
    assert part.keyboard


def test_only_the_last_part_of_a_long_question_says_how_to_answer() -> None:
    parts = parts_of(asked("x" * 5000, options=(), written=TextInput()), FORMATTER, KEY)
    assert [part.body.text.endswith("with your answer.") for part in parts] == [False, True]


@pytest.mark.parametrize("content", [Edit("New"), Deletion()])
def test_an_edit_and_a_deletion_have_no_messages_of_their_own(content: Edit | Deletion) -> None:
    with pytest.raises(TypeError, match="has no messages of its own"):
        parts_of(draft(content), FORMATTER, KEY)


def test_an_edit_gives_new_parts_and_new_buttons() -> None:
    (part,) = edited_parts(Edit("New", buttons=LINKS), FORMATTER)
    assert (part.body.text, part.keyboard) == ("New", link_rows(LINKS))


def test_the_closing_part_tells_question_and_outcome_and_has_no_buttons() -> None:
    part = closing_part(answered(asked(), Answer(START, ADA, "deploy", "Deploy")), FORMATTER)
    assert part.body.text == "Deploy?\n\nAda L. chose “Deploy” on 22 November 2026 at 10:00 UTC."
    assert part.keyboard == ()


def test_the_closing_part_of_a_long_question_tells_its_last_part() -> None:
    task = asked("a" * TELEGRAM_LIMIT + "b" * 10)
    part = closing_part(answered(task, Answer(START, ADA, "deploy", "Deploy")), FORMATTER)
    assert part.body.text.startswith("b" * 10 + "\n\n")


@given(
    st.integers(1, 3 * TELEGRAM_LIMIT),
    st.text(max_size=129),
    st.text(min_size=1, max_size=64),
    st.text(max_size=4096),
)
def test_the_closing_part_always_fits_one_message(length: int, name: str, label: str, text: str) -> None:
    task = asked("x" * length)
    by = replace(ADA, name=name)
    for answer in (
        Answer(START, by, "deploy", label),
        Answer(START, by, text=text, value=text),
        Answer(START, None, "deploy", label),
    ):
        assert len(closing_part(answered(task, answer), FORMATTER).body.text) <= TELEGRAM_LIMIT


labels = st.lists(st.text("abcdefghij ", min_size=1, max_size=64), max_size=50)


@given(labels)
def test_rows_name_every_option_once_in_order_and_none_is_empty(texts: list[str]) -> None:
    options = tuple(Option(str(number), text) for number, text in enumerate(texts))
    rows = list(option_rows(options))
    assert [index for row in rows for index in row] == list(range(len(options)))
    assert all(1 <= len(row) <= 4 for row in rows)
    for row in rows:
        assert len(row) == 1 or sum(len(options[index].label) for index in row) <= 32


def test_short_labels_stand_side_by_side_and_long_ones_below_each_other() -> None:
    def rows(*texts: str) -> list[tuple[int, ...]]:
        return list(option_rows(tuple(Option(text, text) for text in texts)))

    assert rows("Yes", "No") == [(0, 1)]
    assert rows("1", "2", "3", "4", "5") == [(0, 1, 2, 3), (4,)]
    assert rows("Deploy to production now", "Only to staging") == [(0,), (1,)]
    assert rows() == []


@given(
    st.integers(1, 3 * TELEGRAM_LIMIT),
    st.sampled_from([None, TextInput(), TextInput("x" * 64)]),
)
def test_a_rearmed_question_is_its_last_part_with_one_more_line_that_fits(
    length: int, written: TextInput | None
) -> None:
    task = asked("x" * length, written=written)
    parts = parts_of(task, FORMATTER, KEY)
    rearmed = rearmed_part(task, FORMATTER, KEY)
    assert rearmed.keyboard == parts[-1].keyboard
    assert rearmed.body.entities == parts[-1].body.entities
    assert rearmed.body.text.startswith(parts[-1].body.text + "\n\nSorry, I was away for a while.")
    assert len(rearmed.body.text) <= TELEGRAM_LIMIT
    several = replace(task, message_ids=tuple(range(len(parts) + 2)))
    assert last_messages(several, FORMATTER, KEY) == several.message_ids[-3:]


WORDS = st.text(st.characters(exclude_categories=[]), min_size=1)


@given(
    st.builds(
        Part,
        st.builds(
            FormattedText,
            WORDS,
            st.tuples(st.builds(Entity, WORDS, st.integers(0), st.integers(1), st.none() | WORDS)),
        ),
        keyboard=st.tuples(
            st.tuples(st.builds(Button, WORDS, st.none() | WORDS, style=st.none() | st.sampled_from(Style)))
        ),
    )
)
def test_the_fingerprint_can_be_made_again_as_the_documentation_says(part: Part) -> None:
    entities = [[each.type, each.offset, each.length, each.url, each.language] for each in part.body.entities]
    buttons = [[[button.text, button.url, button.style] for button in row] for row in part.keyboard]
    seen = json.dumps([part.body.text, entities, buttons], separators=(",", ":"))
    assert fingerprint(part) == hashlib.sha256(seen.encode()).digest()


def test_what_nobody_sees_is_no_part_of_the_fingerprint_and_all_else_is() -> None:
    part = Part(FormattedText("Deploy?"), keyboard=((Button("Yes", data="a"),),))
    unseen = (
        replace(part, silent=True),
        replace(part, protect=True),
        replace(part, keyboard=((Button("Yes", data="b"),),)),
    )
    assert {fingerprint(other) for other in unseen} == {fingerprint(part)}
    seen = (
        part,
        replace(part, body=FormattedText("Deploy!")),
        replace(part, body=FormattedText("Deploy?", (Entity("bold", 0, 6),))),
        replace(part, keyboard=((Button("No", data="a"),),)),
        replace(part, keyboard=((Button("Yes", data="a", style=Style.DANGER),),)),
        replace(part, keyboard=((Button("Yes", url="https://a.example"),),)),
    )
    assert len({fingerprint(other) for other in seen}) == len(seen)
