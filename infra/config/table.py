"""The one table of settings: name, default, meaning, and how the text becomes a value.

The reader (`infra/config/settings.py`), the reference page and `.env.example` are all made from this table.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from core.model.errors import TelegateError
from infra.config.file_names import is_like_a_secret
from infra.config.postgres_address import SCHEMES as POSTGRES_SCHEMES
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret
from infra.config.strength import MAKE_ONE_WITH, why_guessable

T = TypeVar("T")

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LATER = "Not in this version"
_UNITS = {"": 1, "s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY}
_SHORTEST_JWT_SECRET = 32
_SHORTEST_WEBHOOK_SECRET = 16
_LONGEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting.

    Attributes:
        name: the environment variable.
        parse: text to value; raises `ValueError` with a sentence that says what to do.
        meaning: what it is for, as the reference page prints it.
        group: the heading under which the reference page prints it.
        default: what counts when it is not set, as text; None when there is no such value.
        default_in_words: for the reference page, where the default depends on something.
        example: a value to show in `.env.example`.
        required: whether a start without it fails.
        secret: whether messages must not show the value.
        is_path: whether the value is a path; such a setting has no `_FILE` twin.
    """

    name: str
    parse: Callable[[str], T]
    meaning: str
    group: str
    default: str | None = None
    default_in_words: str = ""
    example: str = ""
    required: bool = False
    secret: bool = False
    is_path: bool = False

    @property
    def file_name(self) -> str | None:
        """The variable that names a file with the value, or None for a path."""
        return None if self.is_path else f"{self.name}_FILE"

    @property
    def is_later(self) -> bool:
        """Whether it has no use in this version."""
        return self.group == _LATER


# Parsers. Each takes text without blanks around it, and never puts a secret into its message.


def _bot_token(text: str) -> Secret:
    # Telegram's own are longer, and it refuses others; a Telegram double may do with short ones.
    if re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]{3,}", text) is None:
        raise ValueError(
            "does not look like a bot token (digits, a colon, then letters and digits). "
            "Copy it again from @BotFather."
        )
    return Secret(text)


def _jwt_secrets(text: str) -> tuple[Secret, ...]:
    values = [value.strip() for value in text.split(",")]
    if len(values) > 2:  # noqa: PLR2004 - the old one and the new one, while a secret is rotated
        raise ValueError("holds more than two values. Give one, or two with a comma while you rotate it.")
    if any(len(value.encode()) < _SHORTEST_JWT_SECRET for value in values):
        raise ValueError(
            f"is too short: each value needs at least {_SHORTEST_JWT_SECRET} bytes. "
            f"Make one with: {MAKE_ONE_WITH}"
        )
    for value in values:
        _refuse_guessable(value, _SHORTEST_JWT_SECRET)
    return tuple(Secret(value) for value in values)


def _refuse_guessable(value: str, shortest: int) -> None:
    if weakness := why_guessable(value.encode(), shortest):
        raise ValueError(f"{weakness}. Make one with: {MAKE_ONE_WITH}")


def _metrics_token(text: str) -> Secret:
    if re.fullmatch(r"[\x21-\x7e]*", text) is None or len(text) < _SHORTEST_JWT_SECRET:
        raise ValueError(
            f"must be at least {_SHORTEST_JWT_SECRET} characters of printable ASCII without blanks. "
            f"Make one with: {MAKE_ONE_WITH}"
        )
    _refuse_guessable(text, _SHORTEST_JWT_SECRET)
    return Secret(text)


def _webhook_secret(text: str) -> Secret:
    if re.fullmatch(r"[A-Za-z0-9_-]{16,256}", text) is None:
        raise ValueError(
            f"must be {_SHORTEST_WEBHOOK_SECRET} to 256 characters of A-Z, a-z, 0-9, _ and -: Telegram takes "
            "no others, and a shorter one can be guessed. Without it, a secret is derived from the bot token."
        )
    _refuse_guessable(text, _SHORTEST_WEBHOOK_SECRET)
    return Secret(text)


def _whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,12}", text) is None or not lowest <= int(text) <= highest:
            raise ValueError(f'is "{text}", but must be a whole number from {lowest} to {highest}.')
        return int(text)

    return parse


def _duration(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,12})([smhd]?)", text)
        if match is None:
            raise ValueError(f'is "{text}", but must be seconds, or a number with s, m, h or d, like 90d.')
        seconds = int(match[1]) * _UNITS[match[2]]
        if not lowest <= seconds <= highest:
            raise ValueError(f'is "{text}", but must be from {lowest} seconds to {highest // _DAY} days.')
        return seconds

    return parse


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f'is "{text}", but must be one of: {", ".join(allowed)}.')
        return text.lower()

    return parse


def _name(text: str) -> str:
    if not text.isprintable() or any(mark.isspace() for mark in text):
        raise ValueError("must be one word of printable characters.")
    return text


def host_is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _split_address(text: str) -> SplitResult:
    """Split a web address, and refuse what no base address may have."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # a wrong port shows itself only here
    except ValueError:
        raise ValueError("is not a web address.") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("must be a whole web address, like https://bot.example.com.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name or password.")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("must end after the host, or after a path: no ? and no #.")
    return parts


def _public_url(text: str) -> str:
    parts = _split_address(text)
    if parts.scheme == "http" and not host_is_loopback(parts.hostname or ""):
        raise ValueError(
            "must start with https://: Telegram posts to nothing else, and tokens must not travel open."
        )
    return text.rstrip("/")


def _jwks_url(text: str) -> str:
    address, mark, query = text.partition("?")  # some issuers tell their key sets apart by the query
    parts = _split_address(address)
    if parts.scheme != "https":
        raise ValueError("must start with https://: on the way, open keys could be exchanged for others.")
    if "#" in query or (mark and not query):
        raise ValueError("must end after its path or its query: no # and no empty query.")
    return text


def _issuer(text: str) -> str:
    _name(text)
    if re.fullmatch(r"[a-z][a-z0-9-]{0,31}", text) is not None:
        raise ValueError(
            f'is "{text}", which a service could be called, too. It is what the issuer writes as iss, most '
            "often an address like https://issuer.example.com."
        )
    return text


def _telegram_api_url(text: str) -> str:
    _split_address(text)
    return text.rstrip("/")


def _database(text: str) -> Path | PostgresAddress:
    scheme, separator, rest = text.partition("://")
    if scheme in POSTGRES_SCHEMES and separator:
        return PostgresAddress.parse(text)
    if scheme != "sqlite" or not separator:
        raise ValueError(
            "must start with postgresql://, or with sqlite:/// (three slashes: relative path, four: absolute "
            "path)."
        )
    path = unquote(rest.removeprefix("/"))
    if (
        not rest.startswith("/")
        or path in {"", "/"}
        or ":memory:" in path
        or "?" in rest
        or path.endswith("/")
    ):
        raise ValueError(
            "must name a file, like sqlite:///data/telegate.db or sqlite:////var/lib/telegate.db."
        )
    return Path(path)


def _bind_address(text: str) -> str:
    address = text.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", address) is None or address[-1].isdigit():
            raise ValueError(
                f'is "{text}", but must be an IP address or a host name, like 127.0.0.1.'
            ) from None
    return address


def _path(text: str) -> Path:
    if is_like_a_secret(text):
        raise ValueError("has to be the name of a file; it looks like a secret instead, and is not shown.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and nobody of that name has a home here.") from None


def _person_roles(text: str) -> Mapping[int, frozenset[str]]:
    # Late: the policy file's reader brings PyYAML, and most starts of the command line do without it.
    from infra.config.permissions.file import parse_people  # noqa: PLC0415 - see above

    try:
        return MappingProxyType(parse_people(text))
    except TelegateError as error:
        raise ValueError(f"cannot be read: {error.detail}") from error


def _yes_or_no(text: str) -> bool:
    if text.lower() not in {"0", "1", "true", "false", "yes", "no", "on", "off"}:
        raise ValueError(f'is "{text}", but must be 1 or 0.')
    return text.lower() in {"1", "true", "yes", "on"}


# The table.

_TELEGRAM, _SERVICES, _PEOPLE = "Telegram", "Services and their tokens", "People and permissions"
_NETWORK, _STORAGE, _LIMITS, _LOGS = "Network", "Storage", "Limits", "Logs"

BOT_TOKEN: Final = Setting(
    "BOT_TOKEN",
    _bot_token,
    "The token that @BotFather gave you for the bot.",
    _TELEGRAM,
    example="123456789:AAAA-the-rest-of-the-token-from-BotFather",
    required=True,
    secret=True,
)
PUBLIC_URL: Final[Setting[str | None]] = Setting(
    "PUBLIC_URL",
    _public_url,
    "The address under which Telegram and the services reach this server; `https://`, or `http://` on "
    "loopback for the sandbox. A path in it is kept. Needed to set the webhook.",
    _TELEGRAM,
    example="https://bot.example.com",
)
WEBHOOK_SECRET: Final[Setting[Secret | None]] = Setting(
    "WEBHOOK_SECRET",
    _webhook_secret,
    "What Telegram sends in `X-Telegram-Bot-Api-Secret-Token`: 16 to 256 characters of `A-Z a-z 0-9 _ -`, "
    "random ones.",
    _TELEGRAM,
    default_in_words="derived from the bot token: the hexadecimal HMAC-SHA-256 of `telegate webhook secret` "
    "with the bot token as key",
    secret=True,
)
WEBHOOK_HEAL: Final = Setting(
    "WEBHOOK_HEAL",
    _yes_or_no,
    "`1`: when the webhook is gone, points somewhere else, or has not worked for two minutes, the server "
    "sets it again, as `telegate webhook set` does, at most three times within ten minutes. Needs "
    "`PUBLIC_URL`. `0`: it only says so, in the log and in `/readyz`.",
    _TELEGRAM,
    default="0",
)
TELEGRAM_API_URL: Final = Setting(
    "TELEGRAM_API_URL",
    _telegram_api_url,
    "Where the Bot API is: a local Bot API server, or the sandbox.",
    _TELEGRAM,
    default="https://api.telegram.org",
)
JWT_SECRET: Final[Setting[tuple[Secret, ...] | None]] = Setting(
    "JWT_SECRET",
    _jwt_secrets,
    "Signs and checks the tokens of services that have no key of their own (HS256). At least 32 bytes, "
    "random ones: published examples, repetitions and what has under 56 bits of variety are refused. Two "
    "values with a comma between them while it is rotated: both are accepted, the first one signs.",
    _SERVICES,
    default_in_words="none; then a service in the policy must have a key, or there is an issuer",
    secret=True,
)
JWT_AUDIENCE: Final = Setting(
    "JWT_AUDIENCE", _name, "What tokens must name in `aud`.", _SERVICES, default="telegate"
)
JWT_MAX_LIFETIME: Final = Setting(
    "JWT_MAX_LIFETIME",
    _duration(_MINUTE, 3650 * _DAY),
    "The longest life of a token signed with `JWT_SECRET`: seconds, or a number with `s`, `m`, `h` or `d`.",
    _SERVICES,
    default="90d",
)
JWT_JWKS_URL: Final[Setting[str | None]] = Setting(
    "JWT_JWKS_URL",
    _jwks_url,
    "Where a token issuer publishes its keys (JWKS); `https://`. Its tokens count for services without keys "
    "of their own. Needs `JWT_ISSUER`. See [Tokens of an issuer](../how-to/token-issuer.md).",
    _SERVICES,
    default_in_words="none: no issuer",
    example="https://issuer.example.com/realms/main/protocol/openid-connect/certs",
)
JWT_ISSUER: Final[Setting[str | None]] = Setting(
    "JWT_ISSUER",
    _issuer,
    "What that issuer's tokens name in `iss`, letter for letter. Needs `JWT_JWKS_URL`.",
    _SERVICES,
    default_in_words="none: no issuer",
    example="https://issuer.example.com/realms/main",
)
METRICS_TOKEN: Final[Setting[Secret | None]] = Setting(
    "METRICS_TOKEN",
    _metrics_token,
    "Lets Prometheus, which cannot sign tokens, read `GET /metrics` and nothing else: it sends "
    "`Authorization: Bearer` and this text. At least 32 characters of printable ASCII without blanks.",
    _SERVICES,
    default_in_words="none; then only a service whose role names `GET /metrics` may read it",
    secret=True,
)
PERMISSIONS_FILE: Final = Setting(
    "PERMISSIONS_FILE",
    _path,
    "The policy: which service and which person may do what.",
    _PEOPLE,
    default="permissions.yaml",
    is_path=True,
)
PERSON_ROLES: Final[Setting[Mapping[int, frozenset[str]] | None]] = Setting(
    "PERSON_ROLES",
    _person_roles,
    "The roles of people by their numeric Telegram id. Several roles: `815:operator|viewer`. "
    "A bare id gets the role `operator`.",
    _PEOPLE,
    default_in_words="nobody has a role",
    example="815:operator,4711:viewer",
)
PORT: Final = Setting(
    "PORT",
    _whole_number(0, _LONGEST_PORT),
    "The port to listen on; 0 takes any free one.",
    _NETWORK,
    default="8080",
)
BIND_ADDRESS: Final[Setting[str | None]] = Setting(
    "BIND_ADDRESS",
    _bind_address,
    "The address to listen on.",
    _NETWORK,
    default_in_words="`0.0.0.0` when `PORT` is set, otherwise `127.0.0.1`",
)
TRUSTED_PROXIES: Final = Setting(
    "TRUSTED_PROXIES",
    _whole_number(0, 16),
    "How many routers stand in front and add `X-Forwarded-Proto` and `X-Forwarded-For`; "
    "0 ignores such headers. When all connections are taken, it also says who has most of them.",
    _NETWORK,
    default="0",
)
TLS_CERT_FILE: Final[Setting[Path | None]] = Setting(
    "TLS_CERT_FILE",
    _path,
    "The certificate (PEM, with its chain), when the server itself terminates TLS. Needs `TLS_KEY_FILE`.",
    _NETWORK,
    default_in_words="none: plain HTTP",
    is_path=True,
)
TLS_KEY_FILE: Final[Setting[Path | None]] = Setting(
    "TLS_KEY_FILE",
    _path,
    "The private key of that certificate (PEM, not encrypted).",
    _NETWORK,
    default_in_words="none: plain HTTP",
    is_path=True,
)
WEB_CONCURRENCY: Final = Setting(
    "WEB_CONCURRENCY",
    _whole_number(1, 64),
    "The number of server processes. With SQLite it is always one, and the log says so.",
    _NETWORK,
    default="1",
)
SHUTDOWN_GRACE: Final = Setting(
    "SHUTDOWN_GRACE",
    _whole_number(1, 600),
    "Seconds that the platform gives the server between SIGTERM and SIGKILL "
    "(Railway 3, Fly 5, Cloud Run and Dokku 10, Heroku and Render 30).",
    _NETWORK,
    default="10",
)
DATABASE_URL: Final = Setting(
    "DATABASE_URL",
    _database,
    "The database: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db` for one process, "
    "`postgresql://user:password@host/name` for several. `?sslmode=` and what else PostgreSQL's own clients "
    "know is understood; `?pgbouncer=true` says that a transaction pooler stands in front.",
    _STORAGE,
    default="sqlite:///data/telegate.db",
    secret=True,
)
RETENTION_DAYS: Final = Setting(
    "RETENTION_DAYS",
    _whole_number(1, 3650),
    "Days after which finished tasks are deleted.",
    _STORAGE,
    default="30",
)
MAX_WAIT_SECONDS: Final = Setting(
    "MAX_WAIT_SECONDS",
    _whole_number(1, 3600),
    "The longest time that one request is held for an answer. Common routers cut at 30 s; raise it where "
    "none is in front.",
    _LIMITS,
    default="25",
)
SEND_RATE: Final = Setting(
    "SEND_RATE",
    _whole_number(0, 10_000),
    "Messages a second to all chats together. Telegram takes about 30, and up to 1,000 with paid broadcasts; "
    "each chat has limits of its own. 0: as fast as they come, until Telegram says that it is too many.",
    _LIMITS,
    default="30",
)
MAX_CONNECTIONS: Final = Setting(
    "MAX_CONNECTIONS",
    _whole_number(1, 1_000_000),
    "Open connections of one server process. For one more, an unused one is closed; when there is none, it "
    "is answered `503`. One service may have nine tenths at work.",
    _LIMITS,
    default="12000",
)
LOG_FORMAT: Final[Setting[str | None]] = Setting(
    "LOG_FORMAT",
    _one_of("text", "json"),
    "`text` for people, `json` for machines (one object per line).",
    _LOGS,
    default_in_words="`text` on a terminal, `json` otherwise",
)
LOG_LEVEL: Final = Setting(
    "LOG_LEVEL",
    _one_of("debug", "info", "warning", "error"),
    "The least important lines that are written: `debug`, `info`, `warning` or `error`.",
    _LOGS,
    default="info",
)
DELIVERY_ALLOW_PRIVATE: Final[Setting[bool | None]] = Setting(
    "DELIVERY_ALLOW_PRIVATE",
    _yes_or_no,
    "Lets deliveries go to private addresses, for local work. No effect yet: a warning at start.",
    _LATER,
)

TABLE: Final[tuple[Setting[Any], ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Setting)
)

# `DELIVERY_SECRET_<SERVICE>`: as many as there are services, so no row of the table.
DELIVERY_SECRET_PREFIX: Final = "DELIVERY_SECRET_"  # noqa: S105 - the beginning of a name, not a secret
