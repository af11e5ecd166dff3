"""The pages about permissions and tokens say what is true, and their samples run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.model.errors import ChatForbidden, Forbidden
from core.policy.explain import explain_service
from core.policy.policy import FOR_EVERY_PERSON, Policy, Principal
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE, PUBLIC
from infra.auth import LONGEST_SELF_SIGNED, TokenVerifier
from infra.auth.claims import REQUIRED
from infra.auth.issuer import USUAL_PACE
from infra.auth.jwks import LARGEST, TOTAL_SECONDS
from infra.auth.key_set import ALGORITHMS, MOST_KEYS
from infra.cli import keys as keys_cli
from infra.cli import policy as policy_cli
from infra.cli import token as token_cli
from infra.config.permissions.file import load_policy, parse_people
from infra.config.permissions.sections import SECTIONS
from infra.config.settings import SettingsSource, token_issuer
from tests.issuer import running_issuer

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs/reference/permissions.md").read_text(encoding="utf-8")
ISSUER_PAGE = (ROOT / "docs/how-to/token-issuer.md").read_text(encoding="utf-8")
HOW_TO = (ROOT / "docs/how-to/tokens-and-keys.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "permissions.yaml"
OPS, ADA, GRACE = -1001234567890, 815, 4711


def _block(page: str, language: str, part: str = "") -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)
    (found,) = [block for block in blocks if part in block]
    return str(found)


# The file in the root


@pytest.fixture
def example() -> Policy:
    return load_policy(EXAMPLE, parse_people("815:operator,4711:viewer"))


def test_the_example_lets_the_quick_start_ask_in_every_chat_of_the_sandbox(example: Policy) -> None:
    demo = Principal("demo", example.effective_roles("demo", ["approver"]), "jti")
    for chat in (OPS, ADA, GRACE):
        example.require_chat(demo, "POST /v1/questions", chat)
    for endpoint in ENDPOINTS[:8]:
        example.require_endpoint(demo, endpoint)


def test_the_example_refuses_what_it_does_not_name(example: Policy) -> None:
    demo = Principal("demo", example.effective_roles("demo", ["approver"]), "jti")
    with pytest.raises(ChatForbidden):
        example.require_chat(demo, "POST /v1/questions", 99)
    for endpoint in ENDPOINTS[8:]:
        with pytest.raises(Forbidden):
            example.require_endpoint(demo, endpoint)
    notifier = Principal("ci", example.effective_roles("ci", ["notifier"]), "jti")
    with pytest.raises(Forbidden):
        example.require_endpoint(notifier, "POST /v1/questions")


def test_the_example_knows_the_people_of_the_sandbox(example: Policy) -> None:
    assert {example.resolve_chat(name)[0] for name in ("ops", "ada", "grace")} == {OPS, ADA, GRACE}
    assert [rule.name for rule in example.commands_for(ADA, OPS)] == ["status", "deploy"]
    assert [rule.name for rule in example.commands_for(GRACE, OPS)] == ["status"]
    assert example.commands_for(99, OPS) == ()


def test_the_example_gives_nobody_everything(example: Policy) -> None:
    assert not any("*" in role.chats for role in example.service_roles.values())
    assert all(rule.people == frozenset() for rule in example.commands.values())


# The reference


def test_the_reference_lists_every_endpoint_in_the_order_of_the_api() -> None:
    table = REFERENCE.split("## Endpoints")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `([A-Z]+ /\S+)` \|", table, flags=re.MULTILINE)) == ENDPOINTS
    for name in (*FOR_EVERY_SERVICE, *PUBLIC):
        assert f"`{name}`" in table
    for name in FOR_EVERY_PERSON:
        assert f"`/{name}`" in REFERENCE


def test_the_reference_explains_every_key_that_the_file_can_have() -> None:
    explained = set(re.findall(r"^\| `(?:keys\[\]\.)?([a-z_]+)` \|", REFERENCE, flags=re.MULTILINE))
    fields = {
        "includes",
        "endpoints",
        "chats",
        "methods",
        "commands",
        "roles",
        "keys",
        "kid",
        "public_key",
        "jwk",
    }
    fields |= {
        "not_before",
        "revoked",
        "address",
        "rate",
        "service",
        "description",
        "usage",
        "retry",
        "people",
    }
    assert explained == fields | set(SECTIONS)


def test_every_key_that_the_reference_explains_is_read(tmp_path: Path) -> None:
    rows = re.findall(
        r"^### A[n]? (?:role|service|command) of `(\w+)`\n\n(.*?)\n\n",
        REFERENCE,
        flags=re.MULTILINE | re.DOTALL,
    )
    assert {section for section, _ in rows} == {"service_roles", "person_roles", "services", "commands"}
    path = tmp_path / "permissions.yaml"
    for section, table in rows:
        for key in re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.MULTILINE):
            path.write_text(f"version: 1\n{section}:\n  name: {{{key}: [{{}}]}}\n")
            result = CliRunner().invoke(policy_cli.command, ["check", "--file", str(path)])
            assert "has no key" not in result.stderr, (section, key)


def test_the_example_of_the_reference_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "permissions.yaml"
    path.write_text(_block(REFERENCE, "yaml"))
    policy = load_policy(path, parse_people("815:operator,4711:viewer|operator,99"))
    assert explain_service(policy, "ci", "POST /v1/questions", "ops").allowed
    assert policy.may_run(4711, "deploy", OPS)


def test_the_commands_of_the_reference_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PERSON_ROLES", "815:operator")
    lines = _block(REFERENCE, "sh").splitlines()
    assert len(lines) == 3
    for line in lines:
        arguments = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
        assert arguments[:2] == ["telegate", "policy"]
        result = CliRunner().invoke(policy_cli.command, arguments[2:])
        assert result.exit_code == 0, result.output


# The how-to: its commands and samples, in the order of the page


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder after `telegate keys new --service ci`, with the printed lines in its policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JWT_SECRET", raising=False)
    monkeypatch.delenv("PERSON_ROLES", raising=False)
    text = EXAMPLE.read_text(encoding="utf-8")
    (tmp_path / "permissions.yaml").write_text(text, encoding="utf-8")
    assert "telegate keys new --service ci" in HOW_TO
    result = CliRunner().invoke(keys_cli.command, ["new", "--service", "ci"])
    assert result.exit_code == 0, result.output
    pasted = result.stdout.removeprefix("services:\n")
    changed = text.replace("  ci:\n    roles: [approver]\n", f"{pasted}    roles: [approver]\n")
    (tmp_path / "permissions.yaml").write_text(changed, encoding="utf-8")
    return tmp_path


def _takes(workplace: Path, token: str) -> Principal:
    policy = load_policy(workplace / "permissions.yaml", {})
    return TokenVerifier(lambda: policy, [], "telegate", 3600, time.time).verify(token.strip())


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_sample_makes_a_token_that_counts(workplace: Path) -> None:
    (workplace / "sample.py").write_text(_block(HOW_TO, "python"))
    principal = _takes(workplace, _output([sys.executable, "sample.py"], workplace))
    assert principal.service == "ci"
    assert principal.roles == {"notifier"}


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed here")
def test_the_node_sample_makes_a_token_that_counts(workplace: Path) -> None:
    (workplace / "sample.cjs").write_text(_block(HOW_TO, "js"))
    assert _takes(workplace, _output(["node", "sample.cjs"], workplace)).roles == {"notifier"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's command is not installed here")
def test_the_shell_sample_makes_a_token_that_counts(workplace: Path) -> None:
    (workplace / "sample.sh").write_text(_block(HOW_TO, "bash"))
    assert _takes(workplace, _output(["bash", "sample.sh"], workplace)).roles == {"notifier"}
    assert not (workplace / "signed.txt").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's command is not installed here")
def test_a_pair_made_with_openssl_is_taken(workplace: Path) -> None:
    make, show = re.findall(r"`(openssl (?:genpkey|pkey) [^`]*)`", HOW_TO)
    (workplace / "ci-1.private.pem").unlink()
    _output(make.split(), workplace)
    public = _output(show.split(), workplace)
    path = workplace / "permissions.yaml"
    indented = "".join(f"          {line}\n" for line in public.splitlines())
    policy = re.sub(r" {10}-----BEGIN.*?END PUBLIC KEY-----\n", indented, path.read_text(), flags=re.DOTALL)
    path.write_text(policy)
    (workplace / "sample.py").write_text(_block(HOW_TO, "python"))
    assert _takes(workplace, _output([sys.executable, "sample.py"], workplace)).service == "ci"


def test_the_command_line_signs_as_the_page_says(workplace: Path) -> None:
    line = _block(HOW_TO, "sh", "--key ci-1.private.pem").split()
    result = CliRunner().invoke(token_cli.command, line[2:])
    assert result.exit_code == 0, result.output
    assert _takes(workplace, result.stdout).roles == {"notifier"}


def test_a_secret_made_as_the_page_says_mints_a_token_that_can_be_inspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JWT_SECRET", raising=False)
    monkeypatch.delenv("PERSON_ROLES", raising=False)
    shutil.copy(EXAMPLE, tmp_path)
    _output(["bash", "-c", _block(HOW_TO, "sh", "JWT_SECRET=")], tmp_path)
    line = _block(HOW_TO, "sh", "--lifetime 30d").split()
    minted = CliRunner().invoke(token_cli.command, line[2:])
    assert minted.exit_code == 0, minted.output
    assert 'telegate token inspect "$TOKEN"' in HOW_TO
    inspected = CliRunner().invoke(token_cli.command, ["inspect", minted.stdout.strip()])
    assert inspected.exit_code == 0, inspected.output


# Tokens of an issuer


def test_the_settings_of_the_page_name_an_issuer() -> None:
    lines = _block(ISSUER_PAGE, "text", "JWT_ISSUER=").split()
    source = SettingsSource.open(dict(line.split("=", 1) for line in lines), None)
    assert token_issuer(source) is not None
    assert source.problems == []


def test_the_page_names_every_claim_and_nothing_that_is_not_so() -> None:
    table = ISSUER_PAGE.split("## What a token has to say")[1].split("\n\nEverything else")[0]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \|", table, flags=re.MULTILINE)
    assert {name.strip("`") for row in rows for name in row.split(", ")} == set(REQUIRED)
    assert all(f"`{algorithm}`" in table for algorithm in ALGORITHMS)
    assert f"A set has {MOST_KEYS} keys at most" in ISSUER_PAGE
    assert f"within {TOTAL_SECONDS:.0f} seconds, and be JSON of at most {LARGEST // 1024} kB" in ISSUER_PAGE
    assert (USUAL_PACE.longest, USUAL_PACE.cool_down, LONGEST_SELF_SIGNED) == (300, 30, 3600)


async def test_a_token_of_an_issuer_is_looked_into_as_the_page_says(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    name, *arguments = _block(ISSUER_PAGE, "sh").split()
    assert (name, arguments) == ("telegate", ["token", "inspect", '"$TOKEN"'])
    async with running_issuer(tmp_path) as issuer:
        made = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infra", *arguments[:-1], issuer.token("ci", "notifier")),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **issuer.settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(made.communicate(), 60)
    assert made.returncode == 0, err
    assert out.endswith(b"The gateway takes this token.\n")
    assert issuer.fetches == 1
