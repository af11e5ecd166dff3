"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from tests.acceptance.gateway import (
    BOT_TOKEN,
    JWT_SECRET,
    ROOT,
    UPDATES,
    Gate,
    Server,
    derived_webhook_secret,
    environment,
    minted,
    server_settings,
)
from tests.acceptance.policies import POLICY
from tests.ports import reserved_port

in_module_loop = pytest.mark.asyncio(loop_scope="module")


def telegate(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with only these settings."""
    return subprocess.run(
        (sys.executable, "-m", "infra", *arguments),
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def side_by_side(
    folder: Path, commands: Sequence[Sequence[str]], **settings: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands on all cores; most of their time is the start of Python."""
    with ThreadPoolExecutor(max_workers=4) as threads:
        return list(threads.map(lambda each: telegate(folder, *each, **settings), commands))


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What was printed by a command that must have ended like this."""
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    for secret in (BOT_TOKEN.partition(":")[2], JWT_SECRET):
        assert secret not in text
    assert "Traceback" not in text
    assert "\x1b[" not in text, "Colours are for terminals only."
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy."""
    (tmp_path / "permissions.yaml").write_text(POLICY)
    return tmp_path


SETTINGS = {"BOT_TOKEN": BOT_TOKEN, "JWT_SECRET": JWT_SECRET}
COMMANDS = ("dev", "serve", "token", "keys", "policy", "webhook", "cert", "migrate")


def test_help_names_every_command_and_the_exit_codes(folder: Path) -> None:
    text = told(telegate(folder, "--help"), 0)
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "Exit codes" in text


def test_help_of_every_command_has_examples(folder: Path) -> None:
    for name, done in zip(
        COMMANDS, side_by_side(folder, [(name, "--help") for name in COMMANDS]), strict=True
    ):
        text = told(done, 0)
        assert "Usage: telegate" in text
        assert f"telegate {name}" in text.partition("xample")[2] or name == "webhook"


def test_a_command_that_does_not_exist_ends_with_2(folder: Path) -> None:
    assert "fly" in told(telegate(folder, "fly"), 2)


# policy


def test_a_good_policy_is_in_order(folder: Path) -> None:
    told(telegate(folder, "policy", "check"), 0)


def test_policy_check_says_what_this_version_does_not_serve_yet(folder: Path) -> None:
    assert "POST /v1/broadcasts" in told(telegate(folder, "policy", "check"), 0)


def test_all_problems_of_a_policy_are_told_at_once_with_line_and_column(folder: Path) -> None:
    (folder / "permissions.yaml").write_text(
        "version: 1\n"
        "service_roles:\n"
        "  approver:\n"
        '    endpoints: ["POST /v1/question"]\n'
        "    chat: [ops]\n"
        "services:\n"
        "  ci: {roles: [aprover]}\n"
    )
    text = told(telegate(folder, "policy", "check"), 2)
    for place in ("4:17", "5:5", "7:16"):
        assert place in text
    for word in ("POST /v1/question", "chat", "aprover"):
        assert word in text


WHY: list[tuple[tuple[str, ...], int]] = [
    (("--service", "ci", "POST /v1/questions", "--chat", "ops"), 0),
    (("--service", "ci", "POST /v1/questions", "--chat", "ada"), 1),
    (("--service", "ci", "POST /v1/telegram/{method}"), 1),
    (("--service", "nobody", "POST /v1/questions"), 1),
    (("--person", "815", "/status"), 0),
    (("--person", "4711", "/deploy"), 1),
    (("--person", "815", "/deploy", "--chat", "ada"), 1),
]


def test_explain_tells_in_one_sentence_why(folder: Path) -> None:
    commands = [("policy", "explain", *arguments) for arguments, _ in WHY]
    answers = side_by_side(folder, commands, PERSON_ROLES="815:operator")
    for (_, code), done in zip(WHY, answers, strict=True):
        text = told(done, code).strip()
        assert len(text.splitlines()) == 1
        assert text.endswith(".")


# token


@in_module_loop
async def test_a_minted_token_is_accepted_by_the_server(gate: Gate) -> None:
    arguments = ("token", "mint", "--service", "ci", "--role", "notifier", "--lifetime", "1h")
    done = await asyncio.to_thread(telegate, gate.server.folder, *arguments, **gate.server.settings)
    told(done, 0)
    token = done.stdout.strip()
    gate.server.tokens.add(token)
    headers = {"Authorization": f"Bearer {token}"}
    me = (await gate.request("GET", "/v1/me", headers=headers)).document
    assert (me["service"], me["roles"]) == ("ci", ["notifier"])
    claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="telegate")
    assert claims["exp"] - claims["iat"] == 3600


NEVER_COUNTS: list[tuple[str, ...]] = [
    ("--service", "nobody", "--role", "notifier"),
    ("--service", "ci", "--role", "no-such-role"),
    ("--service", "ci", "--role", "everything"),
    ("--service", "ci", "--role", "notifier", "--lifetime", "91d"),
    ("--service", "ci", "--role", "notifier", "--lifetime", "soon"),
    ("--service", "ci"),
]


def test_a_token_that_could_never_count_is_not_minted(folder: Path) -> None:
    commands = [("token", "mint", *arguments) for arguments in NEVER_COUNTS]
    for done in side_by_side(folder, commands, **SETTINGS):
        told(done, 2)
        assert done.stdout == ""


def test_inspect_tells_what_a_token_says_and_whether_it_counts(folder: Path) -> None:
    good = minted("ci", ["notifier"])
    text = told(telegate(folder, "token", "inspect", good, **SETTINGS), 0)
    assert "ci" in text
    assert "notifier" in text
    assert good.rpartition(".")[2] not in text
    expired = minted("ci", ["notifier"], iat=1_700_000_000, exp=1_700_003_600)
    assert "expired" in told(telegate(folder, "token", "inspect", expired, **SETTINGS), 1)
    told(telegate(folder, "token", "inspect", "nonsense", **SETTINGS), 1)


# webhook


async def run(gate: Gate, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the server's settings, while the sandbox goes on."""
    given = {**gate.server.settings, **settings}
    return await asyncio.to_thread(telegate, gate.server.folder, *arguments, **given)


@in_module_loop
async def test_webhook_set_info_and_delete_do_what_they_say(gate: Gate) -> None:
    told(await run(gate, "webhook", "set"), 0)
    webhook = gate.sandbox.updates.webhook
    assert webhook is not None
    assert webhook.url == f"{gate.server.address}/telegram/webhook"
    assert webhook.secret == derived_webhook_secret()
    assert {"message", "callback_query"} <= (gate.sandbox.updates.allowed or set())
    calls = [call.method for call in gate.sandbox.calls]
    assert "setMyCommands" in calls
    set_call = gate.sandbox.calls.of("setWebhook")[-1]
    assert set_call.parameters.get("drop_pending_updates") in {None, False, "false", "False"}
    ada = gate.person()
    await ada.says(None, "/whoami")
    assert str(ada.id) in (await gate.next_message(ada)).text
    assert webhook.url in told(await run(gate, "webhook", "info"), 0)
    info = json.loads((await run(gate, "webhook", "info", "--json")).stdout)
    assert webhook.url in json.dumps(info)
    told(await run(gate, "webhook", "delete"), 0)
    assert gate.sandbox.updates.webhook is None
    told(await run(gate, "webhook", "info"), 1)
    assert set(UPDATES) >= {"message", "callback_query"}
    await gate.set_webhook()


@in_module_loop
async def test_webhook_set_needs_a_public_url(gate: Gate) -> None:
    assert "PUBLIC_URL" in told(await run(gate, "webhook", "set", PUBLIC_URL=""), 2)


@in_module_loop
async def test_a_telegram_that_cannot_be_reached_is_told_in_words(gate: Gate) -> None:
    done = await run(gate, "webhook", "info", TELEGRAM_API_URL="http://127.0.0.1:9")
    assert done.returncode != 0
    assert "Telegram" in told(done, done.returncode)


@in_module_loop
async def test_a_wrong_bot_token_is_told_in_words(gate: Gate) -> None:
    done = await run(gate, "webhook", "set", BOT_TOKEN="123456789:another-token-of-nobody-at-all")
    assert done.returncode in {1, 2}
    assert "BOT_TOKEN" in told(done, done.returncode)


# migrate


def test_migrate_makes_the_database_once_and_does_no_harm_twice(folder: Path) -> None:
    database = f"sqlite:///{folder / 'own.db'}"
    told(telegate(folder, "migrate", "--dry-run", DATABASE_URL=database, **SETTINGS), 0)
    assert not (folder / "own.db").exists()
    told(telegate(folder, "migrate", DATABASE_URL=database, **SETTINGS), 0)
    assert (folder / "own.db").stat().st_mode & 0o777 == 0o600, "Whoever reads it could forge buttons."
    (folder / "own.db").chmod(0o640)
    told(telegate(folder, "migrate", DATABASE_URL=database, **SETTINGS), 0)
    assert (folder / "own.db").stat().st_mode & 0o777 == 0o640, "What the operator chose stays."


@in_module_loop
async def test_migrate_beside_a_running_server_does_no_harm(gate: Gate) -> None:
    told(await run(gate, "migrate"), 0)
    assert (await gate.request("GET", "/readyz")).status == 200


# cert


def test_a_certificate_is_not_replaced_unless_it_must_be(folder: Path) -> None:
    arguments = ("cert", "new", "--host", "bot.example.com", "--out", str(folder))
    told(telegate(folder, *arguments), 0)
    before = (folder / "key.pem").read_bytes()
    assert "--force" in told(telegate(folder, *arguments), 2)
    assert (folder / "key.pem").read_bytes() == before
    told(telegate(folder, *arguments, "--force"), 0)
    assert (folder / "key.pem").read_bytes() != before


def test_a_folder_that_cannot_be_written_to_is_told_by_its_name(folder: Path) -> None:
    out = folder / "permissions.yaml" / "below"
    commands = [
        ("cert", "new", "--host", "bot.example.com", "--out", str(out)),
        ("keys", "new", "--service", "ci", "--out", str(out)),
    ]
    for done in side_by_side(folder, commands):
        text = told(done, 2)
        assert f"{out}" in text
        assert "cannot be written" in text
        assert "--out." in text


def test_git_leaves_the_keys_of_a_checkout_alone() -> None:
    for name in ("key.pem", "certificate.pem", "ci-1.private.pem", "data/telegate.db"):
        done = subprocess.run(("git", "check-ignore", "-q", name), cwd=ROOT, check=False)
        assert done.returncode == 0, name


# keys


def test_a_service_s_key_pair_makes_tokens_that_count(folder: Path) -> None:
    done = telegate(folder, "keys", "new", "--service", "ci", "--kid", "ci-1")
    text = told(done, 0)
    private = folder / "ci-1.private.pem"
    assert private.stat().st_mode & 0o077 == 0
    assert "PRIVATE" not in text
    assert "ci-1" in text


# A start that cannot be


BAD_SETTINGS = {
    "nothing at all": ({"BOT_TOKEN": "", "JWT_SECRET": ""}, ["BOT_TOKEN"]),
    "several at once": (
        {"BOT_TOKEN": "x", "PORT": "http", "LOG_LEVEL": "loud"},
        ["BOT_TOKEN", "PORT", "LOG_LEVEL"],
    ),
    "a short secret": ({"JWT_SECRET": "x" * 31}, ["JWT_SECRET", "32"]),
    "no secret and no key": ({"JWT_SECRET": ""}, ["JWT_SECRET"]),
    "no policy": ({"PERMISSIONS_FILE": "/nonexistent/permissions.yaml"}, ["permissions.yaml"]),
    "half of TLS": ({"TLS_CERT_FILE": "certificate.pem"}, ["TLS_KEY_FILE"]),
    "PostgreSQL": (
        {"DATABASE_URL": "postgres://u:canary-database-password@db:port/telegate"},
        ["DATABASE_URL"],
    ),
    "a certificate that is none": (
        {"TLS_CERT_FILE": "permissions.yaml", "TLS_KEY_FILE": "permissions.yaml"},
        ["TLS_CERT_FILE"],
    ),
    "a person's role that is none": ({"PERSON_ROLES": "815:captain"}, ["captain"]),
    "a broken policy": ({"PERMISSIONS_FILE": "broken.yaml"}, ["broken.yaml", "2:1"]),
    "a database that is none": ({"DATABASE_URL": "sqlite:///permissions.yaml"}, ["permissions.yaml"]),
    "a folder that is none": ({"DATABASE_URL": "sqlite:////proc/nowhere/telegate.db"}, ["/proc/nowhere"]),
}


@pytest.mark.parametrize("what", BAD_SETTINGS)
@in_module_loop
async def test_a_bad_start_exits_3_at_once_and_says_why_in_one_block(folder: Path, what: str) -> None:
    wrong, words = BAD_SETTINGS[what]
    (folder / "broken.yaml").write_text("version: 1\nservice_rolls: {}\n")
    given = {**server_settings(folder, "http://127.0.0.1:9", {}), "LOG_LEVEL": "info", **wrong}
    server = Server(folder, {name: value for name, value in given.items() if value})
    process = await server.spawn()
    async with asyncio.timeout(30):
        assert await process.wait() == 3, server.log
    for word in words:
        assert word in server.log
    assert "canary-database-password" not in server.log
    server.check_log()
    plain = [line for line in server.log.splitlines() if line.strip() and not line.startswith('{"time"')]
    assert len(plain) <= 14, server.log


@in_module_loop
async def test_serve_starts_the_same_server(gate: Gate, folder: Path) -> None:
    settings = server_settings(folder, gate.sandbox.api_url, {})
    server = Server(folder, settings)
    command = (sys.executable, "-m", "infra", "serve")
    with (folder / "server.log").open("wb") as log:
        server.process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment(settings), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        assert (await server.until_answered("/healthz", 200)).status == 200
    finally:
        await server.stop()
    server.check_log()


# dev, with a bot of one's own


async def start_dev(folder: Path, settings: Mapping[str, str]) -> Server:
    """`telegate dev` as a process, with these settings."""
    server = Server(folder, dict(settings))
    with (folder / "server.log").open("wb") as log:
        server.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra", "dev"),
            cwd=folder,
            env=environment(settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return server


@in_module_loop
async def test_dev_with_a_bot_token_sets_the_webhook_and_serves(gate: Gate, folder: Path) -> None:
    server = await start_dev(folder, server_settings(folder, gate.sandbox.api_url, {}))
    try:
        await server.until_answered("/readyz", 200)
        webhook = gate.sandbox.updates.webhook
        assert webhook is not None
        assert webhook.url == f"{server.address}/telegram/webhook"
        assert f"Telegram posts to {webhook.url}." in server.log
    finally:
        await server.stop()
        await gate.set_webhook()
    server.check_log()


@in_module_loop
async def test_dev_serves_even_when_telegram_cannot_be_told_where(folder: Path) -> None:
    server = await start_dev(folder, server_settings(folder, "http://127.0.0.1:9", {}))
    try:
        await server.until_answered("/healthz", 200)
    finally:
        await server.stop()
    assert "The webhook could not be set: Telegram cannot be reached." in server.log
    assert "telegate webhook set" in server.log
    server.check_log()


CANNOT_SERVE: list[tuple[dict[str, str], str]] = [
    ({"JWT_SECRET": ""}, "JWT_SECRET is missing"),
    ({"PUBLIC_URL": ""}, "Set PUBLIC_URL"),
    ({"PUBLIC_URL": "http://127.0.0.1:8080", "TELEGRAM_API_URL": ""}, "https addresses only"),
    ({"PERMISSIONS_FILE": "none.yaml"}, "none.yaml"),
]


@pytest.mark.parametrize(("wrong", "word"), CANNOT_SERVE)
@in_module_loop
async def test_dev_tells_telegram_nothing_when_the_server_could_not_start(
    gate: Gate, folder: Path, wrong: dict[str, str], word: str
) -> None:
    calls = len(gate.sandbox.calls.of("setWebhook"))
    settings = {**server_settings(folder, gate.sandbox.api_url, {}), **wrong}
    assert word in told(await asyncio.to_thread(telegate, folder, "dev", **settings), 2)
    assert len(gate.sandbox.calls.of("setWebhook")) == calls


def test_dev_does_not_take_the_sandbox_when_the_line_with_the_token_cannot_be_read(folder: Path) -> None:
    (folder / ".env").write_text(f"BOT_TOKEN='{BOT_TOKEN}\n")
    text = told(telegate(folder, "dev"), 2)
    assert ".env, line 1: BOT_TOKEN has a quote that is not closed" in text


def test_a_port_that_cannot_be_is_told_in_words(folder: Path) -> None:
    commands = [("dev", option, "99999") for option in ("--port", "--sandbox-port")]
    for (_, option, _), done in zip(commands, side_by_side(folder, commands), strict=True):
        assert option in told(done, 2)


def test_a_busy_port_is_told_with_what_to_do_under_make_too(folder: Path) -> None:
    (folder / "permissions.yaml").write_text((ROOT / "permissions.yaml").read_text())
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        free = str(reserved_port())
        gateway = telegate(folder, "dev", "--port", port, "--sandbox-port", free)
        sandbox = telegate(folder, "dev", "--port", free, "--sandbox-port", port)
        same = telegate(folder, "dev", "--port", free, "--sandbox-port", free)
        make = subprocess.run(
            ("make", "-n", "run", f"ARGS=--sandbox-port {port}"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "-m infra dev --sandbox-port" in make.stdout
    for done, whose in ((gateway, "gateway"), (sandbox, "sandbox")):
        assert f"Port {port}, for the {whose}, is taken: another program listens there" in told(done, 2)
        assert "make run ARGS='--port 9000 --sandbox-port 9001'" in told(done, 2)
        assert "Errno" not in told(done, 2)
    assert f"cannot both have port {free}" in told(same, 2)
