"""A process that stands still, as in a virtual machine that is paused: another one finishes its work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.config.postgres_address import PostgresAddress
from tests import postgres
from tests.acceptance.gateway import Gate, Server, Service, message, question
from tests.acceptance.pairs import migrated_database, servers

pytestmark = pytest.mark.asyncio(loop_scope="module")

FINISHED_WITHIN = 10_000
"""Milliseconds after the end of the stopped process's lease."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The database of the servers, behind their backs."""

    name: str

    @classmethod
    def of(cls, url: str) -> Rows:
        return cls(PostgresAddress.parse(url).place.partition(" ")[0])

    def ask(self, sql: str) -> list[list[str]]:
        said = postgres.server().sql(sql, database=self.name)
        return [line.split("|") for line in said.splitlines()]

    def leases(self) -> dict[str, tuple[str, int]]:
        """Who holds each task that is being sent, and until when (milliseconds since 1970)."""
        held = "lease_holder IS NOT NULL AND kind = 'send'"
        rows = self.ask(f"SELECT subject, lease_holder, lease_until FROM telegate_jobs WHERE {held}")  # noqa: S608
        return {task: (holder, int(until)) for task, holder, until in rows}

    def steps(self) -> list[list[str]]:
        return self.ask("SELECT task, seq, at, what FROM telegate_history ORDER BY task, seq")

    def ends(self) -> dict[str, int]:
        """When each task came to what it is now."""
        both = "telegate_history JOIN telegate_tasks ON telegate_tasks.id = task"
        sql = f"SELECT task, at FROM {both} WHERE what = state ORDER BY seq"  # noqa: S608 -- constants only
        return {task: int(at) for task, at in self.ask(sql)}


@contextlib.contextmanager
def standing_still(server: Server) -> Iterator[None]:
    """Neither gunicorn nor its workers get any time."""
    assert server.process is not None
    numbers = [server.process.pid, *server.workers]
    for number in numbers:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        # In this order gunicorn sees that its worker lives, as after a short pause.
        for number in reversed(numbers):
            os.kill(number, signal.SIGCONT)


async def until(true: Callable[[], bool], within: float) -> None:
    """Look until it is so; for what another process does in its own time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.1)


def at(gate: Gate, service: Service) -> Service:
    """The same service at another server."""
    return Service(gate, service.name, gate.token(service.name, "everything"))


@pytest.mark.slow
async def test_the_work_of_a_process_that_stands_still_is_finished_and_it_marks_nothing_when_it_wakes(
    tmp_path: Path,
) -> None:
    database = await migrated_database()
    rows = Rows.of(database)
    async with servers(tmp_path, 2, database, SEND_RATE="2") as (here, there):
        service = here.service()
        elsewhere = at(there, service)
        ada, people = here.person(), [here.person() for _ in range(8)]
        here.sandbox.fault("hang", method="sendMessage", chat=ada.id)
        told = (await service.send(message(ada), prefer="respond-async")).task(202)["id"]
        await here.sandbox.wait_for(lambda: here.sends(ada), what="the call that hangs")
        posts = [
            await service.ask(question(each), prefer="respond-async", key=str(each.id)) for each in people
        ]
        asked = [post.task(202)["id"] for post in posts]
        with standing_still(here.server):
            held = rows.leases()
            assert told in held
            in_hand = [task for task in asked if task in held]
            assert len(in_hand) >= 3, (
                "Questions must wait for their turn in the memory of the one that stops."
            )
            assert len({holder for holder, _ in held.values()}) == 1
            for task in asked:
                await elsewhere.until(task, "asked", within=60)
            await elsewhere.until_final(told, within=20)
            late = {task: rows.ends()[task] - until for task, (_, until) in held.items()}
            assert max(late.values()) <= FINISHED_WITHIN, late
            assert min(late.values()) >= 0, "Nobody took over what was still another's."
            waiting = elsewhere.asking(question(people[-1]), key=str(people[-1].id))
            await there.until_waiting(1)
            await people[-1].taps(await here.next_message(people[-1]), "Yes")
            assert (await waiting).task(200)["answer"]["choice"] == "yes"
            await until(lambda: rows.steps()[-1][3] == "closed", within=20)
            before = rows.steps()
        await here.server.until_answered("/readyz", 200)
        # It gets its turn behind all that the one that stood still had in hand.
        last = here.person()
        later = await service.asked(question(last))
        assert (await elsewhere.task(told))["state"] == "unknown"
    after = [step for step in rows.steps() if step[0] != later["id"]]
    assert after == before
    *once, most = sorted(here.sends(each) for each in (ada, *people, last))
    assert (once, most <= 2) == ([1] * 9, True), "Only one call can have been under way when it stopped."


@pytest.mark.slow
async def test_what_telegram_did_meanwhile_is_believed_and_told_once(tmp_path: Path) -> None:
    database = await migrated_database()
    rows = Rows.of(database)
    async with servers(tmp_path, 2, database) as (here, there):
        service, ada = here.service(), here.person()
        elsewhere = at(there, service)
        fault = here.sandbox.fault("hang", method="sendMessage", chat=ada.id, effect=True)
        task = (await service.ask(question(ada), prefer="respond-async", key="k")).task(202)["id"]
        first = await here.next_message(ada)
        with standing_still(here.server):
            [(_, lease_until)] = rows.leases().values()
            second = await there.sandbox.next_message(ada, within=60)
            await elsewhere.until(task, "asked", within=20)
            assert 0 <= rows.ends()[task] - lease_until <= FINISHED_WITHIN
            before = rows.steps()
        await here.server.until_answered("/readyz", 200)
        fault.lift()
        assert (await service.send(message(here.person()))).task(200)["state"] == "sent"
        assert [step for step in rows.steps() if step[0] == task] == before
        await ada.taps(first, "Yes")
        answered = await elsewhere.until(task, "answered")
        assert len(answered["answers"]) == 1
        for copy in (first, second):
            await here.until_edited(copy)
            assert copy.buttons == []
    assert here.sends(ada) == 2
