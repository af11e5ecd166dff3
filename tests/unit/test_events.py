"""How an event is written, and what its id says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.message import Message
from core.model.task import Task, TaskKind
from core.model.transition import TaskState
from handlers.documents import task_document
from handlers.events import TaskEvent
from tests.fakes.clock import HandClock

NOW = HandClock().now()


def a_task(**changes: object) -> Task:
    task = Task(
        id="tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H",
        bot=42,
        kind=TaskKind.MESSAGE,
        state=TaskState.SENDING,
        service="ci",
        chat=Chat(815),
        content=Message("Hello"),
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW,
        steps=7,
    )
    return replace(task, **changes)  # type: ignore[arg-type]


def test_an_event_is_three_lines_and_an_empty_one() -> None:
    event = TaskEvent.of(a_task())
    kind, event_id, data, *rest = bytes(event).decode().split("\n")
    assert (kind, event_id, rest) == ("event: task", f"id: {event.id}", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == task_document(a_task())
    assert event.id.startswith("7-")


@given(some.text())
def test_whatever_a_person_has_written_an_event_keeps_its_lines(words: str) -> None:
    answer = Answer(choice=None, label=None, text=words, value=words, by=None, at=NOW)
    task = a_task(answers=(answer,), metadata={"note": words})
    written = bytes(TaskEvent.of(task))
    # The three ends of a line that the standard knows; a null would spoil an id.
    assert written.count(b"\n") == 4
    assert b"\r" not in written
    assert b"\x00" not in written
    assert json.loads(written.split(b"\n")[2].removeprefix(b"data: ")) == task_document(task)


def test_the_id_says_whether_a_client_knows_all_that_is_told() -> None:
    known = TaskEvent.of(a_task()).id
    unseen = a_task(token=b"a token", steps=9)
    assert TaskEvent.of(unseen).says_as_much_as(known), "A step that nobody sees is no news."
    assert TaskEvent.of(unseen).id != known
    assert not TaskEvent.of(a_task(state=TaskState.SENT, steps=8)).says_as_much_as(known)


@pytest.mark.parametrize("other", ["", "7", "7-", "-", "7-0000000000000000", "8-x", "7-7-7", "\udcff"])
def test_what_is_no_id_of_an_event_knows_nothing(other: str) -> None:
    assert not TaskEvent.of(a_task()).says_as_much_as(other)
