"""A token issuer: its keys, fetched when they are used, and no more often than needed."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from core.incident import Incident
from core.model.errors import TelegateError
from core.policy.policy import ServiceKey
from infra.auth.errors import KeysAwaited
from infra.auth.key_set import KeySet
from infra.observability.clock import counter

log = logging.getLogger("telegate.tokens")

_MOST_LISTED = 8


class KeysNotFetched(TelegateError):
    """The issuer's keys could not be fetched; `detail` says why, as the second half of a sentence."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When keys are fetched again, in seconds.

    Attributes:
        soon: after so long, in the background, while the keys at hand count.
        longest: after so long without any try, a token waits for one. A key that the issuer has taken
            away counts no longer than this, as long as the issuer can be reached.
        cool_down: between two fetches, whoever wants the second one.
    """

    soon: float = 240.0
    longest: float = 300.0
    cool_down: float = 30.0


USUAL_PACE: Final = Pace()


def _seconds() -> float:
    return counter() / 1000


class Issuer:
    """Knows the keys of an issuer. Nothing here asks for a token; nothing runs while no token comes.

    Args:
        name: the `iss` of its tokens.
        fetch: brings its keys; raises `KeysNotFetched`.
        pace: when keys are fetched again.
        clock: seconds since some moment, also counted while the machine sleeps.

    Attributes:
        failure: what is wrong with its keys, in a sentence; None when nothing is.
        trouble: the same, and what that means for its tokens; None when nothing is wrong.
        on_change: called when its keys are others than before.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[KeySet]],
        *,
        pace: Pace = USUAL_PACE,
        clock: Callable[[], float] = _seconds,
    ) -> None:
        self.name = name
        self.failure: str | None = None
        self.trouble: str | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._fetch = fetch
        self._pace = pace
        self._clock = clock
        self._known: KeySet | None = None
        self._fetched_at = self._tried_at = -math.inf
        self._running: asyncio.Task[None] | None = None
        self._incident = Incident(log)

    def key(self, kid: str) -> ServiceKey | None:
        """The key of that name; None when the issuer has no such key, as far as may be asked now.

        Raises:
            KeysAwaited: the keys are being fetched, or cannot be had yet.
        """
        found = self._current().get(kid)
        if found is None and (refresh := self._refresh()) is not None:
            raise self._awaited(refresh)
        return found

    def still_has(self, key: ServiceKey) -> bool:
        """Whether a key that was given out before is still one of the issuer's.

        Raises:
            KeysAwaited: that has to be asked first.
        """
        return self._current().get(key.kid) == key

    def at_hand(self, kid: str) -> ServiceKey | None:
        """The key of that name, if it has been fetched; asks nobody."""
        return None if self._known is None else self._known.keys.get(kid)

    @property
    def is_known(self) -> bool:
        """Whether the keys have been fetched at least once."""
        return self._known is not None

    async def warm(self) -> None:
        """Fetch the keys now, unless that was just tried, and return when that has ended, well or not."""
        if (refresh := self._refresh()) is not None:
            await asyncio.wait({refresh})

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    # Inside

    def _current(self) -> Mapping[str, ServiceKey]:
        now = self._clock()
        if self._known is None or now - self._tried_at >= self._pace.longest:
            raise self._awaited(self._refresh())
        if now - self._fetched_at >= self._pace.soon:
            self._refresh()
        return self._known.keys

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None during the cool-down."""
        if self._running is None and self._cooling() <= 0:
            self._running = asyncio.create_task(self._ask(), name="fetching the issuer's keys")
        return self._running

    def _cooling(self) -> float:
        return self._tried_at + self._pace.cool_down - self._clock()

    def _awaited(self, refresh: asyncio.Task[None] | None) -> KeysAwaited:
        cooling = self._cooling() if refresh is None else self._pace.cool_down
        return KeysAwaited(refresh, retry_after=max(1.0, cooling))

    async def _ask(self) -> None:
        try:
            found = await self._fetch()
        except KeysNotFetched as error:
            failure = f"The keys of the token issuer cannot be fetched: {error.detail}."
            self._note(failure, self._meanwhile())
        except Exception:
            log.exception("The issuer's keys were not fetched because of a bug.", extra={"action": "bug"})
            self._note("The keys of the token issuer cannot be fetched because of a bug.", self._meanwhile())
        else:
            self._take(found)
        finally:
            self._tried_at = self._clock()
            self._running = None

    def _take(self, found: KeySet) -> None:
        if found != self._known:
            line = " ".join((_count(found), *found.left_out[:_MOST_LISTED]))
            log.info("%s", line, extra={"action": "issuer_keys", "kids": sorted(found.keys)})
            self._known = found
            # Not before this fetch has ended: whoever asks again must not wait for it.
            asyncio.get_running_loop().call_soon(self.on_change)
        self._fetched_at = self._clock()
        if found.keys:
            self._incident.end("The keys of the token issuer can be fetched again.", action="issuer_keys")
            self.failure = self.trouble = None
        else:
            self._note("The token issuer publishes no key that can be used.", "None of its tokens counts.")

    def _note(self, failure: str, meanwhile: str) -> None:
        trouble = f"{failure} {meanwhile}"
        if trouble != self.trouble:
            # Another trouble is another incident.
            self._incident = Incident(log)
        self.failure, self.trouble = failure, trouble
        self._incident.begin("%s", trouble, action="issuer_trouble")

    def _meanwhile(self) -> str:
        if self._known is None:
            return "Its tokens are answered with 503 until they are; it is asked again when a token comes."
        return "The keys that were fetched before count meanwhile; it is asked again when a token comes."


def _count(found: KeySet) -> str:
    count = len(found.keys)
    return f"The token issuer's keys were fetched: {count} {'counts' if count == 1 else 'count'}."
