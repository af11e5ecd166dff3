"""`telegate cert`: a self-signed certificate for the webhook."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from infra.server.tls import DEFAULT_DAYS, self_signed_pair

_EPILOG = """\b
Examples:
  telegate cert new --host bot.example.com
  telegate cert new --host 203.0.113.7 --out config/secrets
"""


class PairNotWritten(click.ClickException):
    """The certificate and its key could not be written; exit code 2."""

    exit_code = 2


@click.group("cert", epilog=_EPILOG)
def command() -> None:
    """Make a self-signed certificate for the webhook.

    Only needed where neither a platform nor a certificate authority gives you one.
    """


@command.command("new", epilog=_EPILOG)
@click.option("--host", required=True, help="The host name or IP address of PUBLIC_URL.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder for certificate.pem and key.pem.  [default: this one]",
)
@click.option("--days", default=DEFAULT_DAYS, show_default=True, help="How long it is valid.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
def new(host: str, out: Path, days: int, *, force: bool) -> None:
    """Write certificate.pem and key.pem, and say what to do with them.

    The certificate is what Telegram gets with `telegate webhook set`; the key stays here.
    """
    certificate, key = out / "certificate.pem", out / "key.pem"
    present = [str(path) for path in (certificate, key) if path.exists()]
    if present and not force:
        raise click.UsageError(
            f"{' and '.join(present)} would be replaced. Use another --out, or --force if you mean it."
        )
    texts = self_signed_pair(host, days)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write(key, texts[1], 0o600)
        _write(certificate, texts[0], 0o644)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise PairNotWritten(
            f"{out.absolute()} cannot be written to ({reason}). Choose another --out."
        ) from error
    click.echo(_next_steps(host, certificate, key))


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, and never readable for others while it is written."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _next_steps(host: str, certificate: Path, key: Path) -> str:
    address = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"""\
{certificate} is what the world may see, {key} is what nobody else may read.

Set, in the environment or in .env:

  PUBLIC_URL=https://{address}:8443
  PORT=8443
  TLS_CERT_FILE={certificate.absolute()}
  TLS_KEY_FILE={key.absolute()}

(Telegram posts to the ports 443, 80, 88 and 8443 only.) Then:

  telegate serve          in one terminal, or as a service
  telegate webhook set    uploads the certificate to Telegram"""
