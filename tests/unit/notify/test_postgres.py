"""The notifier for PostgreSQL: its echo test, what it says of an outage, and what it makes of a payload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.notify.postgres import FAILURES_BEFORE_POLLING, PostgresNotifier
from tests.fakes.loop import run

BOT = 42
LONGEST_PAYLOAD = 7999
"""Bytes that PostgreSQL takes: https://www.postgresql.org/docs/current/sql-notify.html."""

REFUSED = "PostgreSQL cannot be reached (connection refused)."


@dataclass(slots=True)
class Postgres:
    """A database, as far as notifications need one.

    Attributes:
        down: why nobody can connect.
        swallows: whether it sends notifications to nobody.
        attempts: when somebody tried to connect, in the loop's time.
        notifications: what was sent, and when.
    """

    down: str | None = None
    swallows: bool = False
    attempts: list[float] = field(default_factory=list)
    notifications: list[tuple[float, str]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    async def connect(self) -> Connection:
        self.attempts.append(now())
        if self.down is not None:
            raise OSError(111, self.down)
        self.connections.append(Connection(self))
        return self.connections[-1]

    def deliver(self, payload: str) -> None:
        for connection in self.connections:
            for hear in connection.listeners:
                asyncio.get_running_loop().call_soon(hear, connection, 1, "telegate_hints", payload)

    def cut(self) -> None:
        """End all connections."""
        for connection in list(self.connections):
            connection.terminate()

    @property
    def echoes(self) -> list[float]:
        return [at for at, payload in self.notifications if payload.startswith("echo ")]


@dataclass(slots=True, eq=False)
class Connection:
    """A connection of asyncpg."""

    postgres: Postgres
    listeners: list[Callable[[object, int, str, str], None]] = field(default_factory=list)
    ended: Callable[[object], None] = print

    def add_termination_listener(self, ended: Callable[[object], None]) -> None:
        self.ended = ended

    async def add_listener(self, _channel: str, hear: Callable[[object, int, str, str], None]) -> None:
        self.listeners.append(hear)

    async def execute(self, _query: str, _channel: str, payloads: list[str]) -> None:
        for payload in payloads:
            self.postgres.notifications.append((now(), payload))
            if not self.postgres.swallows:
                self.postgres.deliver(payload)

    def is_closed(self) -> bool:
        return self not in self.postgres.connections

    def terminate(self) -> None:
        if not self.is_closed():
            self.postgres.connections.remove(self)
            self.ended(self)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "telegate")
    return caplog


@asynccontextmanager
async def running(postgres: Postgres, bot: int = BOT) -> AsyncIterator[PostgresNotifier]:
    notifier = PostgresNotifier(connect=postgres.connect, bot=bot)
    task = asyncio.create_task(notifier.run())
    try:
        yield notifier
        assert not task.done(), "The notifier has stopped."
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# The echo test


async def test_an_echo_is_sent_at_once_and_again_ten_seconds_after_it_has_arrived(postgres: Postgres) -> None:
    async with running(postgres) as notifier:
        await notifier.missed()
        assert notifier.trouble is None
        await asyncio.sleep(29)
    assert postgres.echoes == pytest.approx([0, 10, 20])
    assert len(postgres.attempts) == 2


async def test_nobody_relies_on_hints_before_the_first_echo_has_arrived(
    postgres: Postgres, log: pytest.LogCaptureFixture
) -> None:
    postgres.swallows = True
    async with running(postgres) as notifier:
        await asyncio.sleep(4.9)
        assert notifier.trouble == "Notifications have not arrived yet."
    assert log.messages == []


async def test_an_echo_that_does_not_arrive_within_five_seconds_is_a_failure_that_names_the_pooler(
    postgres: Postgres, log: pytest.LogCaptureFixture
) -> None:
    async with running(postgres) as notifier:
        await notifier.missed()
        postgres.swallows = True
        await asyncio.sleep(14.9)
        assert log.messages == []
        await asyncio.sleep(0.2)
        [message] = log.messages
    assert message == (
        "LISTEN connection failed; reconnecting. The echo test failed: nothing arrived within 5 s. "
        "A connection pooler in transaction mode would explain it: let DATABASE_URL name the database itself."
    )


async def test_an_echo_that_nobody_waits_for_proves_nothing(postgres: Postgres) -> None:
    postgres.swallows = True
    async with running(postgres) as notifier:
        await asyncio.sleep(1)
        [(_, echo)] = postgres.notifications
        kind, bot, sender, token = echo.split(" ")
        for payload in (
            f"{kind} {bot} {sender} another",
            f"{kind} {bot} another {token}",
            f"{kind} {BOT + 1} {sender} {token}",
        ):
            postgres.deliver(payload)
        await asyncio.sleep(1)
        assert notifier.trouble is not None
        postgres.deliver(echo)
        await notifier.missed()
        assert notifier.trouble is None


# An outage


async def test_one_failure_is_told_and_is_no_trouble_yet(
    postgres: Postgres, log: pytest.LogCaptureFixture
) -> None:
    async with running(postgres) as notifier:
        await asyncio.sleep(1)
        postgres.cut()
        for _ in range(20):
            await asyncio.sleep(0)
        assert notifier.trouble is None
        assert log.messages == [
            "LISTEN connection failed; reconnecting. The connection to PostgreSQL has ended."
        ]


async def test_the_third_failure_in_a_row_is_trouble_with_the_newest_reason(
    postgres: Postgres, log: pytest.LogCaptureFixture
) -> None:
    async with running(postgres) as notifier:
        await notifier.missed()
        postgres.down = "Connection refused"
        postgres.cut()
        await notifier.missed()
        assert len(postgres.attempts) == 2 + FAILURES_BEFORE_POLLING - 1
        assert notifier.trouble == f"LISTEN connection failed; polling every 0.5 s. {REFUSED}"
        postgres.down = "No route to host"
        await asyncio.sleep(60)
        assert notifier.trouble.endswith("PostgreSQL cannot be reached (no route to host).")
    assert [record.levelname for record in log.records] == ["WARNING"] * 2
    assert log.messages[1] == f"LISTEN connection failed; polling every 0.5 s. {REFUSED}"


async def test_the_end_of_an_outage_is_told_once_with_what_was_not_sent(
    postgres: Postgres, log: pytest.LogCaptureFixture
) -> None:
    async with running(postgres) as notifier:
        notifier.hint(["tsk_before"])
        await notifier.missed()
        postgres.down = "Connection refused"
        postgres.cut()
        await notifier.missed()
        notifier.hint([f"tsk_{number}" for number in range(7)])
        postgres.down = None
        await notifier.missed()
        assert (notifier.trouble, notifier.dropped) == (None, 8)
        assert log.messages[2:] == ["LISTEN connection restored. Hints not sent meanwhile: 7."]
        await asyncio.sleep(60)
        assert len(log.messages) == 3


async def test_the_next_outage_is_told_anew(postgres: Postgres, log: pytest.LogCaptureFixture) -> None:
    async with running(postgres) as notifier:
        await notifier.missed()
        for _ in range(2):
            postgres.cut()
            await notifier.missed()
    assert [vars(record)["action"] for record in log.records] == ["hints_lost", "hints_back"] * 2


async def test_pauses_between_attempts_grow_to_at_most_five_seconds(postgres: Postgres) -> None:
    postgres.down = "Connection refused"
    async with running(postgres):
        await asyncio.sleep(600)
    pauses = [later - earlier for earlier, later in pairwise(postgres.attempts)]
    assert all(pause <= longest for pause, longest in zip(pauses, (1, 2, 4), strict=False))
    assert max(pauses) <= 5
    assert 100 < len(pauses) < 600


# What travels


@given(
    some.integers(1, 10**15), some.lists(some.from_regex(r"tsk_[0-9A-Z]{26}", fullmatch=True), max_size=99)
)
def test_what_is_hinted_at_is_understood_as_it_was_meant(bot: int, task_ids: list[str]) -> None:
    async def told() -> None:
        postgres, heard = Postgres(), list[str]()
        async with running(postgres, bot) as one, running(postgres, bot) as other:
            other.subscribe(heard.extend)
            await one.missed()
            await other.missed()
            one.hint(task_ids)
            await asyncio.sleep(1)
        assert heard == list(dict.fromkeys(task_ids))
        assert all(len(payload.encode()) < LONGEST_PAYLOAD / 8 for _, payload in postgres.notifications)

    run(told())


async def test_no_hints_are_no_payload(postgres: Postgres) -> None:
    async with running(postgres) as notifier:
        await notifier.missed()
        notifier.hint([])
        await asyncio.sleep(1)
    assert len(postgres.notifications) == len(postgres.echoes) == 1


@given(some.lists(some.text() | some.from_regex(r"(hints|echo|follow)( 42)?( \w+)*", fullmatch=True)))
def test_nothing_that_anybody_sends_is_an_error(payloads: list[str]) -> None:
    async def told() -> None:
        postgres = Postgres()
        failed: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context))
        async with running(postgres) as notifier:
            await notifier.missed()
            for payload in payloads:
                postgres.deliver(payload)
            await asyncio.sleep(1)
            assert notifier.trouble is None
        assert failed == []

    run(told())


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "hints",
        "hints 42 me",
        "hints you me tsk_1",
        "hints -42 me tsk_1",
        "hints 43 me tsk_1",
        "hints2 42 me tsk_1",
        "follow 42 me tsk_1",
        '{"hints": ["tsk_1"]}',
        "\n",
    ],
)
async def test_what_is_not_understood_is_ignored(postgres: Postgres, payload: str) -> None:
    heard: list[str] = []
    async with running(postgres) as notifier:
        notifier.subscribe(heard.extend)
        await notifier.missed()
        postgres.deliver(payload)
        await asyncio.sleep(1)
    assert heard == []
