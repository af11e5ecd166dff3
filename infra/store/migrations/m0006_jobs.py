"""Schema 6: whatever must happen later is a row of jobs, and every table has a name of ours.

Until now a task's own row said what was to happen to it: columns of its lease, lists of what is not shown yet
and of questions that ask for another tap. All of it that is open becomes jobs, so an update loses nothing.

The tables are called `telegate_…` from now on. Other programs may share the database, and words like `tasks`
and `history` may well be theirs, too. And a process of the version before, which may still run when this one
migrates, knows nothing of jobs: it finds its tables gone, answers 503 and acknowledges nothing, instead of
storing what nobody would ever do.

`schema_version` keeps its name, which every version looks at first, and tells which versions of Telegate can
live with the tables.

A job is held by `lease_holder` until `lease_until`; without a holder it waits until `run_at`. A lane whose
name is empty stands for its whole queue. Times are milliseconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.store.migrations.dialect import Dialect
from infra.store.sql.transactions import Sql, Statement

_COLUMNS = """
  bot          BIGINT NOT NULL,
  kind         TEXT NOT NULL,
  queue        TEXT NOT NULL,
  subject      TEXT NOT NULL,
  key          TEXT,
  lane         TEXT,
  width        BIGINT NOT NULL,
  overtakes    BIGINT NOT NULL,
  priority     BIGINT NOT NULL,
  service      TEXT NOT NULL,
  run_at       BIGINT NOT NULL,
  expires_at   BIGINT,
  lease_holder TEXT,
  lease_until  BIGINT,
  lease_epoch  BIGINT NOT NULL,
  attempts     BIGINT NOT NULL,
  in_doubt     BIGINT NOT NULL,
  payload      TEXT NOT NULL
"""
# An id is never given twice: whoever still works on a job that is gone must not come upon another one.
_JOBS = Sql(
    sqlite=f"CREATE TABLE telegate_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT,{_COLUMNS})",
    postgres=f"CREATE TABLE telegate_jobs (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,{_COLUMNS})",
)
_LANES = """
CREATE TABLE telegate_lanes (
  bot        BIGINT NOT NULL,
  queue      TEXT NOT NULL,
  lane       TEXT NOT NULL,
  held_at    BIGINT NOT NULL,
  held_until BIGINT NOT NULL,
  PRIMARY KEY (bot, queue, lane)
)
"""

# A partial index is used only when a query repeats its condition word by word.
_INDEXES = """
CREATE INDEX telegate_jobs_due ON telegate_jobs (bot, queue, (COALESCE(lease_until, run_at)));
CREATE INDEX telegate_jobs_lane ON telegate_jobs (bot, queue, lane, id);
CREATE INDEX telegate_jobs_subject ON telegate_jobs (bot, subject);
CREATE INDEX telegate_jobs_expiring ON telegate_jobs (bot, expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX telegate_jobs_key ON telegate_jobs (bot, key)
  WHERE key IS NOT NULL AND lease_holder IS NULL;
CREATE INDEX telegate_jobs_running_key ON telegate_jobs (bot, key)
  WHERE key IS NOT NULL AND lease_holder IS NOT NULL;
CREATE INDEX telegate_jobs_running_wide ON telegate_jobs (bot, queue, lane)
  WHERE width > 1 AND lease_holder IS NOT NULL;
CREATE INDEX telegate_jobs_waiting_wide ON telegate_jobs (bot, queue, (COALESCE(lease_until, run_at)))
  WHERE width > 1 AND lease_holder IS NULL;
CREATE INDEX telegate_tasks_unfinished ON telegate_tasks (bot, state, created_at)
  WHERE state IN ('queued', 'sending', 'asked')
"""

_NEW_NAMES = {
    "tasks": "telegate_tasks",
    "history": "telegate_history",
    "messages": "telegate_messages",
    "idempotency": "telegate_idempotency",
    "updates": "telegate_updates",
    "quarantine": "telegate_quarantine",
    "chats": "telegate_chats",
    "button_keys": "telegate_button_keys",
    "presence": "telegate_heartbeat",
    "figures": "telegate_metrics",
    "disarmed": "telegate_disarmed",
}

_INSERT = """
INSERT INTO telegate_jobs (bot, kind, queue, subject, key, lane, width, overtakes, priority, service, run_at,
  expires_at, lease_holder, lease_until, lease_epoch, attempts, in_doubt, payload)
"""
# What was to be sent. A task that was `sending` and waited for its next attempt said so by a lease that ended
# when the wait did. The error tells that an attempt may have succeeded; it is looked for in the text, so that
# a row which nobody can read is taken over like any other.
_OPERATIONS = f"""{_INSERT}
SELECT bot, CASE kind WHEN 'edit' THEN 'edit' WHEN 'deletion' THEN 'delete' ELSE 'send' END, 'telegram', id,
  NULL, chat, 1, 0, CASE WHEN kind = 'question' THEN 1 WHEN service = 'telegate' THEN 3 ELSE 2 END, service,
  COALESCE(not_before, created_at), expires_at, CASE WHEN runs = 1 THEN COALESCE(lease_holder, '') END,
  CASE WHEN runs = 1 THEN COALESCE(lease_until, 0) END, runs, attempts,
  CASE WHEN (state = 'sending' AND runs = 0) OR progress LIKE '%"error":{{"code":"outcome_unknown"%'
    THEN 1 ELSE 0 END, '{{}}'
FROM (
  SELECT telegate_tasks.*, CASE WHEN state = 'sending' AND not_before IS NULL THEN 1 ELSE 0 END AS runs
  FROM telegate_tasks WHERE state IN ('queued', 'sending')
) AS task ORDER BY id
"""  # noqa: S608 -- constants only
_EXPIRIES = f"""{_INSERT}
SELECT bot, 'expire', 'timers', id, NULL, NULL, 1, 0, 2, service, expires_at, NULL, NULL, NULL, 0, 0, 0,
  '{{}}'
FROM telegate_tasks WHERE kind = 'question' AND state IN ('queued', 'sending', 'asked') ORDER BY id
"""  # noqa: S608 -- constants only
_OUTCOMES_NOT_SHOWN = f"""{_INSERT}
SELECT bot, 'finalize', 'telegram', id, 'finalize:' || id, chat, 1, 1, 0, service, updated_at, NULL, NULL,
  NULL, 0, 0, 0, '{{}}'
FROM telegate_tasks WHERE kind = 'question' AND state IN ('answered', 'expired', 'cancelled') AND closed = 0
  AND message_ids <> '' ORDER BY id
"""  # noqa: S608 -- constants only


def _disarmed(began: str, ended: str) -> str:
    """Questions that were to ask for another tap; one that somebody works on is left to him for as long."""
    return f"""{_INSERT}
SELECT task.bot, 'reprompt', 'telegram', task.id, 'reprompt:' || task.id, task.chat, 1, 1, 1, task.service,
  CASE WHEN disarmed.until > disarmed.ended THEN disarmed.until ELSE disarmed.ended END, NULL, NULL, NULL,
  0, disarmed.tries, 0, '{{"began": "' || {began} || '", "ended": "' || {ended} || '"}}'
FROM telegate_disarmed AS disarmed
JOIN telegate_tasks AS task ON task.bot = disarmed.bot AND task.id = disarmed.task ORDER BY task.id
"""  # noqa: S608 -- constants only


_SQLITE_TIME = "strftime('%Y-%m-%dT%H:%M:%f+00:00', disarmed.{} / 1000.0, 'unixepoch')"
_POSTGRES_TIME = """
to_char(to_timestamp(disarmed.{} / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')
"""
_REPROMPTS = Sql(
    sqlite=_disarmed(_SQLITE_TIME.format("began"), _SQLITE_TIME.format("ended")),
    postgres=_disarmed(_POSTGRES_TIME.format("began"), _POSTGRES_TIME.format("ended")),
)
_HOLDS = """
INSERT INTO telegate_lanes (bot, queue, lane, held_at, held_until)
SELECT bot, 'telegram', chat, COALESCE(paused_at, 0), paused_until FROM telegate_chats
WHERE paused_until IS NOT NULL
"""
_NOTHING_NOTED = """
DELETE FROM telegate_chats WHERE unreachable_until IS NULL AND unreachable IS NULL AND migrated_to IS NULL
"""

_DROPPED_INDEXES = ("due", "leased", "expiring", "unclosed", "unsent")
_DROPPED_COLUMNS = (
    "telegate_tasks DROP COLUMN lease_holder",
    "telegate_tasks DROP COLUMN lease_until",
    "telegate_tasks DROP COLUMN attempts",
    "telegate_tasks DROP COLUMN closed",
    "telegate_chats DROP COLUMN paused_at",
    "telegate_chats DROP COLUMN paused_until",
    "telegate_heartbeat RENAME COLUMN duty_holder TO leader",
    "telegate_heartbeat RENAME COLUMN duty_until TO leader_until",
    "schema_version ADD COLUMN compatible_from BIGINT",
)


def statements(dialect: Dialect) -> Iterator[Statement]:
    """Everything that makes schema 6 out of schema 5."""
    for old, new in _NEW_NAMES.items():
        yield Statement(f"ALTER TABLE {old} RENAME TO {new}")
    yield Statement(_JOBS)
    yield Statement(_LANES.rstrip() + dialect.clustered)
    for insert in (_OPERATIONS, _EXPIRIES, _OUTCOMES_NOT_SHOWN, _REPROMPTS, _HOLDS):
        yield Statement(insert)
    yield Statement(_NOTHING_NOTED)
    yield Statement("DROP TABLE telegate_disarmed")
    for index in _DROPPED_INDEXES:
        yield Statement(f"DROP INDEX tasks_{index}")
    for change in _DROPPED_COLUMNS:
        yield Statement(f"ALTER TABLE {change}")
    for index in _INDEXES.split(";"):
        yield Statement(index)
