"""People: Telegram users, known by their numeric ids."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """A Telegram user, as Telegram describes him or her.

    Attributes:
        id: the numeric user id: the only thing that carries authority.
        name: first and last name, for people to read.
    """

    id: int
    name: str
    username: str | None = None
