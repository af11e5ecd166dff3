"""Identity: which bot this process speaks for, and the keys that sign its buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """Which bot this process speaks for, and how its buttons are signed.

    Attributes:
        bot: the bot's numeric id, the part of the token before the colon.
        holder: this process, in leases.
        keys: the button keys; the last one signs.
    """

    bot: int
    holder: str
    keys: Sequence[ButtonKey]


@dataclass(frozen=True, slots=True)
class ButtonKey:
    """The key that signs button data; random, made by the first migration, kept in the database.

    Attributes:
        id: 0 to 255, so that keys can be rotated while questions are open.
        secret: 32 random bytes.
    """

    id: int
    secret: bytes

    def __repr__(self) -> str:
        return f"ButtonKey(id={self.id}, secret=…)"
