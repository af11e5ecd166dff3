"""Settings: read once from the environment and `.env`, all problems told together."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from core.model.errors import TelegateError
from infra.config import table
from infra.config.dotenv import DotenvFile, read_dotenv
from infra.config.file_names import NOT_SHOWN, shown_name
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret

__all__ = ["Secret", "Settings", "SettingsError", "SettingsSource", "TlsFiles", "TokenIssuer"]

T = TypeVar("T")

HOW_TO_SIGN: Final = (
    "Set JWT_SECRET to at least 32 random bytes, or give a service a key (telegate keys new), or name an "
    "issuer of tokens (JWT_JWKS_URL and JWT_ISSUER)."
)
NO_KEY_AT_ALL: Final = (
    "JWT_SECRET is missing, and no service in the policy has a key: no token could be accepted. "
    + HOW_TO_SIGN
)

_LONGEST_VALUE_FILE = 65_536
_ALIKE = 0.75
_PLATFORM_MARKS = ("DYNO", "RENDER", "RAILWAY_PROJECT_ID", "FLY_APP_NAME")


class SettingsError(TelegateError):
    """One setting or several are missing or wrong; the text names each and says what to do.

    Args:
        problems: one sentence each, beginning with the name of the variable.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = "One setting is" if len(self.problems) == 1 else f"{len(self.problems)} settings are"
        listed = "\n".join(f"  * {problem}" for problem in self.problems)
        super().__init__(
            f"{count} missing or wrong:\n\n{listed}\n\n"
            "Settings come from the environment and from .env; docs/reference/settings.md lists them all."
        )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate and its private key are (both PEM)."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Who signs tokens for services: what it writes as `iss`, and where its keys are."""

    name: str
    keys_url: str


class SettingsSource:
    """The places that settings come from, and the problems found so far.

    Read as many settings as you need, then call `finish`, and use the values only when it returned.

    Args:
        environ: the environment; it wins over the file.
        dotenv: what `.env` says.
    """

    def __init__(self, environ: Mapping[str, str], dotenv: DotenvFile) -> None:
        self._layers: tuple[tuple[str, Mapping[str, str]], ...] = (
            ("the environment", environ),
            (str(dotenv.path), dotenv.values),
        )
        self.environ = environ
        self.dotenv = dotenv
        self.problems: list[str] = list(dotenv.problems)

    @classmethod
    def open(cls, environ: Mapping[str, str], dotenv: Path | None = Path(".env")) -> SettingsSource:
        """The environment and a `.env` file (None: no file)."""
        return cls(environ, DotenvFile(Path(".env")) if dotenv is None else read_dotenv(dotenv))

    def read(self, setting: table.Setting[T]) -> T:
        """The value of one setting, or its default; a problem is noted for `finish`."""
        text, origin = self._text(setting)
        if text is None:
            text = setting.default
        if text is None:
            if setting.required and not self._is_noted(setting):
                self.problems.append(f"{setting.name} is missing. Set it: {setting.meaning}")
            # A missing value without default is None by its type, or `finish` will raise.
            return cast("T", None)
        try:
            return setting.parse(text.strip())
        except ValueError as error:
            self.problems.append(f"{setting.name} {origin}{error}")
            return cast("T", None)

    def is_set(self, setting: table.Setting[T]) -> bool:
        """Whether a value was given, directly or by a file; as for `_text`, the first layer counts."""
        names = [name for name in (setting.name, setting.file_name) if name is not None]
        for _, layer in self._layers:
            if found := [layer[name] for name in names if name in layer]:
                return any(value.strip() for value in found)
        return False

    def is_given(self, *settings: table.Setting[Any]) -> bool:
        """Whether a value was given for one of them, be it on a line of `.env` that cannot be read."""
        names = {name for setting in settings for name in (setting.name, setting.file_name)}
        return any(map(self.is_set, settings)) or not names.isdisjoint(self.dotenv.unread)

    def names(self) -> list[str]:
        """Every variable that is set, in the environment or in `.env`."""
        return sorted({name for _, layer in self._layers for name, value in layer.items() if value.strip()})

    def finish(self) -> None:
        """Raise `SettingsError` when anything was wrong.

        A name that is no setting stands in the list, too: it may be why another one is missing.
        """
        if self.problems:
            raise SettingsError([*self.problems, *unknown_names(self.dotenv)])

    def _text(self, setting: table.Setting[T]) -> tuple[str | None, str]:
        """The text from the first layer that names the setting: a layer is never mixed with the next.

        Returns:
            The text, and where it stands when that is a file of its own, in words for a message.
        """
        twin = setting.file_name
        for place, layer in self._layers:
            direct = layer.get(setting.name)
            pointer = layer.get(twin) if twin is not None else None
            if direct and pointer:
                self.problems.append(
                    f"{setting.name} and {twin} are both set in {place}. Keep one of the two."
                )
                return None, ""
            if pointer and twin is not None:
                return self._read_file(twin, pointer, secret=setting.secret)
            if direct is not None or pointer is not None:
                return (direct if direct is not None and direct.strip() else None), ""
        return None, ""

    def _read_file(self, name: str, pointer: str, *, secret: bool) -> tuple[str | None, str]:
        """What the file says, and where that stands, in words for a message."""
        path = Path(pointer)
        try:
            path = path.expanduser()
            with path.open("rb") as file:
                # Editors of other systems write a mark before the text, which would become part of a secret.
                text = file.read(_LONGEST_VALUE_FILE + 1).decode("utf-8-sig")
        except UnicodeDecodeError:
            trouble = "is not UTF-8 text"
        except (OSError, RuntimeError, ValueError) as error:
            # A home that nobody has is a RuntimeError, and a NUL character in the name a ValueError.
            reason = (getattr(error, "strerror", None) or "it is no name of a file").lower()
            trouble = f"cannot be read ({reason})"
        else:
            if text.strip() and len(text) <= _LONGEST_VALUE_FILE:
                return text, f"(in {path}, which {name} names) "
            trouble = "is too large" if text.strip() else "is empty"
        shown = shown_name(path) if secret else str(path)
        if shown is None:
            told = f"{name} names {NOT_SHOWN}, and which {trouble}. It has to be the name of a file."
        else:
            told = f"{name} names {shown}, which {trouble}."
        self.problems.append(told)
        return None, ""

    def _is_noted(self, setting: table.Setting[T]) -> bool:
        """Whether something was told already about a value that is given, or about its line in `.env`."""
        if not self.dotenv.unread.isdisjoint((setting.name, setting.file_name)):
            return True
        beginnings = (f"{setting.name} ", f"{setting.name}_FILE ")
        return any(problem.startswith(beginnings) for problem in self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the operator chose; made once, in the composition root.

    Durations are seconds. Secrets are wrapped, so that a `repr` of the settings shows none.

    Attributes:
        bot_token: the bot's token.
        public_url: the address from outside, without a slash at its end, or None.
        webhook_secret: what Telegram must send; given, or derived from the bot token.
        webhook_heal: whether the server sets the webhook again when something is wrong with it.
        telegram_api_url: where the Bot API is, without a slash at its end.
        jwt_secrets: the HS256 secrets; the first one signs; empty when services bring keys.
        jwt_audience: what tokens must name in `aud`.
        jwt_max_lifetime: the longest life of a token signed with one of `jwt_secrets`.
        jwt_issuer: who else signs tokens.
        metrics_token: what Prometheus sends to read `/metrics`; None when only services may.
        permissions_file: the policy file.
        person_roles: the roles of people, by their id.
        port: the port to listen on; 0 means any.
        bind_address: the address to listen on, without brackets.
        trusted_proxies: how many routers in front add `X-Forwarded-*` headers.
        tls: the certificate and key, when the server terminates TLS itself.
        processes: how many server processes run; with SQLite it is one.
        shutdown_grace: from SIGTERM to SIGKILL.
        database: the SQLite file, or where PostgreSQL is.
        retention_days: days after which finished tasks are deleted.
        max_wait_seconds: the longest time that a request is held.
        send_rate: messages a second to all chats together; 0 for no limit.
        max_connections: open connections of one process.
        log_format: `text`, `json`, or None for "text on a terminal, JSON otherwise".
        log_level: `debug`, `info`, `warning` or `error`.
        durability: `until_redeploy` when the database is on a disk that a deploy throws away.
        warnings: sentences to be logged at start.
        mistyped: those of them about names in `.env` that are no settings.
    """

    bot_token: Secret
    public_url: str | None
    webhook_secret: Secret
    webhook_heal: bool
    telegram_api_url: str
    jwt_secrets: tuple[Secret, ...]
    jwt_audience: str
    jwt_max_lifetime: int
    jwt_issuer: TokenIssuer | None
    metrics_token: Secret | None
    permissions_file: Path
    person_roles: Mapping[int, frozenset[str]] = field(repr=False)
    port: int
    bind_address: str
    trusted_proxies: int
    tls: TlsFiles | None
    processes: int
    shutdown_grace: int
    database: Path | PostgresAddress
    retention_days: int
    max_wait_seconds: int
    send_rate: int
    max_connections: int
    log_format: str | None
    log_level: str
    durability: Literal["durable", "until_redeploy"]
    warnings: tuple[str, ...]
    mistyped: tuple[str, ...]

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")
    ) -> Settings:
        """Read all settings.

        Args:
            environ: the environment; None means this process's own. It wins over the file.
            dotenv: the `.env` file; None means none. It need not exist.

        Raises:
            SettingsError: with every problem at once.
        """
        source = SettingsSource.open(os.environ if environ is None else environ, dotenv)
        for setting in table.TABLE:
            source.read(setting)
        _check_together(source)
        source.finish()
        # From here on every value is known to be good, and reading it again adds no problem.
        return _build(cls, source)

    @property
    def bot_id(self) -> int:
        """The bot's own Telegram id: the digits before the colon of its token."""
        return int(self.bot_token.reveal().partition(":")[0])

    @property
    def bind(self) -> str:
        """Address and port as gunicorn takes them, with IPv6 addresses in brackets."""
        host = f"[{self.bind_address}]" if ":" in self.bind_address else self.bind_address
        return f"{host}:{self.port}"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Every secret, for the log's redaction."""
        database = self.database.secrets if isinstance(self.database, PostgresAddress) else ()
        metrics = () if self.metrics_token is None else (self.metrics_token,)
        return (self.bot_token, self.webhook_secret, *self.jwt_secrets, *metrics, *database)

    def require_signing_key(self, *, services_have_keys: bool) -> None:
        """Refuse a start in which no token could ever be accepted.

        Args:
            services_have_keys: whether the policy names a key of at least one service.

        Raises:
            SettingsError: when there is neither such a key nor `JWT_SECRET` nor an issuer.
        """
        if self.jwt_secrets or services_have_keys or self.jwt_issuer is not None:
            return
        raise SettingsError([NO_KEY_AT_ALL])


def derive_webhook_secret(bot_token: Secret) -> Secret:
    """The webhook secret when none is given: hexadecimal HMAC-SHA-256, with the bot token as key.

    Every process and every machine with the same token comes to the same secret, and the secret
    says nothing about the token.
    """
    key = bot_token.reveal().encode()
    return Secret(hmac.new(key, b"telegate webhook secret", hashlib.sha256).hexdigest())


def _build(cls: type[Settings], source: SettingsSource) -> Settings:
    read = source.read
    bot_token, jwt_secrets, person_roles = (
        read(table.BOT_TOKEN),
        read(table.JWT_SECRET),
        read(table.PERSON_ROLES),
    )
    database = read(table.DATABASE_URL)
    durability = _durability(source.environ, database)
    settings = cls(
        bot_token=bot_token,
        public_url=read(table.PUBLIC_URL),
        webhook_secret=read(table.WEBHOOK_SECRET) or derive_webhook_secret(bot_token),
        webhook_heal=read(table.WEBHOOK_HEAL),
        telegram_api_url=read(table.TELEGRAM_API_URL),
        jwt_secrets=jwt_secrets or (),
        jwt_audience=read(table.JWT_AUDIENCE),
        jwt_max_lifetime=read(table.JWT_MAX_LIFETIME),
        jwt_issuer=token_issuer(source),
        metrics_token=read(table.METRICS_TOKEN),
        permissions_file=read(table.PERMISSIONS_FILE),
        person_roles=person_roles or {},
        port=read(table.PORT),
        bind_address=read(table.BIND_ADDRESS) or ("0.0.0.0" if source.is_set(table.PORT) else "127.0.0.1"),  # noqa: S104 - a platform that sets PORT routes to every address
        trusted_proxies=read(table.TRUSTED_PROXIES),
        tls=_tls(source),
        processes=read(table.WEB_CONCURRENCY) if isinstance(database, PostgresAddress) else 1,
        shutdown_grace=read(table.SHUTDOWN_GRACE),
        database=database,
        retention_days=read(table.RETENTION_DAYS),
        max_wait_seconds=read(table.MAX_WAIT_SECONDS),
        send_rate=read(table.SEND_RATE),
        max_connections=read(table.MAX_CONNECTIONS),
        log_format=read(table.LOG_FORMAT),
        log_level=read(table.LOG_LEVEL),
        durability=durability,
        warnings=tuple(_warnings(source, database, durability)),
        mistyped=tuple(unknown_names(source.dotenv)),
    )
    source.finish()
    return settings


def token_issuer(source: SettingsSource) -> TokenIssuer | None:
    """The issuer that the settings name, if they name one; half of one is a problem."""
    _require_both(source, table.JWT_JWKS_URL, table.JWT_ISSUER)
    url, name = source.read(table.JWT_JWKS_URL), source.read(table.JWT_ISSUER)
    return TokenIssuer(name, url) if name is not None and url is not None else None


def _tls(source: SettingsSource) -> TlsFiles | None:
    certificate, key = source.read(table.TLS_CERT_FILE), source.read(table.TLS_KEY_FILE)
    return TlsFiles(certificate, key) if certificate is not None and key is not None else None


def _check_together(source: SettingsSource) -> None:
    """What can only be judged with two settings in view."""
    _require_both(source, table.TLS_CERT_FILE, table.TLS_KEY_FILE)
    _require_both(source, table.JWT_JWKS_URL, table.JWT_ISSUER)


def _require_both(source: SettingsSource, *pair: table.Setting[Any]) -> None:
    given = [setting.name for setting in pair if source.is_set(setting)]
    if len(given) == 1:
        missing = next(setting.name for setting in pair if setting.name not in given)
        source.problems.append(f"{missing} is missing, but {given[0]} is set. Set both, or neither.")
    # A value that cannot be read was told of already, and would be a second time.
    if not source.problems and source.read(table.METRICS_TOKEN) in (source.read(table.JWT_SECRET) or ()):
        source.problems.append(
            "METRICS_TOKEN is the JWT_SECRET: whoever reads figures could sign tokens. Make another one."
        )


def _warnings(source: SettingsSource, database: Path | PostgresAddress, durability: str) -> Iterable[str]:
    """What the operator should know, although the server starts."""
    if (asked := source.read(table.WEB_CONCURRENCY)) > 1 and isinstance(database, Path):
        yield f"WEB_CONCURRENCY asks for {asked} processes, but SQLite allows one: one process runs."
    api = urlsplit(source.read(table.TELEGRAM_API_URL))
    if api.scheme == "http" and not table.host_is_loopback(api.hostname or ""):
        yield "TELEGRAM_API_URL is plain http to another machine: the bot token travels there unencrypted."
    if durability == "until_redeploy":
        yield (
            "DATABASE_URL names a file on a disk that the platform throws away with every deploy; open "
            "questions will be lost. Attach a volume, and name a file on it."
        )
    if source.read(table.WEBHOOK_HEAL) and not source.is_set(table.PUBLIC_URL):
        yield "WEBHOOK_HEAL has no effect without PUBLIC_URL: nobody knows where the webhook should point."
    yield from _without_effect(source)
    yield from unknown_names(source.dotenv)


def _without_effect(source: SettingsSource) -> Iterable[str]:
    names = [setting.name for setting in (table.DELIVERY_ALLOW_PRIVATE,) if source.is_set(setting)]
    names += [name for name in source.names() if name.startswith(table.DELIVERY_SECRET_PREFIX)]
    for name in names:
        yield f"{name} has no effect in this version."


def unknown_names(dotenv: DotenvFile) -> Iterable[str]:
    """Names in `.env` that are no settings, most often by a typing mistake: one sentence for each."""
    known = {name for setting in table.TABLE for name in (setting.name, setting.file_name) if name}
    for name, line in dotenv.lines.items():
        if name not in known and not name.startswith(table.DELIVERY_SECRET_PREFIX):
            from difflib import get_close_matches  # noqa: PLC0415 - only where somebody has mistyped

            near = get_close_matches(name, known, 1, _ALIKE)
            meant = f" Did you mean {near[0]}?" if near else ""
            yield f"{dotenv.path}, line {line}: {name} is not a setting of Telegate, and is ignored.{meant}"


def _durability(
    environ: Mapping[str, str], database: Path | PostgresAddress
) -> Literal["durable", "until_redeploy"]:
    """Whether the database outlives a deploy; a file on a platform we know does so only on a volume."""
    if isinstance(database, PostgresAddress) or not any(environ.get(mark) for mark in _PLATFORM_MARKS):
        return "durable"
    folders = database.expanduser().absolute().parents
    on_volume = any(os.path.ismount(folder) for folder in folders if folder != Path(folder.anchor))
    return "durable" if on_volume else "until_redeploy"
