"""The command line itself: help, versions, errors, and `serve`."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from core.model.errors import StorageUnavailable
from infra.cli import main
from infra.cli.serve import command as serve
from infra.cli.serve import gunicorn_command
from infra.sandbox import Sandbox
from tests.integration.platform.servers import ENOUGH, LIMIT, ROOT

COMMANDS = ["dev", "serve", "token", "keys", "policy", "webhook", "cert", "migrate"]


def telegate(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ENOUGH}
    return subprocess.run(
        [sys.executable, "-m", "infra", *arguments],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_help_lists_every_command_and_the_exit_codes() -> None:
    shown = telegate("--help")
    assert shown.returncode == 0
    listed = [
        line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ") and line[2] != " "
    ]
    assert [name for name in listed if name in COMMANDS] == COMMANDS
    assert "3  the server cannot start" in shown.stdout
    assert telegate("-h").stdout == shown.stdout


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom infra.cli import main\nmain(['--help'], standalone_mode=False)\nprint(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(shown.stdout.splitlines()[-1].split())
    assert "infra.cli" in loaded
    assert not {"aiohttp", "telegram", "yaml", "cryptography", "infra.cli.serve"} & loaded


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists_and_helps(name: str) -> None:
    command = importlib.import_module(f"infra.cli.{name}").command
    assert isinstance(command, click.Command)
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: main {name}")


def test_the_version_is_the_package_s() -> None:
    shown = telegate("--version")
    assert shown.stdout.startswith("telegate, version ")


def test_a_command_that_does_not_exist_is_a_usage_error() -> None:
    shown = telegate("serv")
    assert shown.returncode == 2
    assert "No such command 'serv'" in shown.stderr


def test_an_error_that_an_operator_must_know_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise StorageUnavailable("Another server has the database open.")

    monkeypatch.setattr(serve, "callback", fail)
    shown = CliRunner().invoke(main, ["serve"])
    assert shown.exit_code == 2
    assert shown.stderr == "Error: Another server has the database open.\n"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("9000", "127.0.0.1")),
        ({"PORT": "1"}, ("9000", None)),
        ({"BIND_ADDRESS": "::1"}, ("9000", "::1")),
    ],
)
def test_a_port_typed_by_hand_does_not_open_the_server_to_the_world(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: tuple[str, str | None]
) -> None:
    for name in ("PORT", "BIND_ADDRESS"):
        monkeypatch.setenv(name, environ.get(name, ""))
        if name not in environ:
            monkeypatch.delenv(name)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: started.append(arguments))
    assert CliRunner().invoke(main, ["serve", "--port", "9000"]).exit_code == 0
    assert started == [gunicorn_command()]
    assert (os.environ["PORT"], os.environ.get("BIND_ADDRESS")) == expected


def test_serve_starts_what_the_procfile_starts() -> None:
    (web,) = [line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("web:")]
    assert web.split()[1:] == ["gunicorn", *gunicorn_command()[3:]]


def test_the_procfile_s_release_names_commands_that_exist() -> None:
    (release,) = [
        line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("release:")
    ]
    for part in release.removeprefix("release:").split("&&"):
        program, *arguments = part.split()
        assert program == "telegate"
        assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


def test_serve_with_broken_settings_ends_with_code_3(tmp_path: Path) -> None:
    (tmp_path / "permissions.yaml").symlink_to(ROOT / "permissions.yaml")
    shown = telegate("serve", cwd=tmp_path, BOT_TOKEN="nonsense", JWT_SECRET=ENOUGH["JWT_SECRET"])
    assert shown.returncode == 3
    assert "Telegate cannot start. One setting is missing or wrong:" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_start_with_nothing_tells_all_that_is_missing_at_once(tmp_path: Path) -> None:
    shown = telegate("serve", cwd=tmp_path)
    assert shown.returncode == 3
    assert "Telegate cannot start. 2 settings are missing or wrong:" in shown.stderr
    assert "* BOT_TOKEN is missing." in shown.stderr
    assert "* JWT_SECRET is missing; it is needed unless a service in the policy has a key." in shown.stderr
    assert "The policy cannot be used, either:" in shown.stderr
    assert f"{tmp_path}/permissions.yaml cannot be read (no such file or directory)." in shown.stderr
    assert "let PERMISSIONS_FILE name a file that can be read" in shown.stderr


def test_policy_signing_key_and_certificate_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "permissions.yaml").write_text("version: 1\nservice_rolls: {}\n")
    files = {"TLS_CERT_FILE": "none.pem", "TLS_KEY_FILE": "none.pem"}
    shown = telegate("serve", cwd=tmp_path, BOT_TOKEN=ENOUGH["BOT_TOKEN"], **files)
    assert shown.returncode == 3
    for words in ("* JWT_SECRET is missing", "* TLS_CERT_FILE and TLS_KEY_FILE cannot", "service_rolls"):
        assert words in shown.stderr


def test_a_name_that_is_no_setting_is_told_with_the_signing_key_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "permissions.yaml").write_text("version: 1\n")
    (tmp_path / ".env").write_text("JWT_SECRT=canary\n")
    shown = telegate("serve", cwd=tmp_path, BOT_TOKEN=ENOUGH["BOT_TOKEN"])
    assert shown.returncode == 3
    assert "JWT_SECRET is missing, and no service in the policy has a key" in shown.stderr
    assert "Did you mean JWT_SECRET?" in shown.stderr.partition("cannot start")[2]
    assert "canary" not in shown.stderr


def test_what_the_environment_switches_off_is_missing_whatever_dotenv_says(tmp_path: Path) -> None:
    (tmp_path / "permissions.yaml").write_text("version: 1\n")
    names = ("BOT_TOKEN", "JWT_SECRET")
    (tmp_path / ".env").write_text("".join(f"{name}={ENOUGH[name]}\n" for name in names))
    shown = telegate("serve", cwd=tmp_path, BOT_TOKEN="", JWT_SECRET="")
    assert shown.returncode == 3
    for name in names:
        assert f"* {name} is missing" in shown.stderr


@pytest.mark.parametrize(
    "given",
    [{"JWT_SECRET": "short"}, {"JWT_ISSUER": "https://issuer.example.com"}],
    ids=["a wrong one", "half an issuer"],
)
def test_a_signing_key_that_is_wrong_is_not_called_missing(tmp_path: Path, given: dict[str, str]) -> None:
    (tmp_path / "permissions.yaml").write_text("version: 1\n")
    shown = telegate("serve", cwd=tmp_path, BOT_TOKEN=ENOUGH["BOT_TOKEN"], **given)
    assert shown.returncode == 3
    assert "One setting is missing or wrong:" in shown.stderr
    assert "JWT_SECRET is missing" not in shown.stderr


def test_a_secret_never_reaches_the_process_list() -> None:
    assert not any(value in " ".join(gunicorn_command()) for value in ENOUGH.values())


def test_dev_tells_in_the_system_s_words_why_it_cannot_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "error while attempting to bind on address")

    monkeypatch.setattr(Sandbox, "start", refuse)
    monkeypatch.delenv("BOT_TOKEN", raising=False)
    shown = CliRunner().invoke(main, ["dev", "--sandbox-port", "81"])
    assert shown.exit_code == 2
    assert "The sandbox cannot listen on port 81 (permission denied). Choose other ports." in shown.output
