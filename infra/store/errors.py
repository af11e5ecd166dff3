"""Why a store cannot be used: just now, or until somebody does something about it."""

from __future__ import annotations

from core.model.errors import Overloaded, StorageUnavailable

NOTHING_DONE = "Nothing was done; try again."
"""What a service has to know; an operator who looks at the database's state asked for nothing."""


class StoreRefused(StorageUnavailable):
    """The store cannot be opened as things are; the text tells the operator what to do."""


class AlreadyServed(StoreRefused):
    """Another server works on this store."""


class SchemaTooNew(StoreRefused):
    """A newer version of Telegate has changed the tables."""


class StorageBusy(Overloaded, StorageUnavailable):
    """The database has more to do than it can; nothing was done.

    To services it is overload; whoever can go on without a database for a while goes on here as well.
    """
