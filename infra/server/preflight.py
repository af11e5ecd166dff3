"""What a server needs to start, looked at whole: settings, policy, a key for tokens, and the certificate."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from core.model.errors import TelegateError
from infra.config import table
from infra.config.permissions.file import PolicyFile, PolicyFileError
from infra.config.settings import (
    HOW_TO_SIGN,
    NO_KEY_AT_ALL,
    Settings,
    SettingsError,
    SettingsSource,
    unknown_names,
)

if TYPE_CHECKING:
    from infra.server.tls import ReloadingTls

_TRIES = 5
_PAUSE = 0.5


class StartRefused(TelegateError):
    """A server cannot start as it is set up; the text names everything that is wrong."""


def prepare(hear: Callable[[Settings], None]) -> tuple[Settings, ReloadingTls | None]:
    """Read all that a start needs; what depends on a wrong setting is left out, and nothing is guessed.

    Args:
        hear: called with the settings as soon as they are known to be good, before anything else is read.

    Raises:
        StartRefused: with every problem at once.
    """
    source = SettingsSource.open(os.environ)
    unknown, problems, settings = list(unknown_names(source.dotenv)), [], None
    try:
        settings = Settings.from_environment()
        hear(settings)
    except SettingsError as error:
        problems += [problem for problem in error.problems if problem not in unknown]
    policy, refusal = _policy(source)
    problems += _without_key(source, policy)
    tls, useless = _tls(source)
    problems += useless
    if settings is None or problems or refusal is not None:
        raise StartRefused("\n\n".join(_in_words([*problems, *unknown] if problems else [], refusal)))
    return settings, tls


def _policy(source: SettingsSource) -> tuple[PolicyFile | None, PolicyFileError | None]:
    # A problem with either setting is told with the others; a policy can be judged without people.
    path, people = source.read(table.PERMISSIONS_FILE), source.read(table.PERSON_ROLES)
    try:
        return PolicyFile.opened(path, people or {}), None
    except PolicyFileError as error:
        return None, error


def _without_key(source: SettingsSource, policy: PolicyFile | None) -> Iterable[str]:
    """That no token could be accepted, unless something was given, however wrong it may be."""
    if source.is_given(table.JWT_SECRET, table.JWT_JWKS_URL, table.JWT_ISSUER):
        return
    if policy is None:
        yield f"JWT_SECRET is missing; it is needed unless a service in the policy has a key. {HOW_TO_SIGN}"
    elif not policy.current.keys:
        yield NO_KEY_AT_ALL


def _tls(source: SettingsSource) -> tuple[ReloadingTls | None, list[str]]:
    certificate, key = source.read(table.TLS_CERT_FILE), source.read(table.TLS_KEY_FILE)
    if certificate is None or key is None:
        return None, []
    from infra.server.tls import ReloadingTls, TlsError  # noqa: PLC0415 - only with TLS

    try:
        return ReloadingTls(certificate, key), []
    except TlsError as error:
        return None, [f"TLS_CERT_FILE and TLS_KEY_FILE cannot be used. {error.detail}"]


def _in_words(problems: list[str], refusal: PolicyFileError | None) -> Iterable[str]:
    if problems:
        yield SettingsError(problems).detail
    if refusal is not None:
        yield f"The policy cannot be used, either:\n\n{refusal.detail}" if problems else refusal.detail


def require_address(host: str, port: int, pause: Callable[[float], None] = time.sleep) -> None:
    """Look whether a server could listen there; one that stops just now is given two seconds to let go.

    Args:
        host: an address or a name, without brackets.
        port: 0 means any.
        pause: sleeps for so many seconds.

    Raises:
        StartRefused: it could not.
    """
    for left in reversed(range(_TRIES)):
        try:
            _bind_once(host, port)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not (taken and left):
                raise StartRefused(_no_address(host, port, error)) from error
            pause(_PAUSE)
        else:
            return


def _bind_once(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server does: connections of the one before, which linger for a minute, are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _no_address(host: str, port: int, error: OSError) -> str:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = (error.strerror or type(error).__name__).lower()
    if error.errno == errno.EADDRINUSE:
        mend = "Another program listens there, most likely another server: stop it, or choose another PORT."
    else:
        mend = "Set BIND_ADDRESS to an address of this machine, and PORT to one that the server may use."
    return f"The server cannot listen on {place} ({reason}). {mend}"
