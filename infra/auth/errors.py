"""Refusals: the precise cause for the log, and hardly anything for the sender."""

from __future__ import annotations

import asyncio

from core.model.errors import Overloaded, Unauthenticated


class TokenRefused(Unauthenticated):
    """A token that does not count.

    Attributes:
        cause: the precise reason, for the log and the operator; the sender only learns `reason`.
    """

    def __init__(self, cause: str, *, reason: str = "invalid") -> None:
        told = "The token has expired; use a new one." if reason == "expired" else "The token is not valid."
        super().__init__(told, reason=reason)
        self.cause = cause


class KeysAwaited(Overloaded):
    """A token of the issuer cannot be judged before the issuer's keys have been fetched.

    It is no `Unauthenticated`: the token may be a good one, and the same request may pass a moment later.

    Attributes:
        refresh: the fetch that is under way; None when there can be none now.
    """

    def __init__(self, refresh: asyncio.Task[None] | None, *, retry_after: float) -> None:
        super().__init__(
            "The keys of the token issuer could not be fetched yet, so this token cannot be judged. "
            "Nothing was done; repeat the request.",
            retry_after=retry_after,
        )
        self.refresh = refresh


def shown(value: object) -> str:
    """A value that the sender chose, short and in ASCII, so that it cannot forge a line of the log."""
    return ascii(value)[:60]
