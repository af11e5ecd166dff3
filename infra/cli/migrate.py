"""`telegate migrate`: bring the database's schema up to date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.config import table
from infra.config.settings import SettingsSource

if TYPE_CHECKING:
    from infra.config.postgres_address import PostgresAddress
    from infra.store.migrations import SchemaState

_EXAMPLES = """\b
Examples:
  telegate migrate
  telegate migrate --dry-run
"""


@click.command(name="migrate", epilog=_EXAMPLES)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(*, dry_run: bool) -> None:
    """Bring the database's schema up to date; running it twice does no harm."""
    source = SettingsSource.open(os.environ)
    database = source.read(table.DATABASE_URL)
    source.finish()
    place = str(database) if isinstance(database, Path) else f"The database {database.place}"
    if dry_run:
        state = _find_state(database)
        click.echo(f"{place} has schema {state.found}; this version works with schema {state.newest}.")
        return
    applied = _migrate(database)
    if applied:
        click.echo(f"{place} is up to date now; steps done: {', '.join(map(str, applied))}.")
    else:
        click.echo(f"{place} was up to date already.")


# The imports come late, so that --help is quick, and so that only one of the two drivers is loaded.


def _find_state(database: Path | PostgresAddress) -> SchemaState:
    if isinstance(database, Path):
        from infra.store.sqlite import file  # noqa: PLC0415 - see above

        return file.schema_state(database)
    from infra.store.postgres import schema  # noqa: PLC0415 - see above

    return asyncio.run(schema.schema_state(database))


def _migrate(database: Path | PostgresAddress) -> tuple[int, ...]:
    if isinstance(database, Path):
        from infra.store.sqlite import file  # noqa: PLC0415 - see above

        return file.migrate(database)
    from infra.store.postgres import schema  # noqa: PLC0415 - see above

    return asyncio.run(schema.migrate(database))
