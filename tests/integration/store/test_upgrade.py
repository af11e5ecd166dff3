"""A database of the version before: what was to happen there is a job here, and nothing else is."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types
import pytest

from core.model.chat import ChatNote
from core.model.cluster import Finding, Leader, Presence
from core.model.effect import Effect
from core.model.errors import StorageUnavailable
from core.model.failure import Failure
from core.model.job import TELEGRAM, TIMERS, Job, Lane, Lease, Priority
from core.model.lookup import ByMessage, ByToken
from core.model.person import Person
from core.model.transition import Step, TaskState
from infra.config.postgres_address import PostgresAddress
from infra.store import Store, migrations, open_postgres, open_sqlite
from infra.store.postgres import schema as postgres_schema
from infra.store.sql.rows import JOB_COLUMNS, decode_job, milliseconds
from infra.store.sqlite import file as sqlite_file
from tests import postgres
from tests.contract.store.samples import (
    BOT,
    LEASE,
    NOW,
    OPS,
    StoppedClock,
    a_key,
    ask,
    claimed,
    later,
    steps,
)

BEFORE = 5
"""The schema of the version before."""

MESSAGE = '{"text":"Build 1234 is green.","markup":"markdown","silent":false,"resend":false}'
QUESTION = (
    '{"message":{"text":"Deploy?"},"respondents":{"people":[],"roles":[],"anyone":true},'
    '"options":[{"id":"deploy","label":"Deploy"},{"id":"no","label":"Do not deploy"}]}'
)
UNAVAILABLE = '{"error":{"code":"telegram_unavailable","detail":"No route.","telegram_code":null}}'
IN_DOUBT = '{"answers":[],"decision":null,"error":{"code":"outcome_unknown","detail":"It may be there."}}'
ANSWERED = (
    '{"answers":[{"at":"2026-11-22T10:00:07Z","by":{"id":815,"name":"Ada L."},"choice":"deploy"}],'
    '"decision":{"at":"2026-11-22T10:00:07Z","by":{"id":815,"name":"Ada L."},"choice":"deploy"},"error":null}'
)

COLUMNS = (
    "bot", "id", "kind", "state", "service", "chat", "content", "metadata", "token", "jti", "of_task",
    "created_at", "updated_at", "expires_at", "not_before", "lease_holder", "lease_until", "attempts",
    "closed", "message_ids", "progress", "steps",
)  # fmt: skip

Row = tuple[int | str | bytes | None, ...]


def ms(seconds: float) -> int:
    """So many seconds after `NOW`, as tables keep it."""
    return milliseconds(later(seconds))


def a_row(task_id: str, state: str, **changes: int | str | bytes | None) -> Row:
    """The row of a task, as the version before has it."""
    usual: Mapping[str, int | str | bytes | None] = {
        "bot": BOT,
        "id": task_id,
        "kind": "message",
        "state": state,
        "service": "ci",
        "chat": str(OPS),
        "content": MESSAGE,
        "metadata": "{}",
        "created_at": ms(0),
        "updated_at": ms(1),
        "expires_at": ms(3600),
        "attempts": 0,
        "closed": 0,
        "message_ids": "",
        "progress": "{}",
        "steps": 1,
    }
    row = {**usual, **changes}
    return tuple(row.get(column) for column in COLUMNS)


def a_question_row(task_id: str, state: str, **changes: int | str | bytes | None) -> Row:
    return a_row(
        task_id,
        state,
        **{"kind": "question", "content": QUESTION, "token": task_id.encode()[-12:], **changes},
    )


LEASED: Mapping[str, int | str] = {"lease_holder": "before-1", "lease_until": ms(10)}

TASKS = (
    a_row("tsk_01_queued", "queued"),
    a_question_row("tsk_02_retried", "queued", not_before=ms(30), attempts=2, progress=UNAVAILABLE),
    a_row("tsk_03_leased", "sending", chat="3", **LEASED),
    a_row(
        "tsk_04_half_sent",
        "sending",
        chat="4",
        message_ids="7 8",
        attempts=1,
        progress=IN_DOUBT,
        steps=4,
        **LEASED,
    ),
    a_question_row(
        "tsk_05_in_doubt",
        "sending",
        chat="5",
        attempts=3,
        not_before=ms(8),
        progress=IN_DOUBT,
        **{**LEASED, "lease_until": ms(8)},
    ),
    a_row("tsk_06_edit", "queued", kind="edit", content='{"text":"Red."}', of_task="tsk_30_sent"),
    a_row("tsk_07_deletion", "queued", kind="deletion", content="{}", of_task="tsk_30_sent"),
    a_question_row("tsk_08_asked", "asked", message_ids="9", steps=2),
    a_question_row("tsk_09_not_shown", "answered", message_ids="10", progress=ANSWERED, steps=3),
    a_question_row("tsk_10_shown", "answered", message_ids="11", progress=ANSWERED, closed=1),
    a_question_row("tsk_11_never_sent", "cancelled"),
    a_question_row("tsk_12_disarmed", "asked", message_ids="12", chat="815"),
    a_question_row("tsk_13_being_armed", "asked", message_ids="13", chat="815", expires_at=ms(7200)),
    a_row("tsk_14_own", "queued", service="telegate", chat="@news"),
    a_row("tsk_15_lost", "sending", chat="15"),
    a_row("tsk_16_unreadable", "queued", chat="16", progress="{", content="[]"),
    a_question_row("tsk_17_unknown", "unknown", progress=IN_DOUBT),
    a_question_row("tsk_18_just_asked", "sending", chat="18", **LEASED),
    a_row("tsk_30_sent", "sent", message_ids="14 15"),
    a_row("tsk_31_failed", "failed", progress=UNAVAILABLE),
    a_row("tsk_01_queued", "queued", bot=BOT + 1),
)
OTHERS: Mapping[str, Sequence[Row]] = {
    "history": [
        (BOT, "tsk_09_not_shown", seq, ms(seq), step, None, None, None, None, None)
        for seq, step in enumerate(("sending", "asked", "answered"), 1)
    ],
    "messages": [(BOT, str(OPS), 9, "tsk_08_asked", 0, 0)],
    "idempotency": [(BOT, "ci", "POST /v1/questions", "order-7", "aaaa", "tsk_08_asked")],
    "updates": [(BOT, 77, ms(0))],
    "quarantine": [(BOT, "78", 78, ms(0), "No such type.", b"{}")],
    "presence": [(BOT, ms(5), ms(4), "before-1", ms(50), "ok", "It is stolen.")],
    "figures": [(BOT, "before-1", 1, ms(0), "{}")],
    "chats": [
        (BOT, "", ms(1), ms(61), None, None, None),
        (BOT, "815", ms(1), ms(91), None, None, None),
        (BOT, str(OPS), ms(1), ms(31), ms(600), '{"code":"recipient_unreachable","detail":"Blocked."}', None),
        (BOT, "-7", None, None, None, None, "-1007"),
    ],
    "disarmed": [
        (BOT, "tsk_12_disarmed", ms(-200), ms(0), 0, 2),
        (BOT, "tsk_13_being_armed", ms(-200), ms(0), ms(20), 1),
    ],
}


def send(subject: str, **changes: object) -> Job:
    usual = {
        "kind": "send",
        "queue": TELEGRAM,
        "run_at": NOW,
        "expires_at": later(3600),
        "lane": Lane(str(OPS)),
        "service": "ci",
    }
    return Job(subject=subject, **{**usual, **changes})  # type: ignore[arg-type]


def expire(subject: str, at: float = 3600) -> Job:
    return Job("expire", TIMERS, subject, run_at=later(at), service="ci")


def reprompt(subject: str, run_at: datetime, attempts: int) -> Job:
    return Job(
        "reprompt",
        TELEGRAM,
        subject,
        run_at=run_at,
        lane=Lane("815"),
        overtakes=True,
        priority=Priority.HIGH,
        key=f"reprompt:{subject}",
        service="ci",
        attempts=attempts,
        payload={"began": "2026-11-22T09:56:40.000+00:00", "ended": "2026-11-22T10:00:00.000+00:00"},
    )


THEIRS = Lease("before-1", later(10))
JOBS = [
    send("tsk_01_queued"),
    send("tsk_02_retried", run_at=later(30), attempts=2, priority=Priority.HIGH),
    send("tsk_03_leased", lane=Lane("3"), lease=THEIRS),
    send("tsk_04_half_sent", lane=Lane("4"), lease=THEIRS, attempts=1, in_doubt=True),
    send(
        "tsk_05_in_doubt", lane=Lane("5"), run_at=later(8), attempts=3, in_doubt=True, priority=Priority.HIGH
    ),
    send("tsk_06_edit", kind="edit"),
    send("tsk_07_deletion", kind="delete"),
    send("tsk_14_own", service="telegate", lane=Lane("@news"), priority=Priority.LOW),
    send("tsk_15_lost", lane=Lane("15"), lease=Lease("", datetime.fromtimestamp(0, NOW.tzinfo))),
    send("tsk_16_unreadable", lane=Lane("16")),
    send("tsk_18_just_asked", lane=Lane("18"), lease=THEIRS, priority=Priority.HIGH),
    expire("tsk_02_retried"),
    expire("tsk_05_in_doubt"),
    expire("tsk_08_asked"),
    expire("tsk_12_disarmed"),
    expire("tsk_13_being_armed", 7200),
    expire("tsk_18_just_asked"),
    Job(
        "finalize",
        TELEGRAM,
        "tsk_09_not_shown",
        run_at=later(1),
        lane=Lane(str(OPS)),
        overtakes=True,
        priority=Priority.URGENT,
        key="finalize:tsk_09_not_shown",
        service="ci",
    ),
    reprompt("tsk_12_disarmed", NOW, 2),
    reprompt("tsk_13_being_armed", later(20), 1),
]
"""What has to happen, in the order in which it was stored."""


def inserts() -> list[tuple[str, Row]]:
    """What the version before has written, and where."""
    rows = [(f"tasks ({', '.join(COLUMNS)})", row) for row in TASKS]
    return rows + [(table, row) for table, others in OTHERS.items() for row in others]


def sqlite_before(path: Path) -> None:
    sqlite_file.migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        for table, row in inserts():
            places = ", ".join("?" for _ in row)
            connection.execute(f"INSERT INTO {table} VALUES ({places})", row)  # noqa: S608 - constants only
        connection.commit()


async def postgres_before(address: PostgresAddress) -> None:
    await postgres_schema.migrate(address)
    connection = await asyncpg.connect(address.url.reveal())
    for table, row in inserts():
        places = ", ".join(f"${number}" for number, _ in enumerate(row, 1))
        await connection.execute(f"INSERT INTO {table} VALUES ({places})", *row)  # noqa: S608 - constants only
    await connection.close()


@pytest.fixture(params=["postgres", "sqlite"])
async def upgraded(
    request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    monkeypatch.setattr(migrations, "NEWEST", BEFORE)
    if request.param == "sqlite":
        sqlite_before(path)
        monkeypatch.undo()
        assert sqlite_file.migrate(path) == (6,)
        async with open_sqlite(path, BOT, lock_wait=0, clock=StoppedClock()) as store:
            yield store
    else:
        address = PostgresAddress.parse(postgres.fresh_database())
        await postgres_before(address)
        monkeypatch.undo()
        assert await postgres_schema.migrate(address) == (6,)
        async with open_postgres(address, BOT, clock=StoppedClock()) as store:
            yield store


async def all_jobs(store: Store, bot: int = BOT) -> list[Job]:
    sql = f"SELECT {JOB_COLUMNS} FROM telegate_jobs WHERE bot = $1 ORDER BY id"  # noqa: S608 - constants only
    rows = await ask(store, sql, bot)
    return [decode_job(row) for row in rows]


async def test_what_was_to_happen_is_a_job_and_nothing_else_is(upgraded: Store) -> None:
    found = await all_jobs(upgraded)
    assert len({job.id for job in found}) == len(found)
    assert [replace(job, id=0) for job in found] == JOBS
    [other] = await all_jobs(upgraded, BOT + 1)
    assert other.subject == "tsk_01_queued"


async def test_the_jobs_go_on_where_the_version_before_stopped(upgraded: Store) -> None:
    mine = Lease("after-1", later(200))
    # Telegram had asked for a minute's rest.
    assert await upgraded.claim(TELEGRAM, later(60), mine, 100, claimed, later(60)) == []
    due = await upgraded.claim(TELEGRAM, later(95), mine, 100, claimed, later(95))
    assert {job.subject: (job.in_doubt, job.attempts) for job, _ in due} == {
        "tsk_01_queued": (False, 0),
        "tsk_03_leased": (True, 1),
        "tsk_04_half_sent": (True, 2),
        "tsk_05_in_doubt": (True, 3),
        "tsk_09_not_shown": (False, 0),
        "tsk_12_disarmed": (False, 2),
        "tsk_13_being_armed": (False, 1),
        "tsk_14_own": (False, 0),
        "tsk_15_lost": (True, 1),
        "tsk_18_just_asked": (True, 1),
    }
    [first] = [job for job, _ in due if job.subject == "tsk_01_queued"]
    for following in ("tsk_02_retried", "tsk_06_edit", "tsk_07_deletion"):
        await upgraded.complete(first, None, lambda _: Effect(), lease=None)
        taken = await upgraded.claim_next(TELEGRAM, str(OPS), later(95), mine, claimed)
        assert taken is not None
        first, _ = taken
        assert first.subject == following


async def test_holds_are_lanes_and_notes_stay_notes(upgraded: Store) -> None:
    assert await upgraded.holds(TELEGRAM, NOW) == {"": later(61), "815": later(91), str(OPS): later(31)}
    blocked = Failure("recipient_unreachable", "Blocked.")
    notes = {note.chat: note for note in await upgraded.chat_notes(None)}
    assert notes == {OPS: ChatNote(OPS, later(600), blocked), -7: ChatNote(-7, migrated_to=-1007)}


async def test_everything_else_is_as_it_was(upgraded: Store) -> None:
    store = upgraded
    asked = await store.find("tsk_08_asked", "ci")
    assert asked is not None
    assert (asked.state, asked.message_ids, asked.steps) == (TaskState.ASKED, (9,), 2)
    assert await store.made_by(a_key()) == asked
    assert await store.receive(77, ByToken(asked.token), lambda _: Effect(), lease=LEASE) is None
    found = await store.receive(79, ByMessage(OPS, 9), lambda _: Effect(), lease=LEASE)
    assert found is not None
    assert found.task == asked
    answered = await store.find("tsk_09_not_shown")
    assert answered is not None
    assert answered.decision is not None
    assert (answered.decision.choice, answered.decision.by) == ("deploy", Person(815, "Ada L."))
    assert await steps(store, answered.id) == [Step.SENDING, Step.ASKED, Step.ANSWERED]
    presence = Presence(later(5), later(4), Leader("before-1", later(50)), Finding("ok", "It is stolen."))
    assert await store.beat(lambda before: (before or Presence(NOW), None)) == (presence, None)
    assert [kept.process for kept in await store.load_metrics()] == ["before-1"]
    assert (await store.open_tasks()).by_state == {"queued": 6, "sending": 5, "asked": 3}
    assert await ask(store, "SELECT name FROM telegate_quarantine") == [("78",)]
    assert len(store.button_keys()) == 1


async def test_the_tables_of_the_version_before_are_gone_under_their_old_names(upgraded: Store) -> None:
    for table in ("tasks", *OTHERS):
        with pytest.raises((sqlite3.OperationalError, StorageUnavailable)):
            await ask(upgraded, f"SELECT 1 FROM {table}")  # noqa: S608 - constants only
