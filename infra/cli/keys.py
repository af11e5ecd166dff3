"""`telegate keys`: a key pair with which a service signs its own tokens."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from infra.cli.policy import PolicyUnusable, policy_at
from infra.private_folder import make_private_folder

_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

_EXAMPLES_KEYS = """\b
Example:
  telegate keys new --service ci --out ~/ci-secrets
"""
_EXAMPLES_NEW = """\b
Examples:
  telegate keys new --service ci
  telegate keys new --service ci --kid ci-2026-11 --out ~/ci-secrets
"""


class KeyNotWritten(click.ClickException):
    """The private key could not be written; exit code 2."""

    exit_code = 2


@click.group(name="keys", epilog=_EXAMPLES_KEYS)
def command() -> None:
    """Keys of services: the gateway knows the public half only."""


@command.command("new", epilog=_EXAMPLES_NEW)
@click.option("--service", required=True, help="The service that will sign with it.")
@click.option("--kid", help="The key's name. Default: the first of SERVICE-1, SERVICE-2, … that is free.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the private key. Default: this one.",
)
@click.option("--file", "file", type=click.Path(path_type=Path), help="Policy, instead of PERMISSIONS_FILE.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def new(service: str, kid: str | None, out: Path, file: Path | None, *, as_json: bool) -> None:
    """Make an Ed25519 pair: a private key for the service, and the lines for permissions.yaml.

    The private key is written to KID.private.pem, readable by you alone. It belongs to the service; the
    gateway never needs it. Exits 2 when the file cannot be written; a file that is there is never touched.
    """
    from infra.config.permissions.keys import new_pair  # noqa: PLC0415 - loads cryptography

    if not _SERVICE.fullmatch(service):
        raise click.UsageError(f"{service} is no name for a service: small letters, digits and hyphens.")
    kid = kid or _free_kid(service, file)
    if not _KID.fullmatch(kid):
        raise click.UsageError(f"{kid} is no name for a key: letters, digits, dots, hyphens and underscores.")
    private, public = new_pair()
    path = out / f"{kid}.private.pem"
    _write_private(path, private)
    if as_json:
        told = {"service": service, "kid": kid, "private_key_file": str(path), "public_key": public}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"The private key is in {path}. Give it to {service}, and to nobody else.", err=True)
    click.echo("Put this into permissions.yaml:\n", err=True)
    click.echo(_snippet(service, kid, public))


def _free_kid(service: str, file: Path | None) -> str:
    try:
        taken = policy_at(file)[1].keys
    except PolicyUnusable as error:
        click.echo(f"Whether the key's name is free is not known, because {error.message}", err=True)
        return f"{service}-1"
    return next(kid for number in range(1, len(taken) + 2) if (kid := f"{service}-{number}") not in taken)


def _write_private(path: Path, text: str) -> None:
    try:
        make_private_folder(path.parent)
        # Created readable by the owner alone: a later chmod would leave a moment in which others can read.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise KeyNotWritten(f"{path} cannot be written ({reason}). Choose another --kid or --out.") from error


def _snippet(service: str, kid: str, public: str) -> str:
    pem = "\n".join(f"          {line}" for line in public.splitlines())
    return f"services:\n  {service}:\n    keys:\n      - kid: {kid}\n        public_key: |\n{pem}"
