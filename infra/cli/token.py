"""`telegate token`: make a token for a service, and look into one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from core.model.errors import TelegateError
from core.policy.policy import Policy, ServiceGrant
from infra.auth import LONGEST_SELF_SIGNED, MAKE_ONE_WITH, TokenReport, TokenVerifier, mint, sign
from infra.auth.issuer import Issuer
from infra.cli.policy import PolicyUnusable, policy_at
from infra.config import table
from infra.config.file_names import NOT_SHOWN, is_like_a_secret
from infra.config.settings import SettingsSource, TokenIssuer, token_issuer

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_FILE = click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Policy, instead of PERMISSIONS_FILE."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")

_EXAMPLES = """\b
Examples:
  telegate token mint --service ci --role notifier
  telegate token inspect "$TOKEN"
"""
_EXAMPLES_MINT = """\b
Examples:
  telegate token mint --service ci --role notifier --lifetime 30d
  telegate token mint --service ci --role approver --key ci-1.private.pem --kid ci-1
"""
_EXAMPLES_INSPECT = """\b
Examples:
  telegate token inspect "$TOKEN"
  pbpaste | telegate token inspect -
"""


class TokenImpossible(click.ClickException):
    """No such token can be made; exit code 2."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class _Settings:
    secrets: tuple[bytes, ...]
    audience: str
    max_lifetime: int
    issuer: TokenIssuer | None


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Seconds, out of a number with `s`, `m`, `h` or `d`."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value)
    if match is None:
        raise click.BadParameter(
            f"{value} is no duration; write seconds, or a number with s, m, h or d, such as 90d.", ctx, param
        )
    return int(match[1]) * _SECONDS[match[2]]


@click.group(name="token", epilog=_EXAMPLES)
def command() -> None:
    """Make and look into the tokens that services show."""


@command.command("mint", epilog=_EXAMPLES_MINT)
@click.option("--service", required=True, help="A service of permissions.yaml.")
@click.option("--role", "roles", multiple=True, required=True, help="What it may claim; may be repeated.")
@click.option("--lifetime", callback=_seconds, help="Such as 1h or 90d. Default: the longest allowed.")
@click.option("--key", type=click.Path(path_type=Path), help="Sign with this private key (PEM) instead.")
@click.option("--kid", help="The key's name in permissions.yaml.")
@_FILE
@_JSON
def mint_command(
    *,
    service: str,
    roles: tuple[str, ...],
    lifetime: int | None,
    key: Path | None,
    kid: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print a token for a service.

    It is signed with JWT_SECRET and lives as long as JWT_MAX_LIFETIME, or, with --key and --kid, with the
    service's own private key, for an hour at most. Exits 2 when there can be no such token.
    """
    if (key is None) != (kid is None):
        raise click.UsageError(
            "--key and --kid belong together: the private key, and its name in the policy."
        )
    _, policy = policy_at(file)
    settings = _settings()
    grant = _grant(policy, service)
    _check_roles(grant, roles)
    try:
        if key is None or kid is None:
            token = _minted(grant, roles, lifetime, settings)
        else:
            token = _signed(grant, roles, lifetime, settings.audience, key=key, kid=kid)
    except ValueError as error:
        raise TokenImpossible(f"{error}.".replace("..", ".")) from error
    report = _verifier(policy, settings).inspect(token)
    if report.problems:
        raise TokenImpossible(f"the gateway would refuse this token. {' '.join(report.problems)}")
    _print_token(token, report, as_json=as_json)


@command.command("inspect", epilog=_EXAMPLES_INSPECT)
@click.argument("token")
@click.option("--offline", is_flag=True, help="Fetch no keys of an issuer.")
@_FILE
@_JSON
def inspect_command(token: str, file: Path | None, *, offline: bool, as_json: bool) -> None:
    """Tell what TOKEN says, and whether the gateway would take it; - reads it from standard input.

    The signature is checked when its key is at hand. For a token of JWT_ISSUER the issuer's keys are fetched
    from JWT_JWKS_URL, as the gateway does; nothing else asks the network, and --offline nothing at all. Exits
    0 when the token counts, 1 when it does not.
    """
    text = sys.stdin.read() if token == "-" else token  # noqa: S105 - a dash is no password
    try:
        _, policy = policy_at(file)
    except PolicyUnusable as error:
        click.echo(f"Nothing is known about services and keys, because {error.message}", err=True)
        policy = Policy()
    report = _inspected(text.strip().removeprefix("Bearer ").strip(), policy, _settings(), offline=offline)
    click.echo(json.dumps(_as_json(report), indent=2) if as_json else "\n".join(_lines(report)))
    click.get_current_context().exit(0 if report.principal else 1)


def _settings() -> _Settings:
    source = SettingsSource.open(os.environ)
    secrets = source.read(table.JWT_SECRET)
    audience = source.read(table.JWT_AUDIENCE)
    max_lifetime = source.read(table.JWT_MAX_LIFETIME)
    issuer = token_issuer(source)
    try:
        source.finish()
    except TelegateError as error:
        raise TokenImpossible(error.detail) from error
    return _Settings(tuple(one.reveal().encode() for one in secrets or ()), audience, max_lifetime, issuer)


def _inspected(token: str, policy: Policy, settings: _Settings, *, offline: bool) -> TokenReport:
    issuer = _issuer(settings)
    verifier = _verifier(policy, settings, issuer)
    if issuer is not None and not offline and verifier.is_of_issuer(token):
        with _quiet():
            asyncio.run(issuer.warm())
    return verifier.inspect(token)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the gateway's log lines about keys: the report says what could not be fetched."""
    log = logging.getLogger("telegate.tokens")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def _issuer(settings: _Settings) -> Issuer | None:
    named = settings.issuer
    if named is None:
        return None
    from infra.auth.jwks import KeyFetcher  # noqa: PLC0415 - loads aiohttp

    return Issuer(named.name, KeyFetcher(named.keys_url))


def _verifier(policy: Policy, settings: _Settings, issuer: Issuer | None = None) -> TokenVerifier:
    try:
        return TokenVerifier(
            lambda: policy,
            settings.secrets,
            settings.audience,
            settings.max_lifetime,
            time.time,
            issuer=issuer,
        )
    except ValueError as error:
        raise TokenImpossible(f"{error}.") from error


def _grant(policy: Policy, service: str) -> ServiceGrant:
    grant = policy.services.get(service)
    if grant is None:
        known = ", ".join(sorted(policy.services)) or "none"
        raise TokenImpossible(f"permissions.yaml names no service {service}. It names: {known}.")
    return grant


def _check_roles(grant: ServiceGrant, roles: tuple[str, ...]) -> None:
    wrong = [role for role in roles if role not in grant.roles]
    if wrong:
        may = ", ".join(sorted(grant.roles)) or "no role"
        raise TokenImpossible(f"{grant.name} may not claim {', '.join(wrong)}. It may claim: {may}.")


def _minted(grant: ServiceGrant, roles: tuple[str, ...], lifetime: int | None, settings: _Settings) -> str:
    if grant.keys:
        raise TokenImpossible(
            f"{grant.name} has keys in permissions.yaml, and only those count for it. "
            "Sign with one of them: --key FILE --kid NAME."
        )
    if not settings.secrets:
        raise TokenImpossible(
            "JWT_SECRET is not set. Put at least 32 random bytes into the environment or .env "
            f"({MAKE_ONE_WITH}), or give the service a key of its own: telegate keys new."
        )
    seconds = _lifetime(lifetime, settings.max_lifetime, "JWT_MAX_LIFETIME")
    return mint(settings.secrets[0], grant.name, roles, seconds, settings.audience, now=time.time())


def _signed(
    grant: ServiceGrant,
    roles: tuple[str, ...],
    lifetime: int | None,
    audience: str,
    *,
    key: Path,
    kid: str,
) -> str:
    seconds = _lifetime(lifetime, LONGEST_SELF_SIGNED, "a token that a service signs itself")
    try:
        private_key = key.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it is no name of a file").lower()
        shown = NOT_SHOWN if is_like_a_secret(str(key)) else key
        told = f"--key has to be the name of a file; {shown} cannot be read ({reason})."
        raise TokenImpossible(told) from error
    return sign(private_key, kid, grant.name, roles, lifetime=seconds, audience=audience, now=time.time())


def _lifetime(asked: int | None, longest: int, what: str) -> int:
    if asked is not None and asked > longest:
        raise TokenImpossible(
            f"the longest lifetime for {what} is {_span(longest)}; asked for: {_span(asked)}."
        )
    return asked or longest


def _span(seconds: int) -> str:
    """So many seconds in the largest unit that needs no fraction."""
    length, unit = next((each, unit) for each, unit in _UNITS if seconds % each == 0)
    count = seconds // length
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _print_token(token: str, report: TokenReport, *, as_json: bool) -> None:
    claims = report.claims
    if as_json:
        click.echo(json.dumps({"token": token, **_as_json(report)}, indent=2))
        return
    click.echo(token)
    click.echo(
        f"For {claims['sub']} with {', '.join(claims['roles'])}, until {_when(claims['exp'])}. "
        f"To revoke it, list {claims['jti']} under revoked of {claims['sub']} in permissions.yaml.",
        err=True,
    )


def _as_json(report: TokenReport) -> dict[str, Any]:
    return {
        "valid": report.principal is not None,
        "signature": report.signature,
        "problems": list(report.problems),
        "effective_roles": sorted(report.principal.roles) if report.principal else [],
        "header": _of_json(report.header),
        "claims": _of_json(report.claims),
    }


def _of_json(part: Mapping[str, Any]) -> Any:
    """What the token says; a number beyond every float is told in words, as JSON has none for it."""
    return json.loads(json.dumps(dict(part)), parse_constant=str)


def _lines(report: TokenReport) -> Iterator[str]:
    claims, header = report.claims, report.header
    rows = {
        "service": claims.get("sub"),
        "roles": _joined(claims.get("roles")),
        "effective": ", ".join(sorted(report.principal.roles)) or "none" if report.principal else None,
        "issuer": claims.get("iss"),
        "audience": _joined(claims.get("aud")),
        "issued": _when(claims.get("iat")),
        "not before": _when(claims.get("nbf")),
        "expires": _when(claims.get("exp")),
        "jti": claims.get("jti"),
        "algorithm": header.get("alg"),
        "key": header.get("kid"),
        "signature": report.signature,
    }
    for name, value in rows.items():
        if value is not None:
            yield f"{name:<11}{_printable(value)}"
    yield ""
    yield from report.problems or ("The gateway takes this token.",)


def _when(value: object) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None if value is None else repr(value)
    try:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return repr(value)


def _joined(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _printable(value: object) -> str:
    # A token's text is the sender's: it must not be able to move the cursor of a terminal.
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))
