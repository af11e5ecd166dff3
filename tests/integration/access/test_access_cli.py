"""`telegate policy`, `token` and `keys`, as a person at a terminal uses them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from infra.auth import jwks as fetching
from infra.auth.jwks import KeyFetcher
from infra.cli import keys as keys_cli
from infra.cli import policy as policy_cli
from infra.cli import token as token_cli
from infra.config.permissions.file import load_policy
from tests.issuer import TokenIssuer

if TYPE_CHECKING:
    from tests.integration.access.conftest import Keys

SECRET = "a-shared-secret-of-the-tests-0123456789"
NEW_SECRET = "the-one-that-replaces-it-9876543210-xyz"
POLICY = """\
version: 1
service_roles:
  notifier: {endpoints: ["POST /v1/messages", "GET /metrics"], chats: [ops]}
  approver: {includes: [notifier], endpoints: ["POST /v1/questions"]}
person_roles:
  operator: {commands: [deploy]}
services:
  cron: {roles: [approver]}
commands:
  deploy: {service: cron, chats: [ops]}
chats: {ops: -1001234567890}
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with a policy, as its own process would see it."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "JWT_AUDIENCE",
        "JWT_MAX_LIFETIME",
        "PERMISSIONS_FILE",
        "JWT_SECRET_FILE",
        "PERSON_ROLES_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("PERSON_ROLES", "815:operator")
    Path("permissions.yaml").write_text(POLICY)

    def run(room: ModuleType, *arguments: str, given: str | None = None) -> Result:
        return CliRunner().invoke(room.command, list(arguments), input=given)

    return run


def _add_key(public: str, kid: str = "cron-1") -> None:
    pem = "".join(f"          {line}\n" for line in public.splitlines())
    keys = f"  cron:\n    roles: [approver]\n    keys:\n      - kid: {kid}\n        public_key: |\n{pem}"
    Path("permissions.yaml").write_text(POLICY.replace("  cron: {roles: [approver]}\n", keys))


def _printed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


# policy


def test_check_says_that_the_policy_is_in_order(run: Run) -> None:
    assert _printed(run(policy_cli, "check")).startswith(
        "permissions.yaml is in order: 1 service, 2 service roles, 1 person role, 1 command, 1 chat alias, "
        "1 person with a role.\n"
    )


def test_check_tells_machines_what_is_there(run: Run) -> None:
    told = json.loads(_printed(run(policy_cli, "check", "--json")))
    assert told["ok"] is True
    assert told["services"] == ["cron"]
    assert told["people"] == [815]


def test_check_tells_every_problem_with_its_place_and_exits_2(run: Run) -> None:
    Path("broken.yaml").write_text("version: 2\nchats: {ops: 0}\n")
    result = run(policy_cli, "check", "--file", "broken.yaml")
    assert result.exit_code == 2
    assert "broken.yaml:1:10: " in result.stderr
    assert "broken.yaml:2:14: " in result.stderr
    assert "PERSON_ROLES gives 815 the role operator" in result.stderr
    assert "Problems: 3." in result.stderr
    assert result.stdout == ""


def test_check_tells_machines_every_problem(run: Run) -> None:
    Path("permissions.yaml").write_text("version: 2\n")
    result = run(policy_cli, "check", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert {"line": 1, "column": 10, "message": "This release of Telegate reads version: 1."} in told[
        "problems"
    ]


def test_check_tells_a_setting_that_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSON_ROLES", "ada:operator")
    result = run(policy_cli, "check")
    assert result.exit_code == 2
    assert "PERSON_ROLES cannot be read: 'ada:operator' is neither" in result.stderr


def test_check_says_which_endpoints_are_not_served_yet(run: Run) -> None:
    assert "does not serve yet" not in _printed(run(policy_cli, "check"))
    assert json.loads(_printed(run(policy_cli, "check", "--json")))["not_served"] == []
    more = POLICY.replace('"GET /metrics"', '"GET /metrics", "POST /mcp", "GET /v1/audit"')
    Path("permissions.yaml").write_text(more)
    assert "This version does not serve yet, and answers 501 to: GET /v1/audit, POST /mcp.\n" in _printed(
        run(policy_cli, "check")
    )
    told = json.loads(_printed(run(policy_cli, "check", "--json")))
    assert told["not_served"] == ["GET /v1/audit", "POST /mcp"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--service", "cron", "POST /v1/questions", "--chat", "ops"), 0, "its role approver names both."),
        (("--service", "cron", "post  /v1/questions", "--chat", "-1001234567890"), 0, "names both."),
        (
            ("--service", "cron", "POST /v1/questions", "--chat", "-5"),
            1,
            "may not use POST /v1/questions in -5",
        ),
        (("--service", "cron", "GET /v1/chats"), 1, "none of its roles (approver, notifier) names it."),
        (("--service", "ghost", "GET /v1/chats"), 1, "permissions.yaml names no service ghost."),
        (("--person", "815", "/deploy"), 0, "Person 815 may run /deploy, in these chats: ops"),
        (("--person", "4711", "deploy"), 1, "PERSON_ROLES gives this person no role."),
    ],
)
def test_explain_answers_in_one_sentence(
    run: Run, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    result = run(policy_cli, "explain", *arguments)
    assert result.exit_code == code
    assert sentence in result.stdout
    assert result.stdout.count("\n") == 1
    told = json.loads(run(policy_cli, "explain", *arguments, "--json").stdout)
    assert told == {"allowed": code == 0, "sentence": result.stdout.strip()}


@pytest.mark.parametrize("arguments", [(), ("--service", "cron", "--person", "815")])
def test_explain_wants_a_service_or_a_person(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(policy_cli, "explain", "GET /v1/tasks", *arguments)
    assert result.exit_code == 2
    assert "Name either a service (--service ci) or a person (--person 815)." in result.stderr


def test_explain_with_a_broken_policy_exits_2(run: Run) -> None:
    Path("permissions.yaml").write_text("version: 2\n")
    result = run(policy_cli, "explain", "--person", "815", "/deploy")
    assert result.exit_code == 2
    assert "permissions.yaml:1:10" in result.stderr


# token


def _mint(run: Run, *arguments: str) -> Result:
    return run(token_cli, "mint", "--service", "cron", *arguments)


def test_mint_prints_a_token_that_counts_and_nothing_else(run: Run) -> None:
    result = _mint(run, "--role", "notifier", "--lifetime", "1h")
    token = _printed(result).strip()
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token)
    assert "For cron with notifier, until " in result.stderr
    inspected = run(token_cli, "inspect", token, "--json")
    told = json.loads(_printed(inspected))
    assert told["valid"] is True
    assert told["effective_roles"] == ["notifier"]
    assert told["claims"]["exp"] - told["claims"]["iat"] == 3600


def test_mint_tells_machines_the_token_and_its_id(run: Run) -> None:
    told = json.loads(_printed(_mint(run, "--role", "notifier", "--role", "approver", "--json")))
    assert told["claims"]["roles"] == ["approver", "notifier"]
    assert told["claims"]["jti"]
    assert (
        json.loads(_printed(run(token_cli, "inspect", "-", "--json", given=told["token"])))["valid"] is True
    )


def test_a_token_lives_as_long_as_the_settings_allow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(_printed(_mint(run, "--role", "notifier", "--json")))
    assert told["claims"]["exp"] - told["claims"]["iat"] == 90 * 86_400
    monkeypatch.setenv("JWT_MAX_LIFETIME", "2h")
    told = json.loads(_printed(_mint(run, "--role", "notifier", "--json")))
    assert told["claims"]["exp"] - told["claims"]["iat"] == 7200


def test_mint_reads_the_secret_from_a_dotenv_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWT_SECRET")
    Path(".env").write_text(f"JWT_SECRET={SECRET}\n")
    assert _printed(_mint(run, "--role", "notifier"))


def test_while_a_secret_is_rotated_the_first_one_signs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", f"{NEW_SECRET},{SECRET}")
    token = _printed(_mint(run, "--role", "notifier")).strip()
    monkeypatch.setenv("JWT_SECRET", NEW_SECRET)
    assert run(token_cli, "inspect", token).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--role", "admin"), "cron may not claim admin. It may claim: approver, notifier."),
        (
            ("--role", "notifier", "--lifetime", "91d"),
            "the longest lifetime for JWT_MAX_LIFETIME is 90 days; asked for: ",
        ),
        (("--role", "notifier", "--lifetime", "soon"), "soon is no duration"),
        (("--role", "notifier", "--lifetime", "0"), "0 is no duration"),
        (("--role", "notifier", "--kid", "cron-1"), "--key and --kid belong together"),
        (("--role", "notifier", "--key", "k.pem"), "--key and --kid belong together"),
        (("--role", "notifier", "--key", "no.pem", "--kid", "k"), "no.pem cannot be read (no such file"),
        ((), "Missing option '--role'"),
    ],
)
def test_mint_refuses_in_a_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = _mint(run, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "mistaken",
    ["-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIE", "123456789:canary-token", "canary" * 100],
)
def test_a_key_where_its_file_s_name_belongs_is_not_shown(run: Run, mistaken: str) -> None:
    result = _mint(run, "--role", "notifier", "--key", mistaken, "--kid", "cron-1")
    assert result.exit_code == 2
    assert "--key has to be the name of a file" in result.stderr
    assert "MC4C" not in result.stderr
    assert "canary" not in result.stderr


def test_mint_knows_only_services_of_the_policy(run: Run) -> None:
    result = run(token_cli, "mint", "--service", "ghost", "--role", "notifier")
    assert result.exit_code == 2
    assert "permissions.yaml names no service ghost. It names: cron." in result.stderr


def test_mint_without_a_secret_says_how_to_make_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWT_SECRET")
    result = _mint(run, "--role", "notifier")
    assert result.exit_code == 2
    assert "secrets.token_urlsafe(48)" in result.stderr


@pytest.mark.parametrize("secret", ["tiny-word", "-----BEGIN PUBLIC KEY----- and more than 32 bytes"])
def test_mint_refuses_a_bad_secret_without_showing_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("JWT_SECRET", secret)
    result = _mint(run, "--role", "notifier")
    assert result.exit_code == 2
    assert "JWT_SECRET" in result.stderr
    assert secret not in result.stderr
    inspected = run(token_cli, "inspect", "a.b.c")
    assert inspected.exit_code == 2
    assert secret not in inspected.stderr


def test_mint_makes_no_token_that_the_gateway_would_refuse(run: Run) -> None:
    later = time.gmtime(time.time() + 86_400)
    not_before = time.strftime("%Y-%m-%dT%H:%M:%SZ", later)
    text = POLICY.replace("{roles: [approver]}", f"{{roles: [approver], not_before: {not_before}}}")
    Path("permissions.yaml").write_text(text)
    result = _mint(run, "--role", "notifier")
    assert result.exit_code == 2
    assert (
        "the gateway would refuse this token. The token was issued before not_before of cron."
        in result.stderr
    )


@pytest.mark.parametrize("kind", ["ed25519", "p256", "rsa"])
def test_mint_signs_as_a_service_with_its_key(run: Run, keys: Keys, kind: str) -> None:
    _add_key(keys.public_pem(kind))
    Path("own.pem").write_text(keys.private_pem(kind))
    result = _mint(run, "--role", "approver", "--key", "own.pem", "--kid", "cron-1", "--json")
    told = json.loads(_printed(result))
    assert told["claims"]["iss"] == "cron"
    assert told["claims"]["exp"] - told["claims"]["iat"] == 3600
    assert told["header"]["kid"] == "cron-1"
    assert run(token_cli, "inspect", told["token"]).exit_code == 0


def test_a_service_with_keys_gets_no_token_of_the_shared_secret(run: Run, keys: Keys) -> None:
    _add_key(keys.public_pem("ed25519"))
    result = _mint(run, "--role", "notifier")
    assert result.exit_code == 2
    assert "cron has keys in permissions.yaml, and only those count for it" in result.stderr


@pytest.mark.parametrize(
    ("kind", "kid", "lifetime", "sentence"),
    [
        ("p256", "cron-1", "1h", "The header's alg is not EdDSA"),
        ("ed25519", "cron-2", "1h", "permissions.yaml has no key with the kid 'cron-2'."),
        ("p384", "cron-1", "1h", "this kind of key is not accepted"),
        (
            "ed25519",
            "cron-1",
            "2h",
            "the longest lifetime for a token that a service signs itself is 1 hour; asked for: 2 hours.",
        ),
    ],
)
def test_a_key_that_does_not_fit_is_refused(
    run: Run, keys: Keys, *, kind: str, kid: str, lifetime: str, sentence: str
) -> None:
    _add_key(keys.public_pem("ed25519"))
    Path("own.pem").write_text(keys.private_pem(kind))
    result = _mint(run, "--role", "notifier", "--key", "own.pem", "--kid", kid, "--lifetime", lifetime)
    assert result.exit_code == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "text", ["nonsense", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "é"]
)
def test_what_is_no_private_key_is_refused_in_a_sentence(run: Run, keys: Keys, text: str) -> None:
    _add_key(keys.public_pem("ed25519"))
    Path("own.pem").write_text(text, encoding="utf-8")
    result = _mint(run, "--role", "notifier", "--key", "own.pem", "--kid", "cron-1")
    assert result.exit_code == 2
    assert "this is not a private key as PEM" in result.stderr


def test_a_private_key_for_something_else_is_refused_in_a_sentence(run: Run, keys: Keys) -> None:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _add_key(keys.public_pem("ed25519"))
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("own.pem").write_bytes(pem)
    result = _mint(run, "--role", "notifier", "--key", "own.pem", "--kid", "cron-1")
    assert result.exit_code == 2
    assert "this kind of key is not accepted: it has to be Ed25519" in result.stderr


def test_a_locked_private_key_is_refused_in_a_sentence(run: Run, keys: Keys) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    _add_key(keys.public_pem("ed25519"))
    locked = keys.ed25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    Path("own.pem").write_bytes(locked)
    result = _mint(run, "--role", "notifier", "--key", "own.pem", "--kid", "cron-1")
    assert result.exit_code == 2
    assert "locked with a password" in result.stderr


def test_inspect_shows_a_token_to_a_person(run: Run) -> None:
    token = _printed(_mint(run, "--role", "approver", "--lifetime", "1h")).strip()
    shown = _printed(run(token_cli, "inspect", f"Bearer {token}"))
    assert "service    cron\n" in shown
    assert "effective  approver, notifier\n" in shown
    assert re.search(r"expires    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", shown)
    assert "signature  valid\n" in shown
    assert shown.endswith("The gateway takes this token.\n")


def test_inspect_tells_what_is_wrong_and_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    token = _printed(_mint(run, "--role", "notifier")).strip()
    monkeypatch.setenv("JWT_AUDIENCE", "staging")
    result = run(token_cli, "inspect", token)
    assert result.exit_code == 1
    assert "aud is not staging: the token is meant for somebody else.\n" in result.stdout


def test_inspect_reads_claims_without_key_or_policy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    token = _printed(_mint(run, "--role", "notifier")).strip()
    monkeypatch.delenv("JWT_SECRET")
    Path("permissions.yaml").unlink()
    result = run(token_cli, "inspect", "-", given=f"{token}\n")
    assert result.exit_code == 1
    assert "service    cron\n" in result.stdout
    assert "signature  unchecked\n" in result.stdout
    assert "Nothing is known about services and keys" in result.stderr


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "...", "\x1b[2J.\x1b.\x1b"])
def test_inspect_of_nonsense_is_told_in_words(run: Run, token: str) -> None:
    result = run(token_cli, "inspect", "-", given=token)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_token_cannot_write_on_the_terminal(run: Run) -> None:
    claims: dict[str, Any] = {"sub": "\x1b[2Jcron", "iat": "\x1b", "exp": 1e300, "nbf": True, "aud": ["a", 1]}
    parts = [{"alg": "HS256"}, claims]
    segments = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    result = run(token_cli, "inspect", ".".join([*segments, "AAAA"]))
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "service    \N{REPLACEMENT CHARACTER}[2Jcron" in result.stdout


@pytest.mark.parametrize("time", ["1" + "0" * 309, "-1" + "0" * 309, "1" + "0" * 4000, "1e400"])
@pytest.mark.parametrize("name", ["iat", "nbf", "exp"])
def test_inspect_says_that_a_number_is_no_time_however_large_it_is(run: Run, name: str, time: str) -> None:
    claims = json.dumps({"sub": "cron", "iat": 1, "nbf": 1, "exp": 1})
    parts = ['{"alg": "HS256"}', claims.replace(f'"{name}": 1', f'"{name}": {time}')]
    segments = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts]
    token = ".".join([*segments, "AAAA"])
    told = run(token_cli, "inspect", token)
    assert told.exit_code == 1
    assert isinstance(told.exception, SystemExit)
    assert f"{name} is not a time in seconds since 1970." in told.stdout
    machine = run(token_cli, "inspect", "--json", token)
    assert machine.exit_code == 1
    assert json.loads(machine.stdout, parse_constant=pytest.fail)["valid"] is False


# keys


def test_a_new_pair_works_as_it_is_printed(run: Run) -> None:
    result = run(keys_cli, "new", "--service", "cron", "--out", "secrets")
    snippet = _printed(result)
    private = Path("secrets/cron-1.private.pem")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "BEGIN PRIVATE KEY" in private.read_text()
    assert "PRIVATE" not in snippet
    assert "Give it to cron, and to nobody else." in result.stderr
    pasted = snippet.replace("services:\n  cron:\n", "  cron:\n    roles: [approver]\n")
    Path("permissions.yaml").write_text(POLICY.replace("  cron: {roles: [approver]}\n", pasted))
    assert load_policy(Path("permissions.yaml"), {}).keys["cron-1"][0] == "cron"
    assert _printed(_mint(run, "--role", "notifier", "--key", str(private), "--kid", "cron-1"))


def test_the_next_key_takes_the_next_free_name(run: Run, keys: Keys) -> None:
    _add_key(keys.public_pem("ed25519"))
    told = json.loads(_printed(run(keys_cli, "new", "--service", "cron", "--json")))
    assert told["kid"] == "cron-2"
    assert told["private_key_file"] == "cron-2.private.pem"
    assert "BEGIN PUBLIC KEY" in told["public_key"]
    assert "PRIVATE" not in json.dumps(told)


def test_a_private_key_that_is_there_is_never_overwritten(run: Run) -> None:
    Path("mine.private.pem").write_text("precious")
    result = run(keys_cli, "new", "--service", "cron", "--kid", "mine")
    assert result.exit_code == 2
    assert "mine.private.pem cannot be written (file exists)" in result.stderr
    assert Path("mine.private.pem").read_text() == "precious"


def test_a_pair_can_be_made_without_a_policy(run: Run) -> None:
    Path("permissions.yaml").unlink()
    result = run(keys_cli, "new", "--service", "ci")
    assert "- kid: ci-1" in _printed(result)
    assert "Whether the key's name is free is not known" in result.stderr


@pytest.mark.parametrize("arguments", [("--service", "Ci"), ("--service", "ci", "--kid", "../x")])
def test_names_that_no_policy_could_hold_are_refused(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(keys_cli, "new", *arguments)
    assert result.exit_code == 2
    assert "is no name for" in result.stderr


@pytest.mark.parametrize(
    ("room", "arguments"),
    [
        (policy_cli, ()),
        (policy_cli, ("check",)),
        (policy_cli, ("explain",)),
        (token_cli, ()),
        (token_cli, ("mint",)),
        (token_cli, ("inspect",)),
        (keys_cli, ()),
        (keys_cli, ("new",)),
    ],
)
def test_every_command_has_examples(run: Run, room: ModuleType, arguments: tuple[str, ...]) -> None:
    shown = _printed(run(room, *arguments, "--help"))
    assert re.search(r"\n  Examples?:\n    telegate ", shown)


# Tokens of an issuer


def _ask(run: Run, issuer: TokenIssuer, *arguments: str, **claims: Any) -> dict[str, Any]:
    """What `inspect --json` says about a token of the issuer; the issuer serves meanwhile."""
    token = issuer.token("cron", "notifier", **claims)

    async def serving() -> Result:
        await issuer.start()
        try:
            return await asyncio.to_thread(run, token_cli, "inspect", token, "--json", *arguments)
        finally:
            await issuer.stop()

    result = asyncio.run(serving())
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if told["valid"] else 1)
    assert result.stderr == ""
    return told


@pytest.fixture
def issuer(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenIssuer:
    issuer = TokenIssuer(tmp_path)
    trust = ssl.create_default_context(cafile=issuer.certificate)
    # A process of its own would read SSL_CERT_FILE; aiohttp has read it already in this one.
    monkeypatch.setattr(fetching, "KeyFetcher", lambda url: KeyFetcher(url, trust))
    for name, value in issuer.settings.items():
        monkeypatch.setenv(name, value)
    return issuer


def test_inspect_fetches_the_keys_of_the_issuer(run: Run, issuer: TokenIssuer) -> None:
    told = _ask(run, issuer)
    assert (told["valid"], told["signature"], told["effective_roles"]) == (True, "valid", ["notifier"])
    assert issuer.fetches == 1
    assert "no usable key with the kid 'x'" in _ask(run, issuer, kid="x")["problems"][0]


def test_inspect_offline_asks_nobody_and_says_so(run: Run, issuer: TokenIssuer) -> None:
    told = _ask(run, issuer, "--offline")
    assert told["signature"] == "unchecked"
    assert told["problems"] == [
        "The keys of the token issuer were not fetched. So the signature was not checked."
    ]
    assert issuer.fetches == 0


def test_inspect_says_why_the_keys_could_not_be_fetched(run: Run, issuer: TokenIssuer) -> None:
    issuer.answer = _sorry
    told = _ask(run, issuer, roles=None)
    assert told["signature"] == "unchecked"
    assert told["problems"][0] == (
        "The keys of the token issuer cannot be fetched: it answered 500. So the signature was not checked."
    )
    assert "These claims are missing: roles." in told["problems"]


async def _sorry(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


def test_inspect_asks_no_issuer_about_other_tokens(run: Run, issuer: TokenIssuer) -> None:
    assert _ask(run, issuer, iss="https://issuer.example.com/other")["signature"] == "unchecked"
    minted = _printed(_mint(run, "--role", "notifier")).strip()
    assert run(token_cli, "inspect", minted).exit_code == 0
    assert run(token_cli, "inspect", "nonsense").exit_code == 1
    assert issuer.fetches == 0


def test_half_an_issuer_is_told_at_the_command_line_too(
    run: Run, issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JWT_ISSUER")
    result = run(token_cli, "inspect", "a.b.c")
    assert result.exit_code == 2
    assert "JWT_ISSUER is missing, but JWT_JWKS_URL is set." in result.stderr
