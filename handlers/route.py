"""What a route is: a path of the contract, who answers it, and what its description says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from aiohttp import web

from core.model.errors import NotBuilt
from handlers.bodies import Body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Answers(Enum):
    """What a route answers when all goes well."""

    NEW_TASK = "the task that the request made"
    TASK = "a task"
    TASK_LIST = "a page of tasks"
    TASK_EVENTS = "a task, again and again"
    DOCUMENT = "a JSON document"
    TEXT = "lines of text"
    NOTHING = "an empty answer"


@dataclass(frozen=True, slots=True)
class Route:
    """One path with one method.

    Attributes:
        endpoint: method and path, exactly as permissions.yaml and the API reference write it.
        handler: who answers; `refuse_not_built` for what this version does not have.
        summary: one line for the description.
        body: the model of the request's body, or None when it has none.
        codes: problem codes beyond those that every route has.
    """

    endpoint: str
    handler: Handler
    summary: str
    answers: Answers = Answers.DOCUMENT
    body: type[Body] | None = None
    codes: tuple[str, ...] = ()
    tag: str = "operations"

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.endpoint.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path, with its parameters in braces."""
        return self.endpoint.partition(" ")[2]

    @property
    def built(self) -> bool:
        """Whether this version has it."""
        return self.handler is not refuse_not_built


async def refuse_not_built(_request: web.Request) -> web.Response:
    """Answer for what the contract has and this version does not."""
    raise NotBuilt("This endpoint is in the API's contract, but not in this version.")


ROUTE_TABLE: Final[web.AppKey[tuple[Route, ...]]] = web.AppKey("route_table", tuple[Route, ...])
"""The routes of this application, for its description."""
