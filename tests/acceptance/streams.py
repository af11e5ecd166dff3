"""Streams of server-sent events, as a service reads them: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from tests.acceptance.contract import FINAL_STATES, Json, check_task
from tests.acceptance.gateway import Service

ENOUGH = 20.0
"""Seconds that an event may take on a busy machine, whatever brings it."""

NO_LIMIT = aiohttp.ClientTimeout(total=None)


@dataclass(slots=True)
class Event:
    """One event, or one block of comments."""

    kind: str = ""
    id: str = ""
    data: str = ""
    retry: str = ""
    comment: bool = False

    @property
    def task(self) -> Json:
        """The task that it tells."""
        return json.loads(self.data)


@dataclass(slots=True)
class Stream:
    """A stream that is open."""

    response: aiohttp.ClientResponse
    last_id: str = ""
    retries: list[int] = field(default_factory=list)
    comments: int = 0

    async def next(self) -> Event | None:
        """The next event that tells a task; None at the end. What stands before it is noted."""
        async with asyncio.timeout(ENOUGH):
            while (event := await self._block()) is not None:
                if event.retry:
                    self.retries.append(int(event.retry))
                if event.comment:
                    self.comments += 1
                if event.data:
                    return self._checked(event)
        return None

    async def state(self) -> str:
        """The state that the next event tells."""
        event = await self.next()
        assert event is not None, "The stream has ended."
        return str(event.task["state"])

    async def until(self, state: str) -> list[str]:
        """All states that it tells, up to this one."""
        told: list[str] = []
        while not told or told[-1] != state:
            told.append(await self.state())
        return told

    async def comment(self) -> None:
        """Wait for a comment, with nothing else before it."""
        async with asyncio.timeout(ENOUGH):
            event = await self._block()
        assert event is not None
        assert event.comment
        assert not event.data

    async def ended(self) -> None:
        """Wait for its end, with nothing else before it."""
        assert await self.next() is None

    def _checked(self, event: Event) -> Event:
        assert event.kind == "task"
        check_task(event.task)
        assert event.id != self.last_id, "An event came twice."
        self.last_id = event.id
        return event

    async def _block(self) -> Event | None:
        """The lines up to an empty one; None at the end."""
        event, lines = Event(), 0
        while line := (await self.response.content.readline()).decode():
            if line == "\n":
                if lines:
                    return event
                continue
            lines += 1
            name, _, value = line.rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    event.kind = value
                case "data":
                    event.data += value
                case "id":
                    event.id = value
                case "retry":
                    event.retry = value
                case "":
                    event.comment = True
                case _:
                    raise AssertionError(f"No such field: {line!r}")
        assert not lines, "The stream broke off within an event."
        return None


@contextlib.asynccontextmanager
async def following(
    service: Service, task_id: str, after: str | None = None, *, method: str = "GET"
) -> AsyncIterator[Stream]:
    """Follow a task, from its beginning or after an event that has come before."""
    headers = {"Authorization": f"Bearer {service.token}", "Accept": "text/event-stream"}
    if after is not None:
        headers["Last-Event-ID"] = after
    url = f"{service.gate.server.address}/v1/tasks/{task_id}/events"
    session = service.gate.session
    async with session.request(method, url, headers=headers, timeout=NO_LIMIT) as response:
        assert response.headers["X-Request-Id"]
        assert response.headers["Server"] == "telegate"
        yield Stream(response, after or "")


async def told_in_full(service: Service, task_id: str) -> list[Json]:
    """Every task that a stream tells, up to its end."""
    async with following(service, task_id) as stream:
        assert stream.response.status == 200
        told = []
        while (event := await stream.next()) is not None:
            told.append(event.task)
    assert told[-1]["state"] in FINAL_STATES
    return told
