"""The store of tasks: add, amend, find and list them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from core.model.errors import IdempotencyMismatch, TelegateError
from core.model.task import Change, Task
from core.ports import Idempotency, TaskFilter
from infra.store.sql import steps
from infra.store.sql.rows import COLUMNS, decode, milliseconds
from infra.store.sql.steps import Rows
from infra.store.sql.transactions import MovedOn, Row, Statement, Transaction

_FIND_KEY = """
SELECT fingerprint, task FROM idempotency WHERE bot = $1 AND service = $2 AND route = $3 AND key = $4
"""
_KEEP_KEY = """
INSERT INTO idempotency (bot, service, route, key, fingerprint, task) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (bot, service, route, key) DO NOTHING
"""
# A foreign task must take as long as one that does not exist. The primary key would find a foreign row, and
# read it; so the service's own index is asked what stands next to the id there. No other has that order.
_FIND_OWN = f"""
SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND id = (
  SELECT id FROM (
    SELECT service, id FROM tasks WHERE bot = $1 AND (service, id) <= ($3, $2)
    ORDER BY service DESC, id DESC LIMIT 1
  ) AS nearest WHERE service = $3 AND id = $2)
"""  # noqa: S608 -- constants only
_PAGE = f"SELECT {COLUMNS} FROM tasks WHERE bot = $1 AND service = $2"  # noqa: S608 -- constants only
_FINAL = """
SELECT id FROM tasks
WHERE bot = $1 AND state IN ('sent', 'answered', 'expired', 'cancelled', 'failed', 'unknown')
  AND id IN ({ids})
"""
_STEPS = "SELECT id, steps FROM tasks WHERE bot = $1 AND id IN ({ids})"
# A statement of each size is prepared once; SQLite and PostgreSQL both take 32,766 parameters.
_SIZES = (1, 10, 100, 1_000, 10_000)


class SqlTaskStore(Rows):
    """The port `TaskStore`, in SQL."""

    async def add(
        self, task: Task, idempotency: Idempotency | None, refusal: TelegateError | None = None
    ) -> tuple[Task, bool]:
        """See `core.ports.TaskStore.add`."""
        at = self._now()
        return await self._write(lambda: _add(self.bot, at, task, idempotency, refusal))

    async def made_by(self, idempotency: Idempotency) -> Task | None:
        """See `core.ports.TaskStore.made_by`."""
        return await self._write(lambda: _made_before(self.bot, idempotency))

    async def amend(self, task_id: str, judge: Callable[[Task], Change | None]) -> Task | None:
        """See `core.ports.TaskStore.amend`."""
        at = self._now()
        return await self._write(lambda: _amend(self.bot, at, task_id, judge))

    async def advance(self, known: Task, judge: Callable[[Task], Change | None]) -> Task | None:
        """See `core.ports.TaskStore.advance`."""
        at = self._now()
        return await self._write(lambda: _advance(self.bot, at, known, judge))

    async def find(self, task_id: str, service: str | None = None) -> Task | None:
        """See `core.ports.TaskStore.find`."""
        rows = await self.database.read(lambda: steps.rows_of(self._find_statement(task_id, service)))
        return decode(self.bot, rows[0]) if rows else None

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """See `core.ports.TaskStore.page`."""
        while True:
            statement = _page(self.bot, wanted)
            rows = await self.database.read(partial(steps.rows_of, statement))
            shown, more = rows[: wanted.limit], len(rows) > wanted.limit
            tasks = self._readable(shown)
            if tasks or not more:
                return tasks, more
            wanted = replace(wanted, after=shown[-1][0])

    async def final_among(self, task_ids: Collection[str]) -> Sequence[str]:
        """See `core.ports.TaskStore.final_among`; more than 10,000 ids take one query for each 10,000."""
        rows = await self.database.read(lambda: _among(_FINAL_OF_SIZE, self.bot, sorted(task_ids)))
        return [row[0] for row in rows]

    async def steps_among(self, task_ids: Collection[str]) -> Mapping[str, int]:
        """See `core.ports.TaskStore.steps_among`; more than 10,000 ids take one query for each 10,000."""
        rows = await self.database.read(lambda: _among(_STEPS_OF_SIZE, self.bot, sorted(task_ids)))
        return {row[0]: row[1] for row in rows}

    def _find_statement(self, task_id: str, service: str | None) -> Statement:
        if service is None:
            return steps.find_statement(self.bot, task_id)
        return Statement(_FIND_OWN, (self.bot, task_id, service))


def _add(
    bot: int, at: int, task: Task, idempotency: Idempotency | None, refusal: TelegateError | None
) -> Transaction[tuple[Task, bool]]:
    made = None if idempotency is None else (yield from _made_before(bot, idempotency))
    if made is not None:
        return made, False
    if refusal is not None:
        raise refusal
    stored = yield from steps.place(bot, at, task)
    if idempotency is not None:
        scope = (bot, idempotency.service, idempotency.route, idempotency.key)
        if not (yield Statement(_KEEP_KEY, (*scope, idempotency.fingerprint, task.id))):
            # Another process used the key at the same time: forget this task and find that one.
            raise MovedOn
    return stored, True


def _made_before(bot: int, idempotency: Idempotency) -> Transaction[Task | None]:
    scope = (bot, idempotency.service, idempotency.route, idempotency.key)
    rows = yield Statement(_FIND_KEY, scope)
    if not rows:
        return None
    [(fingerprint, task_id)] = rows
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used before with another body. Repeat the first body to get its task, "
            "or use a new key for a new task."
        )
    found = yield from steps.find(bot, task_id)
    if found is None:
        raise MovedOn
    return found


def _amend(
    bot: int, at: int, task_id: str, judge: Callable[[Task], Change | None]
) -> Transaction[Task | None]:
    found = yield from steps.find(bot, task_id, for_update=True)
    if found is None:
        return None
    change = judge(found)
    if change is None:
        return found
    return (yield from steps.take(bot, at, found, change))


def _advance(
    bot: int, at: int, known: Task, judge: Callable[[Task], Change | None]
) -> Transaction[Task | None]:
    change = judge(known)
    after = None if change is None else (yield from steps.try_step(bot, at, known, change))
    if after is None:
        after = yield from _amend(bot, at, known.id, judge)
    return after


def _page(bot: int, wanted: TaskFilter) -> Statement:
    conditions = {
        "state =": wanted.state and wanted.state.value,
        "kind =": wanted.kind and wanted.kind.value,
        "chat =": None if wanted.chat is None else str(wanted.chat),
        "created_at >=": None if wanted.since is None else milliseconds(wanted.since),
        "id <": wanted.after,
    }
    sql = _PAGE
    params: list[int | str | bytes | None] = [bot, wanted.service]
    for condition, value in conditions.items():
        if value is not None:
            params.append(value)
            sql += f" AND {condition} ${len(params)}"
    if wanted.among is not None:
        sql += f" AND ({_one_of(wanted.among, params)})"
    params.append(wanted.limit + 1)
    return Statement(f"{sql} ORDER BY id DESC LIMIT ${len(params)}", tuple(params))


def _one_of(chats: Collection[int | str], params: list[int | str | bytes | None]) -> str:
    """The condition that a task's chat is one of these; of few sizes, so that few statements are kept."""
    names = sorted(map(str, chats))
    parts = ["1 = 0"]
    for start in range(0, len(names), _SIZES[-1]):
        some = names[start : start + _SIZES[-1]]
        size = next(size for size in _SIZES if size >= len(some))
        first = len(params) + 1
        params.extend([*some, *some[-1:] * (size - len(some))])
        parts.append(f"chat IN ({', '.join(f'${number}' for number in range(first, first + size))})")
    return " OR ".join(parts)


def _among(sql_of_size: Mapping[int, str], bot: int, task_ids: Sequence[str]) -> Transaction[Sequence[Row]]:
    found: list[Row] = []
    for start in range(0, len(task_ids), _SIZES[-1]):
        found.extend((yield _statement_of_size(sql_of_size, bot, task_ids[start : start + _SIZES[-1]])))
    return found


def _statement_of_size(sql_of_size: Mapping[int, str], bot: int, task_ids: Sequence[str]) -> Statement:
    size = next(size for size in _SIZES if size >= len(task_ids))
    padding = (task_ids[-1],) * (size - len(task_ids))
    return Statement(sql_of_size[size], (bot, *task_ids, *padding))


def _placeholders(size: int) -> Iterator[str]:
    return (f"${number}" for number in range(2, size + 2))


_FINAL_OF_SIZE, _STEPS_OF_SIZE = (
    {size: sql.format(ids=", ".join(_placeholders(size))) for size in _SIZES} for sql in (_FINAL, _STEPS)
)
