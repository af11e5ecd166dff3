"""How a task looks in the chat: its text in parts, its buttons, and its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace

from core.model.errors import FieldProblem
from core.model.identity import ButtonKey
from core.model.message import Edit, LinkButton, Message
from core.model.part import Button, FormattedText, Keyboard, Part
from core.model.question import Option, Question
from core.model.task import Task
from core.ports import Formatter
from core.presentation import phrases
from core.presentation.buttons import ButtonData

OUTCOME_ROOM = 400
"""Characters kept free in a question's last part: how to answer, and later its outcome, fit under it."""

MARKUP_LIMIT = 9_500
"""Bytes of buttons that a message can carry; Telegram refuses about 10,000 (measured on its server)."""

MOST_BUTTONS = 100
"""Buttons that a message can carry; Telegram refuses more."""

_BYTES_PER_LINK = 24
_ROW_WIDTH = 32
_ROW_LENGTH = 4


def parts_of(task: Task, formatter: Formatter, key: ButtonKey) -> tuple[Part, ...]:
    """The Telegram messages that this message or question needs, in order."""
    if isinstance(task.content, Question):
        return _question_parts(task, task.content, formatter, key)
    if isinstance(task.content, Message):
        return _message_parts(task.content, formatter, link_rows(task.content.buttons))
    raise TypeError(f"Task {task.id} is a {task.kind}; it has no messages of its own.")


def fingerprint(*parts: Part) -> bytes:
    """The SHA-256 of what people see, for the history; docs/explanation/store.md says how to make it again.

    What only the gateway or Telegram's app reads (a button's data, silence, protection) is no part of it.
    """
    return hashlib.sha256("\n".join(_canonical(part) for part in parts).encode()).digest()


def _canonical(part: Part) -> str:
    """JSON without spaces, in ASCII. By hand: `json.dumps` of a list takes three times as long."""
    entities = ",".join(
        f"[{_json(each.type)},{each.offset},{each.length},{_json(each.url)},{_json(each.language)}]"
        for each in part.body.entities
    )
    rows = ",".join(f"[{','.join(map(_canonical_button, row))}]" for row in part.keyboard)
    return f"[{_json(part.body.text)},[{entities}],[{rows}]]"


def _canonical_button(button: Button) -> str:
    return f"[{_json(button.text)},{_json(button.url)},{_json(button.style)}]"


def _json(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


_quoted = json.JSONEncoder().encode


def edited_parts(edit: Edit, formatter: Formatter) -> tuple[Part, ...]:
    """What the messages say after an edit, in order."""
    bodies = formatter.format(edit.text, edit.format)
    return tuple(_with_last(bodies, Message(edit.text, edit.format), link_rows(edit.buttons)))


def misfit_text(needed: int, there: int) -> str:
    """Why an edit cannot be done: a text has as many Telegram messages as it needs, for ever."""
    return (
        f"This text needs {needed} Telegram messages and the message has {there}; make it fit, "
        "or delete the message and send a new one."
    )


def standing_text(task: Task, needed: int) -> str:
    """How much of a task that failed stands in the chat, and what takes it away.

    Args:
        task: with at least one message in the chat.
        needed: how many messages it has in all.
    """
    there = len(task.message_ids)
    which = "first of its" if there == 1 else f"first {there} of its"
    stands, it = ("stands", "it") if there == 1 else ("stand", "them")
    away = "" if task.is_question else f"; DELETE /v1/messages/{task.id} takes {it} away"
    return f"The {which} {needed} parts {stands} in the chat{away}."


def closing_part(task: Task, formatter: Formatter) -> Part:
    """What the last part of a question says when it is over: the question, the outcome, no buttons."""
    message = task.question.message
    body = formatter.format(message.text, message.format, reserve=OUTCOME_ROOM)[-1]
    return Part(body=_with_line(body, phrases.outcome(task)), preview=message.preview)


def rearmed_part(task: Task, formatter: Formatter, key: ButtonKey) -> Part:
    """What the last part of an open question says after an outage: the same, and a line that asks again."""
    last = parts_of(task, formatter, key)[-1]
    return replace(last, body=_with_line(last.body, phrases.please_again(task.question)))


def last_messages(task: Task, formatter: Formatter, key: ButtonKey) -> tuple[int, ...]:
    """The ids of the messages that carry a question's last part and its buttons: the part and its copies."""
    return task.message_ids[len(parts_of(task, formatter, key)) - 1 :]


def link_rows(rows: tuple[tuple[LinkButton, ...], ...]) -> Keyboard:
    """Link buttons as Telegram's."""
    return tuple(tuple(Button(button.text, url=button.url) for button in row) for row in rows)


def link_problems(rows: tuple[tuple[LinkButton, ...], ...]) -> Iterator[FieldProblem]:
    """What keeps these link buttons from standing under one message."""
    buttons = [button for row in rows for button in row]
    size = sum(json_size(each.text) + json_size(each.url) + _BYTES_PER_LINK for each in buttons)
    if len(buttons) > MOST_BUTTONS or size > MARKUP_LIMIT:
        yield FieldProblem(
            "/buttons",
            "These buttons are too much for one message; use fewer, or shorter texts and addresses.",
        )


def json_size(text: str) -> int:
    """Bytes that a text takes among a message's buttons, as JSON in UTF-8 without its quotation marks."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def option_rows(options: tuple[Option, ...]) -> Iterator[tuple[int, ...]]:
    """Lay options out: short labels side by side, long ones below each other; yields rows of indexes."""
    row: list[int] = []
    width = 0
    for index, option in enumerate(options):
        if row and (width + len(option.label) > _ROW_WIDTH or len(row) == _ROW_LENGTH):
            yield tuple(row)
            row, width = [], 0
        row.append(index)
        width += len(option.label)
    if row:
        yield tuple(row)


def _question_parts(task: Task, question: Question, formatter: Formatter, key: ButtonKey) -> tuple[Part, ...]:
    keyboard = tuple(
        tuple(_option_button(task, question.options[index], index, key) for index in row)
        for row in option_rows(question.options)
    )
    parts = _message_parts(question.message, formatter, keyboard, reserve=OUTCOME_ROOM)
    if question.input is None:
        return parts
    hint = phrases.how_to_answer(question.input, has_options=bool(question.options))
    return (*parts[:-1], replace(parts[-1], body=_with_line(parts[-1].body, hint)))


def _with_line(body: FormattedText, line: str) -> FormattedText:
    """A text with one more line under it. Behind everything else, it moves no entity."""
    return FormattedText(f"{body.text}\n\n{line}", body.entities)


def _option_button(task: Task, option: Option, index: int, key: ButtonKey) -> Button:
    data = ButtonData.sign(key, task.token, index, task.chat.id).pack()
    return Button(option.label, data=data, style=option.style)


def _message_parts(
    message: Message, formatter: Formatter, keyboard: Keyboard, reserve: int = 0
) -> tuple[Part, ...]:
    bodies = formatter.format(message.text, message.format, reserve=reserve)
    return tuple(_with_last(bodies, message, keyboard))


def _with_last(bodies: tuple[FormattedText, ...], message: Message, keyboard: Keyboard) -> Iterator[Part]:
    last = len(bodies) - 1
    for index, body in enumerate(bodies):
        yield Part(
            body=body,
            reply_to=message.reply_to if index == 0 else None,
            reply_required=message.reply_required,
            keyboard=keyboard if index == last else (),
            silent=message.silent,
            protect=message.protect,
            preview=message.preview,
        )
