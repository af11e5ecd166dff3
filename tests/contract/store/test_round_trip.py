"""Whatever the core can say about a task, its row says too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from core.model.answer import Answer
from core.model.chat import Chat
from core.model.effect import Effect
from core.model.failure import Failure
from core.model.job import Job, Lane, Priority
from core.model.message import Deletion, Edit, Format, LinkButton, Message
from core.model.person import Person
from core.model.question import Option, Question, Respondents, Style, TextInput
from core.model.task import Change, Content, Task, TaskKind
from core.model.transition import TRANSITIONS, Step, TaskState
from infra.store import Store
from infra.store.sql.rows import COLUMNS, JOB_COLUMNS, decode, decode_job
from tests.contract.store.samples import BOT, a_message, a_question, add, ask, change, do, later

# Lone surrogates are refused at the door; they are no text.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.integers(-(2**52), 2**52)
times = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
labels = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=10)
chats = st.builds(Chat, ids | labels.map("@{}".format), st.none() | labels, st.none() | ids)
rows = st.lists(st.lists(st.builds(LinkButton, texts, texts), max_size=2).map(tuple), max_size=2).map(tuple)
messages = st.builds(
    Message,
    texts,
    st.sampled_from(Format),
    st.none() | ids,
    rows,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
questions = st.builds(
    Question,
    messages,
    st.builds(Respondents, st.frozensets(ids, max_size=3), st.frozensets(texts, max_size=3), st.booleans()),
    st.lists(st.builds(Option, texts, texts, st.none() | st.sampled_from(Style)), max_size=3).map(tuple),
    st.none() | st.builds(TextInput, st.none() | texts),
    st.none() | texts,
)
edits = st.builds(Edit, texts, st.sampled_from(Format), rows)
contents: st.SearchStrategy[tuple[TaskKind, Content]] = st.one_of(
    st.tuples(st.just(TaskKind.MESSAGE), messages),
    st.tuples(st.just(TaskKind.QUESTION), questions),
    st.tuples(st.just(TaskKind.EDIT), edits),
    st.tuples(st.just(TaskKind.DELETION), st.just(Deletion())),
)
maybe_text = st.none() | texts
people = st.builds(Person, ids, texts, maybe_text)
answers = st.builds(Answer, times, st.none() | people, *[maybe_text] * 5)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    kind, content = draw(contents)
    return Task(
        id=f"tsk_{ULID()}",
        bot=BOT,
        kind=kind,
        state=draw(st.sampled_from(TaskState)),
        service=draw(labels),
        chat=draw(chats),
        content=content,
        created_at=draw(times),
        updated_at=draw(times),
        expires_at=draw(times),
        token=draw(st.just(b"") | st.binary(min_size=12, max_size=12)),
        jti=draw(st.none() | labels),
        of=draw(st.none() | labels),
        message_ids=tuple(draw(st.lists(st.integers(1, 2**31), unique=True, max_size=3))),
        answers=tuple(draw(st.lists(answers, max_size=2))),
        decision=draw(st.none() | answers),
        error=draw(st.none() | st.builds(Failure, texts, texts, st.none() | ids, maybe_text)),
        metadata=draw(st.dictionaries(texts, texts, max_size=3)),
        not_before=draw(st.none() | times),
    )


jobs = st.builds(
    Job,
    kind=labels,
    queue=labels,
    subject=labels,
    run_at=times,
    expires_at=st.none() | times,
    lane=st.none() | st.builds(Lane, labels, st.integers(1, 100)),
    overtakes=st.booleans(),
    priority=st.sampled_from(Priority),
    key=st.none() | labels,
    service=labels,
    attempts=st.integers(0, 1_000),
    in_doubt=st.booleans(),
    payload=st.dictionaries(texts, texts, max_size=3),
)


sharing_a_store = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@sharing_a_store
@given(task=tasks())
async def test_every_task_comes_back_as_it_was(store: Store, task: Task) -> None:
    task = replace(task, token=task.token and str(ULID()).encode()[-12:])
    stored = await add(store, task)
    assert stored == task
    assert await store.find(task.id) == task


@sharing_a_store
@given(before=tasks(), after=tasks(), data=st.data())
async def test_every_step_comes_back_as_it_was(
    store: Store, before: Task, after: Task, data: st.DataObject
) -> None:
    before = replace(before, token=b"")
    after = replace(
        after,
        id=before.id,
        kind=before.kind,
        state=data.draw(st.sampled_from(sorted({before.state, *TRANSITIONS[before.state]}))),
        content=before.content,
        service=before.service,
        chat=replace(before.chat, id=after.chat.id),
        created_at=before.created_at,
        token=b"",
        jti=before.jti,
        of=before.of,
        decision=before.decision or after.decision,
        metadata=before.metadata,
        message_ids=before.message_ids + after.message_ids,
    )
    await add(store, before)
    assert await change(store, before.id, lambda _: Change(after, Step.DELIVERED)) == after
    assert await store.find(before.id) == after


@sharing_a_store
@given(job=jobs)
async def test_every_job_comes_back_as_it_was(store: Store, job: Job) -> None:
    await do(store, "DELETE FROM telegate_jobs")
    committed = await store.change("nothing", lambda _: Effect(jobs=(job,)), lease=None)
    [stored] = committed.jobs
    assert stored == replace(job, id=stored.id)
    [row] = await ask(store, f"SELECT {JOB_COLUMNS} FROM telegate_jobs")  # noqa: S608 -- a constant
    assert decode_job(row) == stored


async def test_fields_of_a_newer_version_are_left_out_and_missing_ones_get_their_default(
    store: Store,
) -> None:
    task = await add(store, a_question())
    sparse = '{"message": {"text": "Deploy?", "mood": "grim"}, "respondents": {"anyone": true}, "quorum": 2}'
    await do(
        store, "UPDATE telegate_tasks SET content = $1, progress = $2", sparse, '{"votes": 3, "answers": []}'
    )
    found = await store.find(task.id)
    assert found == replace(task, content=Question(Message("Deploy?"), Respondents(anyone=True)))


async def test_the_order_of_columns_is_the_order_of_reading(store: Store) -> None:
    task = await add(store, a_message(TaskState.SENDING, not_before=later(5), message_ids=(1, 2)))
    [row] = await ask(store, f"SELECT {COLUMNS} FROM telegate_tasks")  # noqa: S608 -- a constant
    found = decode(BOT, row)
    assert (found, found.steps) == (task, 1)


async def test_a_row_without_sense_is_a_mistake_and_not_skipped(store: Store) -> None:
    task = await add(store, a_question())
    await do(store, "UPDATE telegate_tasks SET content = '{}'")
    with pytest.raises(ValueError, match="message"):
        await store.find(task.id)
