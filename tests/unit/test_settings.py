"""Settings: defaults, precedence, and problems told together."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.config import table
from infra.config.postgres_address import PostgresAddress
from infra.config.secret import Secret
from infra.config.settings import Settings, SettingsError, SettingsSource, TokenIssuer, derive_webhook_secret

TOKEN = "123456789:canary-Token_0123456789"
JWT_SECRET = "canary-jwt-secret-0123456789abcdef"
NEW, OLD = "the-new-one-of-two-0123456789-zyx", "the-old-one-of-two-9876543210-abc"
GIVEN = "given-0123_webhook"
ENOUGH = {"BOT_TOKEN": TOKEN, "JWT_SECRET": JWT_SECRET}


def settings(dotenv: Path | None = None, /, **environ: str) -> Settings:
    return Settings.from_environment({**ENOUGH, **environ}, dotenv)


def problems(dotenv: Path | None = None, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({**ENOUGH, **environ}, dotenv)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


@pytest.fixture
def dotenv(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / ".env"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_two_variables_are_enough_and_the_rest_has_the_documented_defaults() -> None:
    found = settings()
    assert found.bot_id == 123456789
    assert found.public_url is None
    assert found.telegram_api_url == "https://api.telegram.org"
    assert found.jwt_audience == "telegate"
    assert found.jwt_max_lifetime == 90 * 86_400
    assert found.permissions_file == Path("permissions.yaml")
    assert found.person_roles == {}
    assert found.bind == "127.0.0.1:8080"
    assert (found.trusted_proxies, found.tls, found.processes, found.shutdown_grace) == (0, None, 1, 10)
    assert found.database == Path("data/telegate.db")
    assert (found.retention_days, found.max_wait_seconds, found.max_connections) == (30, 25, 12_000)
    assert (found.log_format, found.log_level) == (None, "info")
    assert (found.durability, found.warnings) == ("durable", ())


def test_all_problems_are_told_together_each_by_its_name() -> None:
    told = problems(BOT_TOKEN="", PORT="http", JWT_SECRET="short", PUBLIC_URL="bot.example.com")
    assert sorted(problem.split()[0] for problem in told) == ["BOT_TOKEN", "JWT_SECRET", "PORT", "PUBLIC_URL"]


def test_one_problem_and_several_are_counted_in_words() -> None:
    with pytest.raises(SettingsError, match=r"^One setting is missing or wrong:"):
        settings(PORT="x")
    with pytest.raises(SettingsError, match=r"^2 settings are missing or wrong:"):
        settings(PORT="x", LOG_LEVEL="loud")


def test_no_secret_is_in_a_repr_or_in_a_problem() -> None:
    assert "canary" not in repr(settings(WEBHOOK_SECRET="canary-webhook-secret"))
    bad = "canary with blanks"
    told = problems(
        BOT_TOKEN=bad, JWT_SECRET="canary", WEBHOOK_SECRET=bad, DATABASE_URL=f"mysql://u:{bad}@h/d"
    )
    assert len(told) == 4
    assert not any("canary" in problem for problem in told)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("canary")
    assert secret.reveal() == "canary"
    assert "canary" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("canary")
    assert len({secret, Secret("canary"), Secret("other")}) == 2
    with pytest.raises(TypeError, match="not written to disk"):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOT_TOKEN", "123456789"),
        ("BOT_TOKEN", "123:ab"),
        ("BOT_TOKEN", "١٢٣:abcdefghijkl"),
        ("JWT_SECRET", "x" * 31),
        ("JWT_SECRET", ",".join(["x" * 32] * 3)),
        ("JWT_SECRET", "x" * 32 + ","),
        ("JWT_SECRET", "x" * 64),
        ("JWT_SECRET", f"{JWT_SECRET},{'ab' * 20}"),
        ("JWT_SECRET", "a-string-secret-at-least-256-bits-long"),
        ("METRICS_TOKEN", "x" * 64),
        ("METRICS_TOKEN", "A-string-secret-at-least-256-bits-long"),
        ("JWT_AUDIENCE", "two words"),
        ("JWT_MAX_LIFETIME", "soon"),
        ("JWT_MAX_LIFETIME", "5s"),
        ("JWT_MAX_LIFETIME", "99999d"),
        ("WEBHOOK_SECRET", "with space"),
        ("WEBHOOK_SECRET", "x" * 257),
        ("WEBHOOK_SECRET", "a-b_c"),
        ("WEBHOOK_SECRET", "abcde-01234_xyz"),
        ("WEBHOOK_SECRET", "x" * 16),
        ("WEBHOOK_SECRET", "1234567890123456"),
        ("PUBLIC_URL", "http://bot.example.com"),
        ("PUBLIC_URL", "https://bot.example.com/?x=1"),
        ("PUBLIC_URL", "https://bot.example.com#top"),
        ("PUBLIC_URL", "https://me@bot.example.com"),
        ("PUBLIC_URL", "https://bot.example.com:port"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "ftp://bot.example.com"),
        ("TELEGRAM_API_URL", "api.telegram.org"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "8 080"),
        ("BIND_ADDRESS", "1.2.3.4.5"),
        ("BIND_ADDRESS", "not a host"),
        ("TRUSTED_PROXIES", "yes"),
        ("WEB_CONCURRENCY", "0"),
        ("SHUTDOWN_GRACE", "0"),
        ("MAX_WAIT_SECONDS", "25.5"),
        ("MAX_CONNECTIONS", "0"),
        ("RETENTION_DAYS", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("DELIVERY_ALLOW_PRIVATE", "maybe"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    (told,) = problems(**{name: value})
    assert told.startswith(f"{name} ")
    assert told.endswith((".", '"'))


@pytest.mark.parametrize(
    "value",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite://relative.db",
        "sqlite:///:memory:",
        "sqlite:///folder/",
        "sqlite:///a.db?mode=ro",
        "mysql://host/db",
        "data/telegate.db",
    ],
)
def test_a_database_that_is_no_sqlite_file_is_refused(value: str) -> None:
    (told,) = problems(DATABASE_URL=value)
    assert told.startswith("DATABASE_URL must ")


@pytest.mark.parametrize(
    "value", ["postgres://u:canary-password@h/d", "postgresql://u:canary-password@/db?host=/socket/dir"]
)
def test_postgresql_is_durable_everywhere_and_its_password_a_secret(value: str) -> None:
    found = settings(DATABASE_URL=value, DYNO="web.1", WEB_CONCURRENCY="4")
    assert isinstance(found.database, PostgresAddress)
    assert (found.durability, found.processes, found.warnings) == ("durable", 4, ())
    assert Secret("canary-password") in found.secrets
    assert "canary" not in repr(found)


def test_a_postgresql_address_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:canary@h/d\n")
    found = settings(DATABASE_URL_FILE=str(tmp_path / "url")).database
    assert found == PostgresAddress.parse("postgresql://u:canary@h/d")


def test_a_postgresql_address_that_cannot_be_read_is_told_of_without_its_password() -> None:
    (told,) = problems(DATABASE_URL="postgresql://u:can@ry@h/d")
    assert told.startswith("DATABASE_URL cannot be told apart")
    assert "ry@" not in told


KEYS, ISSUER = "https://issuer.example.com/certs?appid=1", "https://issuer.example.com"


def test_an_issuer_of_tokens_is_its_name_and_where_its_keys_are() -> None:
    found = settings(JWT_JWKS_URL=KEYS, JWT_ISSUER=ISSUER, JWT_SECRET="")
    assert found.jwt_issuer == TokenIssuer(ISSUER, KEYS)
    assert settings().jwt_issuer is None


def test_an_issuer_alone_makes_tokens_possible() -> None:
    settings(JWT_JWKS_URL=KEYS, JWT_ISSUER=ISSUER, JWT_SECRET="").require_signing_key(
        services_have_keys=False
    )
    with pytest.raises(SettingsError, match="JWT_JWKS_URL"):
        settings(JWT_SECRET="").require_signing_key(services_have_keys=False)


@pytest.mark.parametrize(
    ("given", "missing"),
    [({"JWT_JWKS_URL": KEYS}, "JWT_ISSUER"), ({"JWT_ISSUER": ISSUER}, "JWT_JWKS_URL")],
)
def test_half_an_issuer_is_a_problem(given: dict[str, str], missing: str) -> None:
    (other,) = given
    assert problems(**given) == (f"{missing} is missing, but {other} is set. Set both, or neither.",)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://issuer.example.com/certs", "must start with https://"),
        ("http://127.0.0.1/certs", "must start with https://"),
        ("issuer.example.com/certs", "must be a whole web address"),
        ("https://me:canary@issuer.example.com/certs", "must not hold a name or password"),
        ("https://issuer.example.com/certs#x", "no ? and no #"),
        ("https://issuer.example.com/certs?a=1#x", "no # and no empty query"),
        ("https://issuer.example.com/certs?", "no # and no empty query"),
        ("https://issuer.example.com:0x1/certs", "is not a web address"),
    ],
)
def test_an_address_of_keys_that_is_not_safe_is_refused(url: str, words: str) -> None:
    (told,) = problems(JWT_JWKS_URL=url, JWT_ISSUER=ISSUER)
    assert told.startswith("JWT_JWKS_URL ")
    assert words in told
    assert "canary" not in told


@pytest.mark.parametrize("name", ["telegate", "ci", "two words", "a\tb"])
def test_an_issuer_cannot_be_called_like_a_service_or_like_the_gateway(name: str) -> None:
    (told,) = problems(JWT_JWKS_URL=KEYS, JWT_ISSUER=name)
    assert told.startswith("JWT_ISSUER ")


def test_settings_that_only_prepare_later_features_are_told_to_have_no_effect() -> None:
    found = settings(DELIVERY_SECRET_CI="whsec_canary", DELIVERY_ALLOW_PRIVATE="1")
    assert found.warnings == tuple(
        f"{name} has no effect in this version." for name in ("DELIVERY_ALLOW_PRIVATE", "DELIVERY_SECRET_CI")
    )


def test_a_webhook_is_set_again_only_when_asked_to_and_where_it_belongs() -> None:
    assert not settings().webhook_heal
    found = settings(WEBHOOK_HEAL="1", PUBLIC_URL="https://bot.example.com")
    assert found.webhook_heal
    assert found.warnings == ()
    (warning,) = settings(WEBHOOK_HEAL="1").warnings
    assert warning.startswith("WEBHOOK_HEAL has no effect without PUBLIC_URL")


@pytest.mark.parametrize(
    ("value", "seconds"), [("3600", 3600), ("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 7 * 86_400)]
)
def test_a_lifetime_is_seconds_or_a_number_with_its_unit(value: str, seconds: int) -> None:
    assert settings(JWT_MAX_LIFETIME=value).jwt_max_lifetime == seconds


def test_two_jwt_secrets_stand_side_by_side_while_one_is_rotated() -> None:
    found = settings(JWT_SECRET=f"{NEW}, {OLD}")
    assert found.jwt_secrets == (Secret(NEW), Secret(OLD))


def test_the_length_of_a_jwt_secret_is_counted_in_bytes() -> None:
    assert settings(JWT_SECRET="äëïöüÿçñãõåæœøþé").jwt_secrets
    assert problems(JWT_SECRET="äëïöüÿçñãõåæœøþ")[0].startswith("JWT_SECRET is too short")


def test_a_start_without_any_signing_key_is_refused() -> None:
    found = settings(JWT_SECRET="")
    assert not found.jwt_secrets
    found.require_signing_key(services_have_keys=True)
    with pytest.raises(SettingsError, match="JWT_SECRET is missing, and no service"):
        found.require_signing_key(services_have_keys=False)
    settings().require_signing_key(services_have_keys=False)


def test_a_scraper_s_token_is_a_secret_like_the_others(tmp_path: Path) -> None:
    assert settings().metrics_token is None
    token = OLD
    (tmp_path / "token").write_text(f"{token}\n")
    for given in ({"METRICS_TOKEN": token}, {"METRICS_TOKEN_FILE": str(tmp_path / "token")}):
        found = settings(**given)
        assert found.metrics_token == Secret(token)
        assert Secret(token) in found.secrets
        assert token not in repr(found)


@pytest.mark.parametrize("token", ["m" * 31, f"{'m' * 32} {'m' * 32}", "ü" * 32, "m" * 32 + "\x7f"])
def test_a_scraper_s_token_that_is_short_or_no_header_can_carry_is_refused(token: str) -> None:
    [told] = problems(METRICS_TOKEN=token)
    assert told.startswith("METRICS_TOKEN must be at least 32 characters of printable ASCII")
    assert token not in told


def test_a_scraper_s_token_that_could_sign_tokens_is_refused() -> None:
    [told] = problems(METRICS_TOKEN=OLD, JWT_SECRET=f"{NEW},{OLD}")
    assert told.startswith("METRICS_TOKEN is the JWT_SECRET: ")
    assert len(problems(METRICS_TOKEN=OLD, JWT_SECRET="short")) == 1


def test_the_webhook_secret_is_the_given_one_or_derived_from_the_token() -> None:
    assert settings(WEBHOOK_SECRET=GIVEN).webhook_secret == Secret(GIVEN)
    derived = settings().webhook_secret.reveal()
    assert derived == derive_webhook_secret(Secret(TOKEN)).reveal()
    assert len(derived) == 64
    assert derived != settings(BOT_TOKEN=f"{TOKEN}x").webhook_secret.reveal()


def test_every_secret_is_handed_to_the_redaction() -> None:
    found = settings(WEBHOOK_SECRET=GIVEN, JWT_SECRET=f"{NEW},{OLD}")
    assert [secret.reveal() for secret in found.secrets] == [TOKEN, GIVEN, NEW, OLD]


@pytest.mark.parametrize(
    ("environ", "bind"),
    [
        ({}, "127.0.0.1:8080"),
        ({"PORT": "5000"}, "0.0.0.0:5000"),
        ({"PORT": "5000", "BIND_ADDRESS": "127.0.0.1"}, "127.0.0.1:5000"),
        ({"BIND_ADDRESS": "::"}, "[::]:8080"),
        ({"BIND_ADDRESS": "[::1]"}, "[::1]:8080"),
        ({"BIND_ADDRESS": "localhost"}, "localhost:8080"),
    ],
)
def test_the_server_listens_everywhere_only_when_a_platform_gives_the_port(
    environ: dict[str, str], bind: str
) -> None:
    assert settings(**environ).bind == bind


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("https://bot.example.com/", "https://bot.example.com"),
        ("https://bot.example.com:8443/telegate/", "https://bot.example.com:8443/telegate"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_public_url_is_https_or_on_loopback(value: str, kept: str) -> None:
    assert settings(PUBLIC_URL=value).public_url == kept


def test_a_bot_api_server_in_plain_http_elsewhere_is_warned_about() -> None:
    assert settings(TELEGRAM_API_URL="http://localhost:8081/").warnings == ()
    (warning,) = settings(TELEGRAM_API_URL="http://bot-api:8081").warnings
    assert "unencrypted" in warning


def test_sqlite_runs_one_process_and_says_so() -> None:
    found = settings(WEB_CONCURRENCY="2")
    assert found.processes == 1
    assert found.warnings == (
        "WEB_CONCURRENCY asks for 2 processes, but SQLite allows one: one process runs.",
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("sqlite:///data/x.db", Path("data/x.db")),
        ("sqlite:////var/lib/x.db", Path("/var/lib/x.db")),
        ("sqlite:///a%20b.db", Path("a b.db")),
    ],
)
def test_three_slashes_are_relative_and_four_are_absolute(value: str, path: Path) -> None:
    assert settings(DATABASE_URL=value).database == path


def test_sqlite_on_a_platforms_own_disk_lasts_until_the_next_deploy(tmp_path: Path) -> None:
    found = settings(DYNO="web.1", DATABASE_URL=f"sqlite:///{tmp_path}/x.db")
    assert found.durability == "until_redeploy"
    assert "open questions will be lost. Attach a volume" in found.warnings[0]


def test_sqlite_on_a_mounted_volume_is_durable() -> None:
    volume = Path("/dev/shm")  # noqa: S108 - only its being a mount is looked at
    if not volume.is_mount():
        pytest.skip("this machine has no second file system to look at")
    assert settings(FLY_APP_NAME="x", DATABASE_URL=f"sqlite:///{volume}/x.db").durability == "durable"


def test_a_certificate_and_its_key_come_together(tmp_path: Path) -> None:
    assert settings(TLS_CERT_FILE="c.pem", TLS_KEY_FILE="k.pem").tls is not None
    assert problems(TLS_CERT_FILE="c.pem") == (
        "TLS_KEY_FILE is missing, but TLS_CERT_FILE is set. Set both, or neither.",
    )
    assert problems(TLS_KEY_FILE="k.pem")[0].startswith("TLS_CERT_FILE is missing")


# Files and `.env`


def test_every_value_can_come_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "bot_api.txt").write_text(f"{TOKEN}\n", encoding="utf-8")
    found = settings(BOT_TOKEN="", BOT_TOKEN_FILE=str(tmp_path / "bot_api.txt"))
    assert found.bot_token.reveal() == TOKEN


def test_a_byte_order_mark_in_a_file_is_no_part_of_the_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" + JWT_SECRET.encode() + b"\r\n")
    found = settings(JWT_SECRET="", JWT_SECRET_FILE=str(tmp_path / "secret"))
    assert found.jwt_secrets == (Secret(JWT_SECRET),)


def test_a_value_from_a_file_that_is_wrong_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    (told,) = problems(JWT_SECRET="", JWT_SECRET_FILE=str(tmp_path / "secret"))
    assert told.startswith(f"JWT_SECRET (in {tmp_path / 'secret'}, which JWT_SECRET_FILE names) is too short")
    assert "canary" not in told


def test_a_variable_and_its_file_twin_contradict_each_other(tmp_path: Path) -> None:
    (told,) = problems(BOT_TOKEN_FILE=str(tmp_path / "x"))
    assert told == "BOT_TOKEN and BOT_TOKEN_FILE are both set in the environment. Keep one of the two."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read (no such file or directory)"),
        (b"", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 70_000, "too large"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_once(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    (told,) = problems(BOT_TOKEN="", BOT_TOKEN_FILE=str(path))
    assert told.startswith(f"BOT_TOKEN_FILE names {path}, which ")
    assert reason in told


SECRETS = {
    "BOT_TOKEN": [TOKEN, "canary", "/canary", "canary/token"],
    "JWT_SECRET": [JWT_SECRET, f"/{JWT_SECRET}", "canary/" * 8, "~canary/secret"],
    "WEBHOOK_SECRET": ["canary-webhook-secret"],
    "METRICS_TOKEN": ["canary-metrics-token-0123456789-abcdef"],
    "DATABASE_URL": ["postgresql://me:canary@db.example.com/telegate", "/canary"],
}


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, each in SECRETS.items() for one in each])
def test_a_secret_where_a_file_s_name_belongs_is_told_of_and_never_shown(name: str, value: str) -> None:
    environ = {f"{name}_FILE": value, **({name: ""} if name in ENOUGH else {})}
    (told,) = problems(**environ)
    assert told.startswith(f"{name}_FILE names ")
    assert "has to be the name of a file" in told
    assert "canary" not in told


@pytest.mark.parametrize("name", ["TLS_KEY_FILE", "TLS_CERT_FILE", "PERMISSIONS_FILE"])
@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----",
        TOKEN,
        "eyJhbGciOiJIUzI1NiJ9.canary",
        "canary" * 100,
        "https://me:canary@example.com/key.pem",
    ],
)
def test_a_path_that_looks_like_a_secret_is_refused_and_not_shown(name: str, value: str) -> None:
    told = problems(**{name: value})
    assert any(one.startswith(f"{name} has to be the name of a file") for one in told)
    assert not any("canary" in one for one in told)


def test_the_environment_wins_over_the_file(dotenv: Callable[[str], Path]) -> None:
    path = dotenv("PORT=1111\nJWT_AUDIENCE=from-file\n")
    found = settings(path, PORT="2222")
    assert (found.port, found.jwt_audience) == (2222, "from-file")


def test_an_empty_variable_switches_the_file_s_value_off(dotenv: Callable[[str], Path]) -> None:
    assert settings(dotenv("PORT=1111\n"), PORT="").port == 8080


def test_a_file_twin_in_the_environment_wins_over_the_plain_name_in_dotenv(
    dotenv: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "port").write_text("3333", encoding="utf-8")
    assert settings(dotenv("PORT=1111\n"), PORT_FILE=str(tmp_path / "port")).port == 3333


def test_dotenv_understands_comments_quotes_and_export(dotenv: Callable[[str], Path]) -> None:
    text = """\ufeff# a comment

export PORT = 1111   # after the value
JWT_AUDIENCE='single#quoted'  # comment
PERMISSIONS_FILE="a \\"b\\" \\\\ c"
LOG_LEVEL=
WEBHOOK_SECRET=a-b_c-0123-wxyz_789
"""
    found = settings(dotenv(text))
    assert (found.port, found.jwt_audience, found.log_level) == (1111, "single#quoted", "info")
    assert found.permissions_file == Path('a "b" \\ c')
    assert found.webhook_secret == Secret("a-b_c-0123-wxyz_789")


def test_dotenv_problems_carry_line_numbers_and_no_values(dotenv: Callable[[str], Path]) -> None:
    path = dotenv('PORT=1111\ncanary\nJWT_SECRET=\'canary\nPORT=2\nBOT_TOKEN="canary" canary\n')
    told = problems(path)
    assert [problem.removeprefix(f"{path}, ").split(":")[0] for problem in told] == [
        "line 2",
        "line 3",
        "line 4",
        "line 5",
    ]
    assert "canary" not in "".join(told)
    assert "sets PORT again (first on line 1)" in told[2]


def test_a_name_in_dotenv_that_is_no_setting_is_warned_about(dotenv: Callable[[str], Path]) -> None:
    path = dotenv("BOT_TOKN=1\nDELIVERY_SECRET_CI=x\n")
    assert settings(path).warnings == (
        "DELIVERY_SECRET_CI has no effect in this version.",
        f"{path}, line 1: BOT_TOKN is not a setting of Telegate, and is ignored. Did you mean BOT_TOKEN?",
    )


def test_a_name_that_is_no_setting_is_told_with_what_is_missing(dotenv: Callable[[str], Path]) -> None:
    path = dotenv("BOT_TOKN=canary\nEDITOR=vi\n")
    missing, mistyped, other = problems(path, BOT_TOKEN="")
    assert missing.startswith("BOT_TOKEN is missing. ")
    assert mistyped == (
        f"{path}, line 1: BOT_TOKN is not a setting of Telegate, and is ignored. Did you mean BOT_TOKEN?"
    )
    assert other == f"{path}, line 2: EDITOR is not a setting of Telegate, and is ignored."


@pytest.mark.parametrize("name", ["BOT_TOKEN", "BOT_TOKEN_FILE"])
def test_a_setting_whose_line_cannot_be_read_is_not_called_missing(
    dotenv: Callable[[str], Path], name: str
) -> None:
    path = dotenv(f"{name}='canary\n")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"JWT_SECRET": JWT_SECRET}, path)
    (told,) = caught.value.problems
    assert told.startswith(f"{path}, line 1: {name} has a quote that is not closed")


def test_a_dotenv_file_that_cannot_be_read_is_a_problem_and_a_missing_one_is_not(tmp_path: Path) -> None:
    assert problems(tmp_path) == (f"{tmp_path} cannot be read (is a directory).",)
    broken = tmp_path / "latin1"
    broken.write_bytes(b"PORT=\xff")
    assert problems(broken) == (f"{broken} cannot be read (it is not UTF-8 text).",)
    assert settings(tmp_path / "missing").port == 8080


def test_a_command_may_read_only_the_settings_that_it_needs() -> None:
    source = SettingsSource.open({"JWT_SECRET": JWT_SECRET}, None)
    assert source.read(table.JWT_SECRET) == (Secret(JWT_SECRET),)
    source.finish()
    assert source.read(table.BOT_TOKEN) is None
    with pytest.raises(SettingsError, match="BOT_TOKEN is missing"):
        source.finish()


def test_people_and_their_roles_are_read_from_the_environment() -> None:
    found = settings(PERSON_ROLES="815:operator|viewer,4711:viewer")
    assert found.person_roles == {815: {"operator", "viewer"}, 4711: {"viewer"}}
    assert "815" not in repr(found)


def test_people_that_cannot_be_read_are_a_problem_of_their_variable() -> None:
    (told,) = problems(PERSON_ROLES="ada:operator")
    assert told.startswith("PERSON_ROLES ")


def test_the_files_of_the_earlier_layout_still_work(tmp_path: Path) -> None:
    files = {
        "bot_api.txt": f"{TOKEN}\n",
        "allowed_user.txt": "815\n4711\n",
        "certificate.pem": "",
        "key.pem": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = settings(
        BOT_TOKEN="",
        BOT_TOKEN_FILE=f"{tmp_path}/bot_api.txt",
        PERSON_ROLES_FILE=f"{tmp_path}/allowed_user.txt",
        TLS_CERT_FILE=f"{tmp_path}/certificate.pem",
        TLS_KEY_FILE=f"{tmp_path}/key.pem",
    )
    assert found.bot_token.reveal() == TOKEN
    assert found.person_roles == {815: {"operator"}, 4711: {"operator"}}
    assert found.tls is not None
    assert found.tls.key == tmp_path / "key.pem"
