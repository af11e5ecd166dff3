"""Dialects: the few words in which the databases differ when tables are made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database says it.

    Attributes:
        clustered: what follows a table's definition so that its rows lie in the order of the primary key.
    """

    clustered: str


SQLITE = Dialect(clustered=" WITHOUT ROWID")
POSTGRES = Dialect(clustered="")
