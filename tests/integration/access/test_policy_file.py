"""permissions.yaml: what can be written, what is refused with its line, and how a change takes effect."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from core.policy.policy import Policy, Rate
from infra.config.permissions import nodes
from infra.config.permissions.file import PeopleError, PolicyFile, PolicyFileError, load_policy, parse_people

if TYPE_CHECKING:
    from tests.integration.access.conftest import Keys

GOOD = """\
version: 1
service_roles:
  notifier:
    endpoints: ["POST /v1/messages", "GET /v1/tasks/{id}"]
    chats: [ops, 815, "@News"]
  approver:
    includes: [notifier]
    endpoints:
      - POST /v1/questions
  admin: {endpoints: ["POST /v1/telegram/{method}"], methods: [setChatTitle], chats: ["*"]}
person_roles:
  viewer: {commands: [status]}
  operator: {includes: [viewer], commands: [deploy]}
services:
  ci:
    roles: [approver]
    not_before: 2026-11-01T00:00:00+01:00
    revoked: [old-jti, "123"]
    address: https://ci.example.com:8443/telegram?x=1
    rate: 60/minute
  cron:
  slow: {rate: none, not_before: null}
commands:
  status: {service: ci}
  deploy: {service: ci, description: "Deploy a build", usage: "<environment>", retry: true, chats: [ops],
    people: [815]}
chats:
  ops: -1001234567890
  news: "@News"
"""
PEOPLE = {815: frozenset({"operator"})}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "permissions.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def _with_key(kid: str, public_key: str) -> str:
    lines = "".join(f"          {line}\n" for line in public_key.splitlines())
    return f"version: 1\nservices:\n  ci:\n    keys:\n      - kid: {kid}\n        public_key: |\n{lines}"


def test_everything_that_can_be_written_is_read(path: Path) -> None:
    policy = load_policy(path, PEOPLE)
    ci = policy.services["ci"]
    assert ci.roles == {"approver", "notifier"}
    assert ci.not_before == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert ci.revoked == {"old-jti", "123"}
    assert ci.address == "https://ci.example.com:8443/telegram?x=1"
    assert ci.rate == Rate(60, 60)
    assert policy.services["cron"].roles == frozenset()
    assert policy.services["slow"].rate is None
    assert policy.service_roles["approver"].chats == {-1001234567890, 815, "@news"}
    assert policy.service_roles["admin"].methods == {"setChatTitle"}
    deploy = policy.commands["deploy"]
    assert (deploy.description, deploy.usage, deploy.retry) == ("Deploy a build", "<environment>", True)
    assert deploy.chats == frozenset({-1001234567890})
    assert deploy.people == {815}
    assert policy.commands["status"].description == "Answered by ci"
    assert policy.chats == {"ops": -1001234567890, "news": "@news"}
    assert policy.roles_of_person(815) == {"operator", "viewer"}


def test_a_file_with_a_version_only_allows_nothing(path: Path) -> None:
    path.write_text("version: 1\ncommands:\nservices: {}\n")
    policy = load_policy(path, {})
    assert not policy.services
    assert not policy.commands


def test_a_few_aliases_of_yaml_are_fine(path: Path) -> None:
    path.write_text(
        "version: 1\nchats: {ops: -5}\nservice_roles:\n  a: {chats: &x [ops]}\n  b: {chats: *x}\n"
    )
    assert load_policy(path, {}).service_roles["b"].chats == {-5}


def test_a_byte_order_mark_is_no_problem(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert "ci" in load_policy(path, PEOPLE).services


@pytest.mark.parametrize(("kind", "algorithm"), [("ed25519", "EdDSA"), ("p256", "ES256"), ("rsa", "RS256")])
def test_public_keys_are_read_as_pem_and_as_jwk(path: Path, keys: Keys, kind: str, algorithm: str) -> None:
    pem = keys.public_pem(kind)
    folded = " ".join(pem.split("\n"))
    writers: dict[str, Any] = {"ed25519": OKPAlgorithm, "p256": ECAlgorithm, "rsa": RSAAlgorithm}
    members = json.loads(writers[kind].to_jwk(getattr(keys, kind).public_key()))
    members |= {"kid": "c", "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
    entries = [
        {"kid": "a", "public_key": pem},
        {"kid": "b", "public_key": folded},
        {"kid": "c", "jwk": members},
    ]
    path.write_text(yaml.safe_dump({"version": 1, "services": {"ci": {"keys": entries}}}))
    policy = load_policy(path, {})
    assert {key.algorithm for _, key in policy.keys.values()} == {algorithm}
    assert {key.public_key for _, key in policy.keys.values()} == {pem}
    assert {service for service, _ in policy.keys.values()} == {"ci"}


def test_http_addresses_need_leave(path: Path) -> None:
    path.write_text("version: 1\nservices:\n  ci: {address: 'http://127.0.0.1:9000/x'}\n")
    with pytest.raises(PolicyFileError, match="has to begin with https"):
        load_policy(path, {})
    assert load_policy(path, {}, allow_http_addresses=True).services["ci"].address


def test_all_problems_are_told_at_once_in_order(path: Path) -> None:
    path.write_text(
        "version: 1\nservices:\n  ci: {roles: [nobody], rate: 5}\n  Bad: {}\n"
        "commands:\n  go: {service: cii}\n"
    )
    with pytest.raises(PolicyFileError) as refused:
        load_policy(path, {7: frozenset({"boss"})})
    lines = str(refused.value).splitlines()
    assert lines[0] == "PERSON_ROLES gives 7 the role boss, which is not under person_roles."
    assert lines[1] == f"{path}:3:16: services.ci.roles names nobody, which is not under service_roles."
    assert lines[2].startswith(f"{path}:3:31: services.ci.rate has to be a number per second, minute, hour")
    assert lines[3].startswith(f"{path}:4:3: Bad is no name for a service: it has to be a small letter")
    assert lines[4].startswith(
        f"{path}:6:17: commands.go.service names cii, which is not under services. Did"
    )
    assert len(lines) == 5


def _bomb() -> str:
    lines = ["version: 1", "a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


ROLE = "version: 1\nservice_roles:\n  a: "
SERVICE = "version: 1\nservices:\n  ci: "
COMMAND = "version: 1\nservices: {ci: {}}\ncommands:\n  go: "

# name: (text, line, a part of the message)
BROKEN: dict[str, tuple[str | bytes, int, str]] = {
    "empty": ("", 1, "The file is empty"),
    "only a comment": ("# nothing\n", 1, "The file is empty"),
    "not UTF-8": (b"version: 1 # \xff", 1, "not UTF-8"),
    "a NUL": ("version: 1\x00", 1, "This is not YAML"),
    "a list": ("- version: 1\n", 1, "permissions.yaml has to be a mapping, and is a list"),
    "a word": ("hello\n", 1, "has to be a mapping, and is text"),
    "an open bracket": ("version: 1\nchats: {ops: 1\n", 3, "This is not YAML"),
    "an open quote": ('version: 1\nchats: {ops: "x}\n', 3, "This is not YAML"),
    "a tab": ("version: 1\nchats:\n\tops: 1\n", 3, "begins with a tab"),
    "a bad indent": ("version: 1\nchats:\n  a: 1\n b: 2\n", 4, "This is not YAML"),
    "two documents": ("version: 1\n---\nversion: 1\n", 2, "A second document"),
    "a bomb of aliases": (_bomb(), 8, "more than 50 aliases"),
    "an alias of itself": ("version: 1\nchats: &a {ops: *a}\n", 2, "chats.ops has to be a Telegram id"),
    "an unknown anchor": ("version: 1\nchats: *nothing\n", 2, "This is not YAML"),
    "deep nesting": ("version: 1\nchats: " + "[" * 1000 + "]" * 1000, 2, "nested more than 12 levels"),
    "a tag of Python": (
        "version: 1\nchats: !!python/object/apply:os.system ['true']\n",
        2,
        "has to be a mapping",
    ),
    "a merge key": (f"{ROLE}{{<<: {{chats: []}}}}\n", 3, "which is not allowed here"),
    "no version": ("chats: {}\n", 1, "version is missing"),
    "another version": ("version: 2\n", 1, "reads version: 1"),
    "a version as text": ("version: '1'\n", 1, "reads version: 1"),
    "an unknown section": ("version: 1\nroles: {}\n", 2, "permissions.yaml has no key roles"),
    "a section twice": ("version: 1\nchats: {}\nchats: {}\n", 3, "chats stands in permissions.yaml twice"),
    "a role twice": (
        f"{ROLE}{{}}\n  a: {{}}\n",
        4,
        "a stands in service_roles twice; the first is on line 3",
    ),
    "a key twice": (f"{SERVICE}{{roles: [], roles: []}}\n", 3, "roles stands in services.ci twice"),
    "a misspelt key": (f"{ROLE}{{endpoint: []}}\n", 3, "Did you mean endpoints?"),
    "a role as a list": (f"{ROLE}[x]\n", 3, "service_roles.a has to be a mapping, and is a list"),
    "endpoints as text": (f"{ROLE}{{endpoints: GET /v1/tasks}}\n", 3, "has to be a list"),
    "an endpoint as a number": (f"{ROLE}{{endpoints: [5]}}\n", 3, "has to be text, and is a number"),
    "a misspelt endpoint": (
        f"{ROLE}{{endpoints: [POST /v1/message]}}\n",
        3,
        "Did you mean POST /v1/messages?",
    ),
    "an endpoint with a query": (
        f"{ROLE}{{endpoints: ['GET /v1/tasks?kind=x']}}\n",
        3,
        "the API does not have",
    ),
    "an endpoint in small letters": (f"{ROLE}{{endpoints: [post /v1/questions]}}\n", 3, "does not have"),
    "all endpoints": (f"{ROLE}{{endpoints: ['*']}}\n", 3, "Write method and path"),
    "a public endpoint": (f"{ROLE}{{endpoints: [GET /healthz]}}\n", 3, "GET /healthz needs no role"),
    "an endpoint for everybody": (f"{ROLE}{{endpoints: [GET /v1/me]}}\n", 3, "GET /v1/me needs no role"),
    "an endpoint twice": (f"{ROLE}{{endpoints: [GET /metrics, GET /metrics]}}\n", 3, "twice"),
    "an unknown role": (f"{ROLE}{{includes: [b]}}\n", 3, "names b, which is not under service_roles"),
    "a role that includes itself": (f"{ROLE}{{includes: [a]}}\n", 3, "in a circle: a."),
    "a circle of three": (
        f"{ROLE}{{includes: [b]}}\n  b: {{includes: [c]}}\n  c: {{includes: [a]}}\n",
        3,
        "in a circle: a, b, c.",
    ),
    "a circle of person roles": (
        "version: 1\nperson_roles:\n  x: {includes: [y]}\n  y: {includes: [x]}\n",
        3,
        "person_roles include each other in a circle: x, y",
    ),
    "an unknown alias of a chat": (f"{ROLE}{{chats: [opps]}}\nchats: {{ops: -5}}\n", 3, "Did you mean ops?"),
    "a chat's id in quotes": (f"{ROLE}{{chats: ['-5']}}\n", 3, "which is no alias under chats"),
    "a bad channel": (f"{ROLE}{{chats: ['@a']}}\n", 3, "a number without quotes) or @channel"),
    "a chat that is true": (f"{ROLE}{{chats: [yes]}}\n", 3, "has to be a Telegram id"),
    "a chat that is a fraction": ("version: 1\nchats: {ops: -1.5}\n", 2, "has to be a Telegram id"),
    "a chat in octal": ("version: 1\nchats: {ops: 0777}\n", 2, "has to be a Telegram id"),
    "a chat in base 60": ("version: 1\nchats: {ops: 12:30}\n", 2, "has to be a Telegram id"),
    "a chat of zero": ("version: 1\nchats: {ops: 0}\n", 2, "has to be a Telegram id"),
    "a chat beyond all ids": ("version: 1\nchats: {ops: 99999999999999999999999}\n", 2, "Telegram id"),
    "an alias in capitals": ("version: 1\nchats: {Ops: 5}\n", 2, "Ops is no name for an alias"),
    "an alias that is a boolean": ("version: 1\nchats: {on: 5}\n", 2, "put names like these in quotes"),
    "an alias that is empty": ("version: 1\nchats: {'': 5}\n", 2, "is no name for an alias"),
    "a name of 33 letters": (f"version: 1\nchats: {{{'a' * 33}: 5}}\n", 2, "is no name"),
    "a method that takes the bot": (f"{ROLE}{{methods: [setWebhook]}}\n", 3, "setWebhook is never allowed"),
    "the same in capitals": (f"{ROLE}{{methods: [logout]}}\n", 3, "logout is never allowed"),
    "all methods": (f"{ROLE}{{methods: ['*']}}\n", 3, "is no method of the Bot API"),
    "the gateway's own name": ("version: 1\nservices: {telegate: {}}\n", 2, "the gateway's own name"),
    "a person role for a service": (
        f"{SERVICE}{{roles: [x]}}\nperson_roles: {{x: {{}}}}\n",
        3,
        "names x, which is not under service_roles",
    ),
    "a date without a time": (f"{SERVICE}{{not_before: 2026-11-01}}\n", 3, "such as 2026-11-01T00:00:00Z"),
    "a time without offset": (f"{SERVICE}{{not_before: 2026-11-01T00:00:00}}\n", 3, "has to be a time"),
    "a day that is not": (f"{SERVICE}{{not_before: '2026-02-30T00:00:00Z'}}\n", 3, "has to be a time"),
    "revoked as a mapping": (f"{SERVICE}{{revoked: {{a: 1}}}}\n", 3, "has to be a list"),
    "a plain address": (f"{SERVICE}{{address: 'http://ci.example.com/'}}\n", 3, "begin with https://"),
    "an address without a host": (f"{SERVICE}{{address: 'https:///x'}}\n", 3, "is not an address"),
    "an address with a password": (f"{SERVICE}{{address: 'https://a:b@x.y/'}}\n", 3, "user name or password"),
    "an address with a fragment": (f"{SERVICE}{{address: 'https://x.y/#z'}}\n", 3, "a fragment"),
    "an address with a wild port": (f"{SERVICE}{{address: 'https://x.y:99999/'}}\n", 3, "is not an address"),
    "an address with a blank": (f"{SERVICE}{{address: 'https://x.y/a b'}}\n", 3, "is not an address"),
    "a rate per fortnight": (f"{SERVICE}{{rate: 5/fortnight}}\n", 3, "such as 60/minute"),
    "a rate of zero": (f"{SERVICE}{{rate: 0/second}}\n", 3, "such as 60/minute"),
    "a rate as a list": (f"{SERVICE}{{rate: [60/minute]}}\n", 3, "such as 60/minute"),
    "a key without kid": (f"{SERVICE}{{keys: [{{public_key: x}}]}}\n", 3, "needs a kid"),
    "a key without a key": (f"{SERVICE}{{keys: [{{kid: a}}]}}\n", 3, "needs either public_key or jwk"),
    "a key with both": (f"{SERVICE}{{keys: [{{kid: a, public_key: x, jwk: {{}}}}]}}\n", 3, "needs either"),
    "a kid that is a path": (f"{SERVICE}{{keys: [{{kid: ../a, public_key: x}}]}}\n", 3, "A kid has 1 to 64"),
    "a kid that is a number": (f"{SERVICE}{{keys: [{{kid: 1, public_key: x}}]}}\n", 3, "has to be text"),
    "a key that is no key": (
        f"{SERVICE}{{keys: [{{kid: a, public_key: x}}]}}\n",
        3,
        "this is not a public key",
    ),
    "a key as a number": (f"{SERVICE}{{keys: [{{kid: a, public_key: 1}}]}}\n", 3, "has to be text"),
    "a key as an SSH line": (
        f"{SERVICE}{{keys: [{{kid: a, public_key: ssh-ed25519 AAAA}}]}}\n",
        3,
        "it is an SSH key; convert it with: ssh-keygen",
    ),
    "a JWK with a list": (f"{SERVICE}{{keys: [{{kid: a, jwk: {{x5c: []}}}}]}}\n", 3, "has to be text"),
    "a JWK that is none": (f"{SERVICE}{{keys: [{{kid: a, jwk: {{kty: OKP}}}}]}}\n", 3, "not a JWK"),
    "a shared secret as JWK": (
        f"{SERVICE}{{keys: [{{kid: a, jwk: {{kty: oct, k: AA}}}}]}}\n",
        3,
        "private key",
    ),
    "a JWK for encryption": (
        f"{SERVICE}{{keys: [{{kid: a, jwk: {{kty: OKP, use: enc}}}}]}}\n",
        3,
        "use is not sig",
    ),
    "a JWK of another kid": (f"{SERVICE}{{keys: [{{kid: a, jwk: {{kid: b}}}}]}}\n", 3, "This JWK says kid b"),
    "a command without a service": (f"{COMMAND}{{}}\n", 4, "commands.go needs a service"),
    "a command of no service": (f"{COMMAND}{{service: cii}}\n", 4, "Did you mean ci?"),
    "a command with a hyphen": (
        "version: 1\nservices: {ci: {}}\ncommands: {g-o: {service: ci}}\n",
        3,
        "no name for",
    ),
    "a command with a slash": (
        "version: 1\nservices: {ci: {}}\ncommands: {/go: {service: ci}}\n",
        3,
        "without the",
    ),
    "a command of the gateway": (
        "version: 1\nservices: {ci: {}}\ncommands: {help: {service: ci}}\n",
        3,
        "itself",
    ),
    "a retry that is text": (f"{COMMAND}{{service: ci, retry: sometimes}}\n", 4, "has to be true or false"),
    "a command in no chat": (f"{COMMAND}{{service: ci, chats: []}}\n", 4, "chats is empty; leave it out"),
    "a group among people": (
        f"{COMMAND}{{service: ci, people: [-5]}}\n",
        4,
        "-5 in commands.go.people is a chat",
    ),
    "a person by name": (f"{COMMAND}{{service: ci, people: [ada]}}\n", 4, "has to be a Telegram id"),
    "a long description": (
        f"{COMMAND}{{service: ci, description: {'x' * 257}}}\n",
        4,
        "1 to 256 are allowed",
    ),
    "a role with no command": ("version: 1\nperson_roles: {x: {commands: [go]}}\n", 2, "not under commands"),
    "larger than 256 KiB": ("version: 1\n#" + "x" * 262_144, 1, "larger than 256 KiB"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_and_the_running_rules_stay(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = PolicyFile(path, {})
    before = file.current
    text, line, message = BROKEN[name]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with caplog.at_level(logging.ERROR, logger="telegate.policy"):
        assert file.check_for_change() is False
    assert file.current is before
    assert file.last_error is not None
    places = [(problem.line, problem.message) for problem in file.last_error.problems]
    assert any(place == line and message in told for place, told in places), places
    assert all(problem.line >= 1 and problem.column >= 1 for problem in file.last_error.problems)
    (record,) = caplog.records
    assert record.__dict__["action"] == "policy_refused"
    assert f"permissions.yaml:{line}:" in record.getMessage()


def test_a_broken_file_does_not_start(path: Path) -> None:
    path.write_text("version: 1\nnonsense: {}\n")
    with pytest.raises(
        PolicyFileError, match=r"permissions\.yaml:2:1: permissions\.yaml has no key nonsense"
    ):
        PolicyFile(path, {})


@pytest.mark.parametrize("kind", ["ed25519", "p256", "rsa"])
def test_a_private_key_in_the_file_is_refused_loudly(path: Path, keys: Keys, kind: str) -> None:
    private = keys.private_pem(kind)
    path.write_text(_with_key("ci-1", private))
    with pytest.raises(
        PolicyFileError, match="this is a private key, and it belongs to the service"
    ) as refused:
        load_policy(path, {})
    assert private.splitlines()[1] not in str(refused.value)


def test_a_private_jwk_is_refused_loudly(path: Path, keys: Keys) -> None:
    jwk = json.loads(OKPAlgorithm.to_jwk(keys.ed25519))
    path.write_text(yaml.safe_dump({"version": 1, "services": {"ci": {"keys": [{"kid": "a", "jwk": jwk}]}}}))
    with pytest.raises(PolicyFileError, match="this is a private key") as refused:
        load_policy(path, {})
    assert jwk["d"] not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "message"), [("small_rsa", "1024 bits and needs at least 2048"), ("p384", "is not accepted")]
)
def test_other_kinds_of_keys_are_refused(path: Path, keys: Keys, kind: str, message: str) -> None:
    path.write_text(_with_key("ci-1", keys.public_pem(kind)))
    with pytest.raises(PolicyFileError, match=message):
        load_policy(path, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pem: pem.replace("PUBLIC KEY", "CERTIFICATE"), "it is a certificate"),
        (lambda pem: pem.replace("PUBLIC KEY", "RSA PUBLIC KEY"), "openssl rsa -RSAPublicKey_in"),
        (lambda pem: pem.replace("MCow", "MDow"), "this public key is damaged"),
        (lambda pem: pem.replace("MCow", "M"), "this public key is damaged"),
    ],
)
def test_what_only_looks_like_a_key_is_named(
    path: Path, keys: Keys, change: Callable[[str], str], message: str
) -> None:
    path.write_text(_with_key("ci-1", change(keys.public_pem("ed25519"))))
    with pytest.raises(PolicyFileError, match=message):
        load_policy(path, {})


@pytest.mark.parametrize("alg", ["RS512", "RS384"])
def test_a_jwk_whose_alg_is_not_its_own_is_refused(path: Path, keys: Keys, alg: str) -> None:
    jwk = {**json.loads(RSAAlgorithm.to_jwk(keys.rsa.public_key())), "alg": alg}
    path.write_text(yaml.safe_dump({"version": 1, "services": {"ci": {"keys": [{"kid": "a", "jwk": jwk}]}}}))
    with pytest.raises(PolicyFileError, match=f"this JWK says alg {alg}, but its key is for RS256"):
        load_policy(path, {})


@pytest.mark.parametrize("second_service", ["ci", "cron"])
def test_a_kid_is_used_once_in_the_whole_file(path: Path, keys: Keys, second_service: str) -> None:
    entry = {"kid": "same", "public_key": keys.public_pem("ed25519")}
    services: dict[str, dict[str, list[object]]] = {"ci": {"keys": [entry]}, "cron": {"keys": []}}
    services[second_service]["keys"].append(dict(entry))
    path.write_text(yaml.safe_dump({"version": 1, "services": services}))
    with pytest.raises(PolicyFileError, match="The kid same is used twice; the first is on line"):
        load_policy(path, {})


def test_a_missing_file_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read \\(no such file or directory\\)"):
        load_policy(tmp_path / "nothing.yaml", {})


def test_the_pure_parser_says_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load_policy(path, PEOPLE)
    monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)
    assert load_policy(path, PEOPLE) == fast
    path.write_text("version: 1\nchats: {ops: 0}\n")
    with pytest.raises(PolicyFileError, match=r":2:14: chats\.ops has to be a Telegram id"):
        load_policy(path, {})


# A change of the file


def test_a_change_takes_effect_and_is_told(path: Path) -> None:
    file = PolicyFile(path, PEOPLE)
    told: list[Policy] = []
    file.on_change(told.append)
    assert file.check_for_change() is False
    path.write_text(GOOD.replace("  cron:\n", "  cron:\n  night: {roles: [notifier]}\n"))
    assert file.check_for_change() is True
    assert file.current.services["night"].roles == {"notifier"}
    assert told == [file.current]
    assert file.check_for_change() is False
    assert len(told) == 1


def test_a_file_that_is_replaced_with_the_same_size_and_time_is_seen(path: Path) -> None:
    file = PolicyFile(path, PEOPLE)
    status = path.stat()
    other = path.with_suffix(".new")
    other.write_text(GOOD.replace("60/minute", "99/minute"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_size == status.st_size
    assert file.check_for_change() is True
    assert file.current.services["ci"].rate == Rate(99, 60)


def test_a_broken_change_is_told_once_and_a_mended_one_counts(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = PolicyFile(path, PEOPLE)
    path.write_text("version: 3\n")
    with caplog.at_level(logging.ERROR, logger="telegate.policy"):
        assert file.check_for_change() is False
        assert file.check_for_change() is False
    assert len(caplog.records) == 1
    path.write_text(GOOD + "# mended\n")
    assert file.check_for_change() is True
    assert file.last_error is None


def test_a_file_that_goes_away_changes_nothing(path: Path) -> None:
    file = PolicyFile(path, PEOPLE)
    before = file.current
    path.unlink()
    assert file.check_for_change() is False
    assert file.check_for_change() is False
    assert file.current is before
    assert "cannot be read" in str(file.last_error)
    path.write_text(GOOD)
    assert file.check_for_change() is True


def test_reload_reads_again_without_a_change(path: Path) -> None:
    file = PolicyFile(path, PEOPLE)
    before = file.current
    assert file.reload() is True
    assert file.current is not before
    assert file.current == before


async def test_watching_sees_a_change_and_outlives_a_failing_callback(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = PolicyFile(path, PEOPLE)
    failed, seen = asyncio.Event(), asyncio.Event()

    def fail_first(policy: Policy) -> None:
        if "night" not in policy.services:
            failed.set()
            raise RuntimeError("a callback that fails")
        seen.set()

    file.on_change(fail_first)
    watching = asyncio.create_task(file.watch(0.01))
    try:
        async with asyncio.timeout(10):
            await asyncio.to_thread(path.write_text, GOOD + "# changed\n")
            await failed.wait()
            await asyncio.to_thread(path.write_text, GOOD.replace("  cron:\n", "  cron:\n  night:\n"))
            await seen.wait()
    finally:
        watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert "night" in file.current.services
    assert any(record.exc_info for record in caplog.records)


# People


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("", {}),
        ("99", {99: {"operator"}}),
        (
            "815:operator,4711:viewer|operator,99",
            {815: {"operator"}, 4711: {"viewer", "operator"}, 99: {"operator"}},
        ),
        (" 815 : viewer ,\n", None),
        ("815:viewer | operator ,\n4711:viewer\n", {815: {"viewer", "operator"}, 4711: {"viewer"}}),
        ("4711\n815\n", {4711: {"operator"}, 815: {"operator"}}),
    ],
)
def test_people_are_read_from_the_environment(text: str, people: dict[int, set[str]] | None) -> None:
    if people is None:
        with pytest.raises(PeopleError):
            parse_people(text)
    else:
        assert parse_people(text) == people


@pytest.mark.parametrize(
    "entry", ["ada", "-5", "0", "815:", "815:Op", "815:a||b", "815:a:b", "1" * 17, "८१५"]
)
def test_people_that_cannot_be_read_are_told_all_at_once(entry: str) -> None:
    with pytest.raises(PeopleError) as refused:
        parse_people(f"7:viewer,{entry},x y,7")
    assert len(refused.value.problems) == 3
    assert repr(entry) in str(refused.value)
    assert str(refused.value).startswith("cannot be read: ")
