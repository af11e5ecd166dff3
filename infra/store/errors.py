"""Why a store cannot be used until somebody does something about it."""

from __future__ import annotations

from core.errors import StorageUnavailable


class StoreRefused(StorageUnavailable):
    """The store cannot be opened as things are; the text tells the operator what to do."""


class AlreadyServed(StoreRefused):
    """Another server works on this store."""


class SchemaTooNew(StoreRefused):
    """A newer version of Telegate has changed the tables."""
