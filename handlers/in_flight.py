"""Requests that have begun: when the policy or a key changes, each is asked again whether it may go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from aiohttp import web

from core.model.chat import ChatId
from core.model.errors import Overloaded, TelegateError, Unauthenticated
from core.policy.policy import Principal
from handlers.keys import PRINCIPAL, REACH

log = logging.getLogger("telegate.http")

AT_ONCE: Final = 100
"""Requests that are asked before others have their turn; that takes about a millisecond."""


@dataclass(slots=True, eq=False)
class Held:
    """A request that has begun.

    Attributes:
        task: its handler's.
        refusal: why it may not go on; it ends with this.
    """

    request: web.Request
    task: asyncio.Task[object]
    refusal: TelegateError | None = None


class InFlight:
    """Everybody whose request has begun and has not been answered. Costs nothing while nothing changes.

    Args:
        authenticate: finds out again whose request it is; raises why that does not count any more, or gives
            back what to wait for.
        authorize: raises why the request may not go on, as its principal is now.
    """

    def __init__(
        self,
        authenticate: Callable[[web.Request], Awaitable[None] | None],
        authorize: Callable[[web.Request], None],
    ) -> None:
        self._authenticate = authenticate
        self._authorize = authorize
        self._held: set[Held] = set()
        self._later: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def holding(self, request: web.Request) -> Iterator[None]:
        """Let the request, which this task handles, be asked again while the block lasts."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A request is handled by no task.")
        held = request[HELD] = Held(request, task)
        self._held.add(held)
        try:
            yield
        finally:
            self._held.discard(held)

    def look(self) -> None:
        """Ask everybody again, some at a time; what begins meanwhile is asked by the new rules anyway."""
        by_token: dict[str, list[Held]] = {}
        for held in self._held:
            by_token.setdefault(held.request.headers.get("Authorization", ""), []).append(held)
        self._go_on(self._asked(by_token.values()))

    def _go_on(self, asked: Iterator[None]) -> None:
        if len(list(islice(asked, AT_ONCE))) == AT_ONCE:
            asyncio.get_running_loop().call_soon(self._go_on, asked)

    def _asked(self, groups: Iterable[Sequence[Held]]) -> Iterator[None]:
        for group in groups:
            try:
                later = self._authenticate(group[0].request)
            except TelegateError as error:
                yield from self._refused(group, error)
                continue
            if later is None:
                yield from self._authorized(group, group[0].request[PRINCIPAL])
            else:
                task = asyncio.get_running_loop().create_task(self._ask_later(group, later))
                self._later.add(task)
                task.add_done_callback(self._later.discard)

    async def _ask_later(self, group: Sequence[Held], later: Awaitable[None]) -> None:
        """Ask once the issuer's keys have come; one task for all requests with the same token."""
        try:
            await later
        except TelegateError as error:
            self._go_on(self._refused(group, error))
        else:
            self._go_on(self._authorized(group, group[0].request[PRINCIPAL]))

    def _refused(self, group: Iterable[Held], error: TelegateError) -> Iterator[None]:
        if isinstance(error, Overloaded):
            # The issuer's keys cannot be had: nobody can say whether the token counts.
            return
        reason = error.reason if isinstance(error, Unauthenticated) else "invalid"
        if reason == "expired":
            # It counted when the request began, and everybody knew when it would end.
            return
        for held in group:
            self._end(held, Unauthenticated(error.detail, reason=reason))
            yield

    def _authorized(self, group: Iterable[Held], principal: Principal) -> Iterator[None]:
        for held in group:
            held.request[PRINCIPAL] = principal
            try:
                self._authorize(held.request)
            except TelegateError as error:
                self._end(held, error)
            yield

    def _end(self, held: Held, refusal: TelegateError) -> None:
        if held in self._held and held.refusal is None:
            held.refusal = refusal
            held.task.cancel()


HELD: web.RequestKey[Held] = web.RequestKey("held", Held)
IN_FLIGHT: web.AppKey[InFlight] = web.AppKey("in_flight", InFlight)


def refusal_of(request: web.Request) -> TelegateError | None:
    """Why a request may not go on whose handler was just cancelled; None when that was for another reason.

    Whoever is told of a refusal goes on as if nobody had cancelled the handler.
    """
    held = request.get(HELD)
    if held is None or held.refusal is None:
        return None
    refusal, held.refusal = held.refusal, None
    # When somebody else has cancelled it, too, its client has gone, or the server ends.
    return None if held.task.uncancel() else refusal


def note_reach(request: web.Request, endpoint: str, chat: ChatId) -> None:
    """Remember what one role has to name for this request, for when it is asked again."""
    request[REACH] = (endpoint, chat)
