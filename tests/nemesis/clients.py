"""Clients: services that wait, vanish, and send the same request again until they are told its end."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.acceptance.gateway import minted
from tests.nemesis.databases import reply_of
from tests.nemesis.evidence import FINAL
from tests.nemesis.facts import TOO_LATE, Exchange, Told
from tests.nemesis.plan import Kind, Plan, PlannedTask, marker
from tests.nemesis.servers import VictimServer
from tests.nemesis.truth import nap

SERVICE = "service-0"

PATIENCE = 5.0
"""Seconds that a service waits for a response beyond what it asked to be held."""

INSISTING = 60.0
"""Seconds in which a service still asks for its task's end after its deadline and after the last fault."""

_PAUSE = (0.1, 0.8)
_YES_OR_NO = [{"id": "yes", "label": "Yes"}, {"id": "no", "label": "No"}]


@dataclass(slots=True, eq=False)
class Clients:
    """All services of a run.

    Attributes:
        exchanges: every request and what came of it.
        gave_up: markers of what was never told its end.
        calm_since: Unix time when the last fault was over; None before.
    """

    plan: Plan
    servers: Sequence[VictimServer]
    session: aiohttp.ClientSession
    exchanges: list[Exchange] = field(default_factory=list)
    gave_up: set[str] = field(default_factory=set)
    calm_since: float | None = None
    token: str = field(default_factory=lambda: minted(SERVICE, ["everything"], exp=int(time.time()) + 86_000))
    _ids: dict[str, asyncio.Future[str | None]] = field(default_factory=dict)

    async def run(self, begun: float) -> None:
        """Ask for everything, at its time after `begun` (Unix time), and wait for every end."""
        loop = asyncio.get_running_loop()
        self._ids = {task.marker: loop.create_future() for task in self.plan.tasks}
        await asyncio.gather(*(self._carry_out(task, begun) for task in self.plan.tasks))

    async def _carry_out(self, task: PlannedTask, begun: float) -> None:
        await nap(begun + task.at - time.time())
        target = None
        if task.of is not None:
            target = await self._ids[marker(task.of)]
            if target is None:
                return
        await asyncio.gather(*(self._insist(task, target, copy) for copy in range(task.copies)))
        if not self._ids[task.marker].done():
            self._ids[task.marker].set_result(None)

    async def _insist(self, task: PlannedTask, target: str | None, copy: int) -> None:
        dice = random.Random(f"{self.plan.seed}/{task.marker}/{copy}")  # noqa: S311 - a schedule, no secret
        hang_ups = iter(task.vanishes)
        deadline = time.time() + min(task.expires_in, 90)
        # Whoever got no answer from one server asks the next one.
        turns = itertools.cycle(dice.sample(self.servers, len(self.servers)))
        told: Told | None = None
        while self._is_worth_asking(deadline):
            patience = next(hang_ups, task.wait + PATIENCE)
            known = told if dice.random() < 0.5 else None
            exchange = await self._ask(task, target, known, next(turns), patience)
            told = exchange.told or told
            is_over = told is not None and told.state in FINAL
            if task.abandoned or is_over or exchange.code == TOO_LATE:
                return
            await asyncio.sleep(dice.uniform(*_PAUSE))
        self.gave_up.add(task.marker)

    def _is_worth_asking(self, deadline: float) -> bool:
        return self.calm_since is None or time.time() < max(deadline, self.calm_since) + INSISTING

    async def _ask(
        self, task: PlannedTask, target: str | None, known: Told | None, server: VictimServer, patience: float
    ) -> Exchange:
        """One request: a look at a task that is known, otherwise the same again."""
        headers = {"Authorization": f"Bearer {self.token}", "Prefer": f"wait={task.wait}"}
        if known is not None:
            method, path, body = "GET", f"/v1/tasks/{known.id}", None
        else:
            method, path, body = _request(task, target)
            headers |= {"Idempotency-Key": task.marker}
        begun = time.time()
        status, code, document = await self._exchange(method, server.address + path, body, headers, patience)
        found = None if code == TOO_LATE else _told(document)
        exchange = Exchange(task.marker, server.number, method, begun, time.time(), status, code, found)
        self.exchanges.append(exchange)
        if found is not None and not self._ids[task.marker].done():
            self._ids[task.marker].set_result(found.id)
        return exchange

    async def _exchange(
        self, method: str, url: str, body: object, headers: dict[str, str], patience: float
    ) -> tuple[int | None, str, Any]:
        """Status, code and document of a response; no status when none came."""
        timeout = aiohttp.ClientTimeout(total=patience)
        try:
            async with self.session.request(
                method, url, json=body, headers=headers, timeout=timeout
            ) as response:
                document = json.loads(await response.read())
                return response.status, str(document.get("code", "")), document
        except TimeoutError:
            return None, "hung up", None
        except (aiohttp.ClientError, ConnectionError) as error:
            return None, type(error).__name__, None


def _request(task: PlannedTask, target: str | None) -> tuple[str, str, object]:
    """Method, path and body of what a service wants."""
    match task.kind:
        case Kind.EDIT:
            return "PATCH", f"/v1/messages/{target}", {"text": f"Corrected by {task.marker}."}
        case Kind.DELETION:
            return "DELETE", f"/v1/messages/{target}", None
        case Kind.QUESTION:
            return "POST", "/v1/questions", dict(_question(task))
    body = dict(_said(task, "All is well"))
    return "POST", "/v1/messages", body | ({"on_unknown": "resend"} if task.resends else {})


def _said(task: PlannedTask, words: str) -> Iterator[tuple[str, object]]:
    yield "chat", task.chat
    yield "text", f"{words}, says {task.marker}."
    yield "expires_in", task.expires_in
    yield "metadata", {"marker": task.marker}


def _question(task: PlannedTask) -> Iterator[tuple[str, object]]:
    yield from _said(task, "Shall I go on")
    yield "respondents", {"people": list(task.respondents)}
    if task.written:
        yield "input", {"type": "text"}
    else:
        yield "options", _YES_OR_NO
        yield "on_expiry", {"choice": task.on_expiry} if task.on_expiry else None


def _told(document: Any) -> Told | None:
    """The task that a response tells, be it in a problem."""
    if not isinstance(document, dict):
        return None
    task = document if str(document.get("id", "")).startswith("tsk_") else document.get("task")
    if not isinstance(task, dict):
        return None
    return Told(task["id"], task["state"], reply_of(task["answer"]) if task["answer"] else None)
