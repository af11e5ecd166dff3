"""The commands of the how-to pages do what the pages say."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.config.table import JWT_SECRET
from infra.sandbox import Sandbox
from tests.docs.excused import EXCUSED
from tests.docs.pages import Page
from tests.docs.trial import Output, Shell, Trial, stop
from tests.ports import reserved_port

DEPLOY = Page("docs/how-to/deploy.md")
EARLIER = Page("docs/how-to/earlier-interface.md")
TLS = Page("docs/how-to/tls.md")


def _runnable(page: Page) -> list[str]:
    """The commands that are not excused, block by block."""
    blocks = [
        "\n".join(command for command in block.commands if command not in EXCUSED)
        for block in page.blocks("sh")
    ]
    return [block for block in blocks if block]


# Deploy


@pytest.fixture(scope="module")
def telegram() -> Iterator[Sandbox]:
    """A Bot API without a gateway, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started = Sandbox.start()
    yield asyncio.run_coroutine_threadsafe(started.__aenter__(), loop).result(30)
    asyncio.run_coroutine_threadsafe(started.__aexit__(None, None, None), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def host(tmp_path: Path, telegram: Sandbox) -> Shell:
    """A machine of one's own with the settings of the page."""
    port = str(reserved_port())
    return Shell.prepare(
        tmp_path / "host",
        BOT_TOKEN=telegram.token,
        TELEGRAM_API_URL=telegram.api_url,
        PUBLIC_URL=f"http://127.0.0.1:{port}",
        PORT=port,
        BIND_ADDRESS="127.0.0.1",
        JWT_SECRET="a-secret-of-the-how-to-page-long-enough-for-everybody",
        PERSON_ROLES="815:operator",
        LOG_FORMAT="text",
    )


def test_a_server_that_is_set_up_as_the_page_says_serves(host: Shell) -> None:
    secret, policy, set_webhook, look, ask, backup = _runnable(DEPLOY)
    assert len(JWT_SECRET.parse(host.run(secret).stdout.strip()) or ()) == 1
    assert "is in order" in host.run(policy).stdout
    with host.begin(sys.executable, "-m", "infra", "serve") as server:
        assert server.stdout is not None
        output = Output.of(server.stdout)
        try:
            output.until("Listening at")
            host.run(set_webhook)
            _assert_ready(host.run(_local(look, host)).stdout)
            answer = json.loads(host.run(_local(ask, host) + " -H 'Prefer: respond-async'").stdout)
            assert (answer["kind"], answer["service"]) == ("question", "ci")
            host.run(backup)
        finally:
            code = stop(server, signal.SIGTERM)
    assert code == 0
    with sqlite3.connect(host.folder / "backup.db") as copy:
        assert copy.execute("SELECT id FROM telegate_tasks").fetchall() == [(answer["id"],)]
    copy.close()


def _local(commands: str, host: Shell) -> str:
    return commands.replace("https://bot.example.com", host.variables["PUBLIC_URL"])


def _assert_ready(printed: str) -> None:
    ready, end = json.JSONDecoder().raw_decode(printed)
    assert ready["ready"] is True
    assert "Telegram posts to" in printed[end:]


# The earlier interface


def test_the_earlier_interface_sends_and_asks(trial: Trial) -> None:
    message, question, *_ = _runnable(EARLIER)
    assert json.loads(trial.shell.run(message).stdout)["state"] == "sent"
    with trial.tapping("Not now"):
        answer = json.loads(trial.shell.run(question).stdout)["answer"]
    assert answer["choice"] == "later"


def test_a_key_has_the_scope_of_the_endpoint(trial: Trial) -> None:
    key = {"Idempotency_Key": "moving"}
    body = {"chat": "grace", "text": "Hello"}
    _, old = trial.api("POST", "/enqueue_command", {"command": "message", "arguments": body}, **key)
    _, new = trial.api("POST", "/v1/messages", body, **key)
    assert old == new


def test_the_files_of_the_earlier_layout_still_count(tmp_path: Path) -> None:
    _, _, *commands = _runnable(EARLIER)
    shell = Shell.prepare(tmp_path / "checkout")
    secrets = shell.folder / "config" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "bot_api.txt").write_text("123456:not-a-token-of-any-bot\n")
    (secrets / "allowed_user.txt").write_text("815\n4711\n")
    told = shell.run("\n".join(commands)).stdout
    assert "2 people with roles" in told
    assert "Person 815 may run /deploy" in told


# TLS


def test_a_self_signed_pair_is_made_as_the_page_says(tmp_path: Path) -> None:
    make, set_webhook = _runnable(TLS)
    assert set_webhook in _runnable(DEPLOY)
    shell = Shell.prepare(tmp_path / "checkout")
    shell.run(make)
    pair = {file.name for file in (shell.folder / "config" / "secrets").iterdir()}
    assert pair == {"certificate.pem", "key.pem"}
