"""What people write, and what they are called, is text to Telegram: no formatting ever comes of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.errors import Invalid
from core.model.message import Format, Message
from core.model.part import Part
from core.model.person import Person
from core.model.question import Question, Respondents, TextInput
from core.model.task import Task
from core.model.transition import TaskState
from core.policy.policy import CommandRule
from core.presentation import phrases
from core.presentation.render import closing_part, parts_of, rearmed_part
from infra.telegram.formatting.formatter import TelegramFormatter
from infra.telegram.payloads import Parameters, edit_parameters, message_parameters
from tests.fakes.clock import START
from tests.fakes.world import ADA, KEYS, YES_NO, World

FORMATTER = TelegramFormatter()
FACTORY = World().start().factory
FORMATTED = {
    Format.PLAIN: "Deploy <b>1234</b> to *production*?",
    Format.HTML: "Deploy <b>1234</b> to <a href='https://ci.example/1'>production</a> 🎉?",
    Format.MARKDOWN: "Deploy **1234** to [production](https://ci.example/1) 🎉?",
}
NASTY = (
    "<b>",
    "</b>",
    "<a href='https://evil.example'>here</a>",
    "<tg-spoiler>",
    "&lt;",
    "&#60;",
    "**",
    "__",
    "`",
    "```\n",
    "~~",
    "||",
    "\n> ",
    "\n# ",
    "[here](https://evil.example)",
    "![x](tg://emoji?id=5368324170671202286)",
    "tg://user?id=815",
    "\\",
    "“",
    "”",
    "\u202e",
    "\u2028",
    "\u200d",
    "\n",
    "\r",
    "\x1b[31m",
    "🎉",
)
WORDS = st.lists(
    st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    min_size=1,
    max_size=12,
).map("".join)


def asked(markup: Format, written: TextInput | None = None) -> Task:
    content = Question(
        Message(FORMATTED[markup], markup), Respondents(people=frozenset({ADA.id})), YES_NO, written
    )
    return FACTORY.task(content, service="ci", chat=Chat(ADA.id), expires_in=60)


def decided(task: Task, answer: Answer) -> Task:
    return replace(task, state=TaskState.ANSWERED, decision=answer)


def sent(part: Part) -> list[Parameters]:
    """The calls that this part can become, as JSON tells them."""
    calls = (message_parameters(ADA.id, None, part), edit_parameters(ADA.id, 4711, part))
    return [json.loads(json.dumps(call)) for call in calls]


@pytest.mark.parametrize("markup", Format)
@given(name=WORDS, text=WORDS)
def test_who_answers_adds_no_formatting_to_the_outcome(markup: Format, name: str, text: str) -> None:
    task = asked(markup, TextInput())
    itself = closing_part(decided(task, Answer(START, ADA, text="yes", value="yes")), FORMATTER)
    by = Person(ADA.id, name)
    for answer in (Answer(START, by, "yes", "Yes"), Answer(START, by, text=text, value=text)):
        part = closing_part(decided(task, answer), FORMATTER)
        assert part.body.entities == itself.body.entities
        assert bool(part.body.entities) == (markup is not Format.PLAIN)
        assert part.body.text.startswith(itself.body.text.partition("\n\n")[0] + "\n\n" + name)
        for call in sent(part):
            assert "parse_mode" not in call
            assert call["link_preview_options"] == {"is_disabled": True}
            assert len(call.get("entities", ())) == len(itself.body.entities)


@given(name=WORDS)
def test_a_name_in_a_reply_is_a_name(name: str) -> None:
    rules = (CommandRule("deploy", "ci", "Deploys", "<environment>"),)
    for words in (phrases.welcome(name), phrases.help_text(rules), phrases.who_you_are(ADA.id, -1)):
        for part in parts_of(FACTORY.reply(ADA.id, None, 1, START)(words), FORMATTER, KEYS[-1]):
            assert part.body.entities == ()
            assert all("parse_mode" not in call and "entities" not in call for call in sent(part))


@given(text=WORDS)
def test_a_plain_text_of_a_service_is_what_it_says(text: str) -> None:
    try:
        parts = FORMATTER.format(text, Format.PLAIN)
    except Invalid:
        assert not FORMATTER.format(text + "x", Format.PLAIN)[0].entities
        return
    assert all(part.entities == () for part in parts)
    assert "".join(part.text for part in parts) in text


@given(placeholder=WORDS)
def test_a_placeholder_is_a_placeholder_also_when_a_question_asks_again(placeholder: str) -> None:
    for markup in Format:
        written = asked(markup, TextInput(placeholder))
        plain = parts_of(asked(markup), FORMATTER, KEYS[-1])[-1].body.entities
        assert parts_of(written, FORMATTER, KEYS[-1])[-1].body.entities == plain
        assert rearmed_part(written, FORMATTER, KEYS[-1]).body.entities == plain
