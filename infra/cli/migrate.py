"""`telegate migrate`: bring the database's schema up to date."""

from __future__ import annotations

import os

import click

from infra import setting_table as table
from infra.settings import SettingsSource

_EXAMPLES = """\b
Examples:
  telegate migrate
  telegate migrate --dry-run
"""


@click.command(name="migrate", epilog=_EXAMPLES)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(*, dry_run: bool) -> None:
    """Bring the database's schema up to date; running it twice does no harm."""
    from infra.store.sqlite_file import migrate, schema_state  # noqa: PLC0415 - keeps --help quick

    source = SettingsSource.open(os.environ)
    path = source.read(table.DATABASE_URL)
    source.finish()
    if dry_run:
        state = schema_state(path)
        click.echo(f"{path} has schema {state.found}; this version works with schema {state.newest}.")
        return
    applied = migrate(path)
    if applied:
        click.echo(f"{path} is up to date now; steps done: {', '.join(map(str, applied))}.")
    else:
        click.echo(f"{path} was up to date already.")
