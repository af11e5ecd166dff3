"""Notifiers: how hints travel from whoever changes a task to whoever waits for it, in all processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from core.ports import Notifier
from infra.config.postgres_address import PostgresAddress
from infra.notify.local import LocalNotifier


def open_notifier(database: Path | PostgresAddress, bot: int) -> Notifier:
    """The notifier that this database calls for; PostgreSQL may be shared with other processes."""
    if isinstance(database, Path):
        return LocalNotifier()
    from infra.notify.postgres import PostgresNotifier, Timing  # noqa: PLC0415 - only with PostgreSQL
    from infra.store.postgres.connection import connect  # noqa: PLC0415 - only with PostgreSQL

    timing = Timing()
    return PostgresNotifier(connect=partial(connect, database, timing.timeout), bot=bot, timing=timing)
