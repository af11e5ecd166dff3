"""The command line: `telegate …`, or `python -m infra …`. A command is loaded when it is called."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from core.model.errors import TelegateError

# Short helps stand here, so that `telegate --help` imports none of the commands.
_COMMANDS: Final[dict[str, str]] = {
    "dev": "Start the gateway and the sandbox on this machine, to try things out.",
    "serve": "Start the server, as the Procfile does.",
    "token": "Make a token for a service, or look into one.",
    "keys": "Make a key pair for a service.",
    "policy": "Check permissions.yaml, and explain who may do what.",
    "webhook": "Set, show or delete the webhook at Telegram.",
    "cert": "Make a self-signed certificate for the webhook.",
    "migrate": "Bring the database up to date.",
    "sweep": "Work off what is due, where no server does.",
}

_EPILOG = """\b
Examples:
  telegate dev
  telegate token mint --service ci --role notifier
  telegate policy explain --service ci "POST /v1/questions" --chat ops
  telegate COMMAND --help

\b
Exit codes:
  0  done
  1  the answer is no, or something that was looked at is broken
  2  the command line, the settings or the policy are wrong
  3  the server cannot start

Settings come from the environment and from .env.
"""


class _Refused(click.ClickException):
    """Settings, policy or files are wrong; told on stderr, exit code 2."""

    exit_code = 2


class _Commands(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which one meets them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"infra.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error that an operator has to be told is told without a traceback."""
        try:
            return super().invoke(ctx)
        except TelegateError as error:
            raise _Refused(error.detail) from error


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="telegate", prog_name="telegate")
def main() -> None:
    """Telegram behind a REST API: services ask, people tap, the answer is the HTTP response."""
