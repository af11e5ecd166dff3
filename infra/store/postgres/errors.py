"""What PostgreSQL's errors mean: bad weather that passes, or a mistake of ours."""

from __future__ import annotations

import socket
import ssl

import asyncpg  # type: ignore[import-untyped]  # it brings no types

from core.model.errors import StorageUnavailable
from infra.store.errors import NOTHING_DONE

RETRY_AFTER = 3
"""Seconds after which what failed may be tried again."""

NOT_MIGRATED = "The database is not migrated. Run telegate migrate; the server then goes on by itself."
OUTCOME_UNKNOWN = (
    "The connection to the database was lost while this was stored, so it is not known whether it was done. "
    "Try again with the same Idempotency-Key: what was done is not done twice."
)

FORGOTTEN = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""Another connection's statements are there, or none: so it is behind a transaction pooler."""

STALE = (*FORGOTTEN, asyncpg.InvalidCachedStatementError)
"""What a connection remembers of its statements is not true any more."""

CONTENDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Two transactions stood in each other's way, and this one had to yield: it succeeds when it is run again."""

READ_ONLY = asyncpg.ReadOnlySQLTransactionError
"""The server takes no changes: it is a standby, or was made one while the connection stayed open."""

BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Whatever a connection that is to be given up may raise."""

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    OSError,
)
_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
_REASONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (_REFUSED, "The database refuses the server; its log tells why."),
    (asyncpg.InsufficientPrivilegeError, "The database's role may not do this; the log tells more."),
    (asyncpg.DiskFullError, "The database has no room left."),
    (READ_ONLY, "The database takes no changes: it is read-only, as a standby is."),
    ((asyncpg.LockNotAvailableError, *CONTENDED), "Somebody else is changing the same rows."),
    ((TimeoutError, asyncpg.QueryCanceledError), "The database does not answer in time."),
    (_AWAY, "The database cannot be reached."),
)
"""What happens from outside, most special first; any other error is a mistake in our SQL."""

_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (asyncpg.InvalidPasswordError, "The user or the password in DATABASE_URL is wrong."),
    (asyncpg.InvalidAuthorizationSpecificationError, "Its pg_hba.conf or its roles do not let this user in."),
    (asyncpg.InvalidCatalogNameError, "It has no database of the name in DATABASE_URL."),
    (asyncpg.TooManyConnectionsError, "It has as many connections as it allows."),
    (asyncpg.CannotConnectNowError, "It is starting or stopping."),
    (socket.gaierror, "The host's name in DATABASE_URL cannot be resolved."),
    (ssl.SSLError, "The encryption of the connection cannot be agreed on."),
    (ConnectionRefusedError, "The connection was refused: nothing listens at the address in DATABASE_URL."),
)
"""Why, for the operator, most special first; without an address or a name: anybody may ask `/readyz`."""


class CommitUnknown(Exception):
    """The connection broke while a transaction was committed: it may or may not be stored."""


class NotMigrated(StorageUnavailable):
    """The tables are missing or older than this version needs."""

    def __init__(self) -> None:
        super().__init__(NOT_MIGRATED, retry_after=RETRY_AFTER)


def is_weather(error: BaseException) -> bool:
    """Whether it passes, or is mended, without a change in our code."""
    return _reason(error) is not None or isinstance(error, (asyncpg.UndefinedTableError, CommitUnknown))


def translate(error: Exception) -> Exception:
    """The error that whoever asked for a transaction gets; a mistake in our SQL stays what it is."""
    if isinstance(error, asyncpg.UndefinedTableError):
        translated: Exception = NotMigrated()
    elif isinstance(error, CommitUnknown):
        translated = unavailable(OUTCOME_UNKNOWN)
    elif (reason := _reason(error)) is not None:
        translated = unavailable(f"{reason} {NOTHING_DONE}")
    else:
        return error
    translated.__cause__ = error
    return translated


def unavailable(detail: str) -> StorageUnavailable:
    """The error for services, with the time after which to try again."""
    return StorageUnavailable(detail, retry_after=RETRY_AFTER)


def with_cause(error: StorageUnavailable) -> StorageUnavailable:
    """The same for whoever asks how the database does: why, and that the log has the driver's own words."""
    cause = error.__cause__
    if cause is None or type(error) is not StorageUnavailable:
        return error
    why = next((words for kind, words in _CAUSES if isinstance(cause, kind)), type(cause).__name__ + ".")
    reason = error.detail.removesuffix(NOTHING_DONE).rstrip()
    return unavailable(f"{reason} {why} The log tells more.")


def in_words(error: BaseException) -> str:
    """What the driver or the server said, for the log; neither of them is given to repeating passwords."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _reason(error: BaseException) -> str | None:
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), None)
