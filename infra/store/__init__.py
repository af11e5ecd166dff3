"""The store: tasks, jobs and updates in tables, where one commit covers whatever belongs together."""

from __future__ import annotations

from infra.store.errors import AlreadyServed, SchemaTooNew, StoreRefused
from infra.store.store import Store, open_postgres, open_sqlite, open_store

__all__ = [
    "AlreadyServed",
    "SchemaTooNew",
    "Store",
    "StoreRefused",
    "open_postgres",
    "open_sqlite",
    "open_store",
]
