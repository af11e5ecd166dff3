"""Queries that run often find what they need by an index, however many rows there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg  # type: ignore[import-untyped]  # asyncpg brings no types
import pytest

from infra.config.postgres_address import PostgresAddress
from infra.store import Store
from infra.store.postgres.schema import migrate
from infra.store.sql import chats, effects, heartbeat, inbox, jobs, metrics, tasks
from infra.store.sql.rows import milliseconds
from infra.store.sql.transactions import Sql
from tests import postgres
from tests.contract.store.samples import BOT, NOW, ask

JOB = "USING INTEGER PRIMARY KEY (rowid=?)"

PLANS: dict[str, tuple[str | Sql, str]] = {
    "a task": (effects.FIND, "sqlite_autoindex_telegate_tasks_1 (bot=? AND id=?)"),
    "a service's own task": (tasks._FIND_OWN, "tasks_by_service (bot=? AND (service,id)<(?,?))"),
    "an idempotency key": (tasks._FIND_KEY, "PRIMARY KEY (bot=? AND service=? AND route=? AND key=?)"),
    "a page": (tasks._PAGE + " ORDER BY id DESC LIMIT 5", "tasks_by_service (bot=? AND service=?)"),
    "how far tasks have come": (tasks._PROGRESS, "sqlite_autoindex_telegate_tasks_1 (bot=? AND id=?)"),
    "a token": (inbox._BY_TOKEN, "tasks_by_token (bot=? AND token=?)"),
    "a message": (inbox._BY_MESSAGE, "PRIMARY KEY (bot=? AND chat=? AND message_id=?)"),
    "open questions": (inbox._OPEN_QUESTIONS, "tasks_open (bot=? AND chat=?)"),
    "a chat's note": (chats._NOTES + " AND chat IN ($2, $3)", "PRIMARY KEY (bot=? AND chat=?)"),
    "old tasks": (tasks._PURGE_TASKS, "tasks_finished (bot=? AND updated_at<?)"),
    "old updates": (tasks._PURGE_UPDATES, "PRIMARY KEY (bot=?)"),
    "old quarantine": (tasks._PURGE_QUARANTINE, "quarantine_by_age (bot=? AND at<?)"),
    "tasks that are not final": (metrics._OPEN, "telegate_tasks_unfinished (bot=? AND state=?)"),
    "the row of heartbeats": (heartbeat._ROW, "sqlite_autoindex_telegate_heartbeat_1 (bot=?)"),
    "questions after an outage": (heartbeat._REPROMPT, "tasks_open (bot=?)"),
    "whether a lane is held": (effects._NOT_HELD, "PRIMARY KEY (bot=? AND queue=? AND lane=?)"),
    "the first of a lane": (
        effects._NOT_HELD + effects._FIRST_OF_LANE,
        "telegate_jobs_lane (bot=? AND queue=? AND lane=?)",
    ),
    "what runs in a wide lane": (
        effects._NOT_HELD + effects._WIDTH_LEFT.format(5),
        "telegate_jobs_running_wide (bot=? AND queue=? AND lane=?)",
    ),
    "a key that waits": (
        effects._NOT_HELD + effects._NONE_OF_KEY.format(5),
        "telegate_jobs_key (bot=? AND key=?)",
    ),
    "a key that runs": (
        effects._NOT_HELD + effects._NONE_OF_KEY.format(5),
        "telegate_jobs_running_key (bot=? AND key=?)",
    ),
    "the jobs of a subject": (effects._CANCEL, "telegate_jobs_subject (bot=? AND subject=?)"),
    "due jobs": (jobs._CLAIM, "telegate_jobs_due (bot=? AND queue=? AND <expr><?)"),
    "due jobs of wide lanes": (jobs._CLAIM, "telegate_jobs_waiting_wide (bot=? AND queue=? AND <expr><?)"),
    "jobs before others in a lane": (
        jobs._CLAIM,
        "telegate_jobs_lane (bot=? AND queue=? AND lane=? AND id<?)",
    ),
    "what is claimed": (jobs._CLAIM, JOB),
    "the next job of a lane": (jobs._CLAIM_NEXT, JOB),
    "expired jobs": (jobs._CLAIM_EXPIRED, "telegate_jobs_expiring (bot=? AND expires_at<?)"),
    "the tasks of jobs": (jobs._TASKS, "sqlite_autoindex_telegate_tasks_1 (bot=? AND id=?)"),
    "a job that is done": (jobs._COMPLETE, JOB),
    "a job that is retried": (jobs._RETRY, JOB),
    "a lease that goes on": (jobs._KEEP, JOB),
    "leases that are renewed": (jobs._RENEW, JOB),
    "the queues": (jobs._QUEUES, "telegate_jobs_due (bot=? AND queue>?)"),
    "the next that comes due": (jobs._NEXT_DUE + " 1", "telegate_jobs_due (bot=? AND queue=?)"),
    "the next that expires": (jobs._NEXT_EXPIRY + " 1", "telegate_jobs_expiring (bot=? AND expires_at>?)"),
    "how many wait": (jobs._WAITING, "(bot=? AND queue=?)"),
    "holds": (jobs._HOLDS, "PRIMARY KEY (bot=? AND queue=?)"),
    "the jobs of a chat that moves": (chats._MOVE_JOBS, "telegate_jobs_lane (bot=? AND queue=? AND lane=?)"),
}
"""What is looked for, and a line of SQLite's plan."""


@pytest.mark.parametrize("what", PLANS)
async def test_it_is_found_by_its_index(store: Store, what: str) -> None:
    sql, index = PLANS[what]
    text = sql.sqlite if isinstance(sql, Sql) else sql
    count = max(int(number) for number in re.findall(r"\$(\d+)", text))
    # Where JSON is expected, a number is some, too.
    plan = [row[3] for row in await ask(store, f"EXPLAIN QUERY PLAN {text}", *(1,) * count)]
    assert any(index in line for line in plan), plan
    # What an index has found may be put in order, and looked through.
    found = re.compile(r"SCAN (next|free|wide|nearest|queues|json_each|\(|CONSTANT)")
    assert not [line for line in plan if line.startswith("SCAN") and not found.match(line)], plan


MANY = 20_000


FILL = """
INSERT INTO telegate_jobs (bot, kind, queue, subject, lane, width, overtakes, priority, service, run_at,
  expires_at, lease_epoch, attempts, in_doubt, payload)
SELECT $1::bigint + n % 50, 'send', 'telegram', 'tsk_' || n, CAST(n % 500 AS TEXT), 1, 0, 2, 'ci',
  $2::bigint + n, $2::bigint + 86400000 + n, 0, 0, 0, '{}'
FROM generate_series(1, $3::bigint) AS n
"""


@pytest.fixture(scope="module")
def many_jobs() -> str:
    """A PostgreSQL database in which many jobs wait, in few lanes."""
    return postgres.fresh_database()


@pytest.fixture
async def connection(many_jobs: str) -> AsyncIterator[asyncpg.Connection]:
    address = PostgresAddress.parse(many_jobs)
    if await migrate(address):
        connection = await asyncpg.connect(address.url.reveal())
        await connection.execute(FILL, BOT, milliseconds(NOW), MANY)
        await connection.execute("ANALYZE telegate_jobs")
        await connection.close()
    connection = await asyncpg.connect(address.url.reveal())
    yield connection
    await connection.close()


AT = milliseconds(NOW) + MANY

ON_POSTGRESQL: dict[str, tuple[str | Sql, tuple[object, ...]]] = {
    "claim": (jobs._CLAIM, (BOT, AT, "telegram", AT, "host-1", 60)),
    "claim the next of a lane": (jobs._CLAIM_NEXT, (BOT, AT, "telegram", "0")),
    "claim what has expired": (jobs._CLAIM_EXPIRED, (BOT, AT, AT, AT, 100)),
    "complete": (jobs._COMPLETE, (BOT, 7, "host-1", 1)),
    "renew": (jobs._RENEW, (BOT, AT, '{"7": ["host-1", 1], "8": ["host-1", 1]}')),
    "tell what comes due": (jobs._NEXT_DUE + " 1", (BOT, AT, "telegram")),
    "tell what expires": (jobs._NEXT_EXPIRY + " 1", (BOT,)),
    "cancel": (effects._CANCEL, (BOT, "tsk_7")),
    "begin": (effects._NOT_HELD + effects._FIRST_OF_LANE, (BOT, "telegram", "0", AT)),
}


@pytest.mark.parametrize("what", ON_POSTGRESQL)
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
async def test_postgresql_reads_no_whole_table_of_jobs(
    connection: asyncpg.Connection, what: str, mode: str
) -> None:
    sql, params = ON_POSTGRESQL[what]
    text = sql.postgres if isinstance(sql, Sql) else sql
    await connection.execute(f"SET plan_cache_mode = {mode}")
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}", *params))
    assert "Seq Scan on telegate_jobs" not in plan, plan
