"""`telegate policy`: is the policy in order, and why may somebody do something."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from core.model.chat import ChatId
from core.model.errors import TelegateError
from core.policy.explain import Explanation, explain_person, explain_service
from core.policy.policy import Policy
from infra.config import table
from infra.config.permissions.file import PolicyFileError, load_policy
from infra.config.settings import SettingsSource

_ID = re.compile(r"-?[0-9]{1,19}", re.ASCII)

_EXAMPLES_POLICY = """\b
Examples:
  telegate policy check
  telegate policy explain --service ci "POST /v1/questions" --chat ops
  telegate policy explain --person 815 /deploy
"""
_EXAMPLES_CHECK = """\b
Examples:
  telegate policy check
  telegate policy check --file staging/permissions.yaml --json
"""
_EXAMPLES_EXPLAIN = """\b
Examples:
  telegate policy explain --service ci "POST /v1/questions" --chat ops
  telegate policy explain --person 815 /deploy
"""


class PolicyUnusable(click.ClickException):
    """The policy, or a setting that it needs, is wrong; exit code 2."""

    exit_code = 2


@click.group(name="policy", epilog=_EXAMPLES_POLICY)
def command() -> None:
    """Check permissions.yaml, and ask it why."""


@command.command("check", epilog=_EXAMPLES_CHECK)
@click.option("--file", "file", type=click.Path(path_type=Path), help="Instead of PERMISSIONS_FILE.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def check(file: Path | None, *, as_json: bool) -> None:
    """Read the policy whole and tell every problem with its line.

    Exits 0 when it is in order, 2 when it is not.
    """
    path, people = _where(file)
    try:
        policy = load_policy(path, people)
    except PolicyFileError as error:
        _tell_problems(error, as_json=as_json)
    # Late, and by name: only the composition root knows the routes, and it brings the whole server.
    not_served = policy.endpoints_not_in(importlib.import_module("infra.app").served_endpoints())
    if as_json:
        click.echo(json.dumps(_summary(path, policy, not_served), indent=2))
        return
    click.echo(_in_words(path, policy))
    if not_served:
        click.echo(f"This version does not serve yet, and answers 501 to: {', '.join(not_served)}.")


@command.command("explain", epilog=_EXAMPLES_EXPLAIN)
@click.argument("what")
@click.option("--service", help="A service of permissions.yaml.")
@click.option("--person", type=int, help="A person's Telegram id.")
@click.option("--chat", help="An alias, an id, or @channel.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Instead of PERMISSIONS_FILE.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(
    what: str, service: str | None, person: int | None, chat: str | None, file: Path | None, *, as_json: bool
) -> None:
    """Tell in one sentence why WHAT is allowed or not.

    WHAT is an endpoint ("POST /v1/questions") with --service, or a command (/deploy) with --person.
    Exits 0 when it is allowed, 1 when it is not, 2 when the policy is broken.
    """
    _, policy = policy_at(file)
    explanation = _explanation(policy, what, service, person, chat_named(chat))
    if as_json:
        click.echo(json.dumps({"allowed": explanation.allowed, "sentence": explanation.sentence}))
    else:
        click.echo(explanation.sentence)
    click.get_current_context().exit(0 if explanation.allowed else 1)


def policy_at(file: Path | None) -> tuple[Path, Policy]:
    """The policy, and where it stands.

    Args:
        file: instead of what `PERMISSIONS_FILE` says.

    Raises:
        PolicyUnusable: with everything that is wrong.
    """
    path, people = _where(file)
    try:
        return path, load_policy(path, people)
    except PolicyFileError as error:
        raise PolicyUnusable(f"the policy cannot be used.\n{error}") from error


def chat_named(text: str | None) -> ChatId | None:
    """What was written on the command line as a chat: a number is an id."""
    return int(text) if text is not None and _ID.fullmatch(text) else text


def _where(file: Path | None) -> tuple[Path, Mapping[int, frozenset[str]]]:
    source = SettingsSource.open(os.environ)
    path, people = source.read(table.PERMISSIONS_FILE), source.read(table.PERSON_ROLES)
    try:
        source.finish()
    except TelegateError as error:
        raise PolicyUnusable(error.detail) from error
    return file or path, people or {}


def _explanation(
    policy: Policy, what: str, service: str | None, person: int | None, chat: ChatId | None
) -> Explanation:
    if service is not None and person is None:
        method, _, path = what.strip().partition(" ")
        return explain_service(policy, service, f"{method.upper()} {path.strip()}", chat)
    if person is not None and service is None:
        return explain_person(policy, person, what.strip(), chat)
    raise click.UsageError("Name either a service (--service ci) or a person (--person 815).")


def _tell_problems(error: PolicyFileError, *, as_json: bool) -> NoReturn:
    if as_json:
        problems = [
            {"line": one.line, "column": one.column, "message": one.message} for one in error.problems
        ]
        click.echo(json.dumps({"ok": False, "file": str(error.path), "problems": problems}, indent=2))
    else:
        click.echo(str(error), err=True)
        click.echo(
            f"Problems: {len(error.problems)}. A server refuses the file whole until all are mended.",
            err=True,
        )
    click.get_current_context().exit(2)


def _summary(path: Path, policy: Policy, not_served: tuple[str, ...]) -> dict[str, Any]:
    return {
        "ok": True,
        "file": str(path),
        "services": sorted(policy.services),
        "service_roles": sorted(policy.service_roles),
        "person_roles": sorted(policy.person_roles),
        "commands": sorted(policy.commands),
        "chats": sorted(policy.chats),
        "people": sorted(policy.people),
        "not_served": list(not_served),
    }


def _in_words(path: Path, policy: Policy) -> str:
    parts = (
        ("service", policy.services),
        ("service role", policy.service_roles),
        ("person role", policy.person_roles),
        ("command", policy.commands),
        ("chat alias", policy.chats),
        ("person with a role", policy.people),
    )
    counts = ", ".join(f"{len(things)} {_counted(name, len(things))}" for name, things in parts)
    return f"{path} is in order: {counts}."


def _counted(name: str, count: int) -> str:
    if count == 1:
        return name
    return {"chat alias": "chat aliases", "person with a role": "people with roles"}.get(name, f"{name}s")
