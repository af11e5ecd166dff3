"""`telegate sweep`: work off what is due, where no server runs that would."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import click

from core.model.errors import StorageUnavailable
from infra.config.settings import Settings
from infra.observability.logs import configure_logging
from infra.store.errors import AlreadyServed, StoreRefused

_EXAMPLES = """\b
Examples:
  telegate sweep
  */5 * * * *  cd /srv/telegate && telegate sweep        (in a crontab)
"""

_SERVED = (
    "A server works on this database, and works off by itself what is due, so nothing was done here. If its "
    "platform freezes it, call POST /v1/sweep, which wakes it."
)
_BROKEN = 1


class _NotNow(click.ClickException):
    """The database cannot do it now; exit code 1."""

    exit_code = _BROKEN


@click.command(name="sweep", epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(*, as_json: bool) -> None:
    """Work off what is due: expiry, tries again, leftovers, old tasks.

    A server does this by itself. This is for platforms that stop it while nothing happens; where they only
    freeze it, let their scheduler call POST /v1/sweep. While a server has the SQLite file, there is nothing
    to do here, and that is no error. Exits 1 when the database does not answer.
    """
    settings = Settings.from_environment()
    configure_logging(log_format=settings.log_format, level="warning", secrets=settings.secrets)
    try:
        done = asyncio.run(_sweep(settings))
    except AlreadyServed:
        click.echo(json.dumps({"done": 0, "served": True}) if as_json else _SERVED)
    except StoreRefused:
        raise
    except StorageUnavailable as error:
        raise _NotNow(error.detail) from error
    else:
        click.echo(json.dumps({"done": done, "served": False}) if as_json else _in_words(done))


async def _sweep(settings: Settings) -> int:
    from infra.app import Substitutes, lay_foundation, start_engine  # noqa: PLC0415 - brings the whole server

    async with AsyncExitStack() as stack:
        # A server that starts meanwhile waits for the file as long as its grace time, and a bit.
        foundation = await lay_foundation(settings, stack, Substitutes(), lock_wait=0)
        engine = await start_engine(foundation, stack, Substitutes())
        return await engine.scheduler.sweep(patience=settings.shutdown_grace)


def _in_words(done: int) -> str:
    if done == 0:
        return "Nothing was due."
    return "1 due thing was worked on." if done == 1 else f"{done} due things were worked on."
