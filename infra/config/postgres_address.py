"""Where a PostgreSQL database is, and how it wants to be talked to: `DATABASE_URL`, read and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from infra.config.secret import Secret

SCHEMES = frozenset({"postgres", "postgresql"})
POOLED = "pgbouncer"
"""The parameter by which providers mark the address of a transaction pooler."""

_YES = frozenset({"true", "1", "yes", "on"})
_SYSTEM_ROOTS = "system"
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg itself reads (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
_READ_BY_DRIVER = frozenset({
    "host", "port", "user", "password", "passfile", "dbname", "sslmode", "sslcert", "sslkey", "sslrootcert",
    "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "target_session_attrs", "options",
})  # fmt: skip
# Of libpq, and without a meaning for us: our own time limits and name count. SCRAM without channel binding is
# what asyncpg speaks.
_PASSED_OVER = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssencmode", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout",
})  # fmt: skip
_SHORTEST_ALONE = 12
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@/]*)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A PostgreSQL database.

    Attributes:
        url: for the driver, with the password.
        place: host and database, for people to read; no secret is in it.
        pooled: whether a transaction pooler stands in front, which remembers no prepared statements.
        system_roots: whether the server's certificate is checked against the system's own authorities.
    """

    url: Secret
    place: str
    pooled: bool = False
    system_roots: bool = False

    @classmethod
    def parse(cls, text: str) -> PostgresAddress:
        """Read a URL as `postgresql://user:password@host:5432/name?sslmode=require`.

        Raises:
            ValueError: with a sentence that says what is wrong, and shows nothing of the URL.
        """
        parts = _split(text)
        query = _query(parts.query)
        kept = {name: value for name, value in query.items() if name in _READ_BY_DRIVER}
        if system_roots := kept.get("sslrootcert") == _SYSTEM_ROOTS:
            # asyncpg would take it for a file. It means that all is verified (libpq says so, too).
            del kept["sslrootcert"]
            kept.pop("sslmode", None)
        host = parts.netloc.rpartition("@")[2] or query.get("host") or "localhost"
        name = unquote(parts.path.removeprefix("/")) or query.get("dbname", "")
        return cls(
            Secret(urlunsplit(parts._replace(query=urlencode(kept)))),
            f"{name} on {host}" if name else host,
            pooled=query.get(POOLED, "").lower() in _YES,
            system_roots=system_roots,
        )

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be shown: the URL, and the password alone, as written and as meant.

        A password that may be a common word ("postgres") is meant only where it stands as one; otherwise the
        log would be full of holes.
        """
        parts = urlsplit(self.url.reveal())
        written = [parts.netloc.rpartition("@")[0].partition(":")[2]]
        written += [value for name, value in _pairs(parts.query) if "password" in name]
        found = {each for word in written for each in (word, unquote(word)) if each}
        shown = {word if len(word) >= _SHORTEST_ALONE else f":{word}@" for word in found}
        return (self.url, *map(Secret, sorted(shown)))


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(
            "is no PostgreSQL address. It looks like postgresql://user:password@host:5432/name."
        ) from None
    _, _, hosts = parts.netloc.rpartition("@")
    if (
        parts.netloc.count("@") > 1
        or any(_HOST.fullmatch(host) is None for host in hosts.split(","))
        or parts.fragment
    ):
        raise ValueError(
            "cannot be told apart into name, password, host and port. Signs like @ : / ? # in a password are "
            "written as %40 %3A %2F %3F %23."
        )
    return parts


def _query(text: str) -> dict[str, str]:
    query = dict(_pairs(text))
    if unknown := sorted(query.keys() - _READ_BY_DRIVER - _PASSED_OVER - {POOLED}):
        raise ValueError(
            f"has a parameter that PostgreSQL's own clients do not know ({', '.join(unknown)}). Remove it. "
            "TLS is asked for by sslmode=require."
        )
    mode = query.get("sslmode", "prefer")
    if mode not in _TLS_MODES:
        raise ValueError(f"has an unknown sslmode; it is one of: {', '.join(_TLS_MODES)}.")
    if "port" in query and re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", query["port"]) is None:
        raise ValueError("has a port that is not a number.")
    return query


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)
