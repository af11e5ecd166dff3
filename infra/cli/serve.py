"""`telegate serve`: the server, started as the Procfile starts it."""

from __future__ import annotations

import os
import sys

import click

_EPILOG = """\b
Examples:
  telegate serve
  telegate serve --port 9000
  BIND_ADDRESS=0.0.0.0 SHUTDOWN_GRACE=30 telegate serve

\b
Stop it with Ctrl-C, or with SIGTERM: waiting requests are answered first.
Exit code 3 means that it could not start; the lines above it say why.
"""


@click.command("serve", epilog=_EPILOG)
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of PORT; 0 takes any free one.")
def command(port: int | None) -> None:
    """Start the server, as the Procfile does.

    Everything else is a setting: see docs/reference/settings.md.
    """
    if port is not None:
        # A port from a platform opens the server to every address; one typed by hand does not.
        if not (os.environ.get("PORT") or os.environ.get("BIND_ADDRESS")):
            os.environ["BIND_ADDRESS"] = "127.0.0.1"
        os.environ["PORT"] = str(port)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, gunicorn_command())  # noqa: S606 - our own interpreter, no shell


def gunicorn_command() -> list[str]:
    """What the Procfile's `web:` line runs, with this very interpreter."""
    return [sys.executable, "-m", "gunicorn", "-c", "python:infra.server.gunicorn", "infra.app:create_app"]
