"""`telegate webhook`: where Telegram posts updates to, and whether that works."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import click

from core.model.errors import DeliveryUnknown, NotDelivered, Rejected
from infra.config.settings import Settings, SettingsError
from infra.observability.visible import visible
from infra.telegram.client import TelegramClient
from infra.telegram.webhook.diagnosis import delivery_error
from infra.telegram.webhook.register import NotToBeSet, Registration, patiently
from infra.telegram.webhook.state import HANDLED_UPDATES, MENU, PATH, WebhookState

_EXAMPLES = """\b
Examples:
  telegate webhook set
  telegate webhook info --json
  telegate webhook delete
"""

_BROKEN, _USAGE = 1, 2
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class _Unusable(click.ClickException):
    """The settings do not allow this; exit code 2."""

    exit_code = _USAGE


class TelegramFailed(click.ClickException):
    """Telegram said no, or cannot be reached; exit code 1."""

    exit_code = _BROKEN


@click.group(name="webhook", epilog=_EXAMPLES)
def command() -> None:
    """Tell Telegram where to post updates to, and ask how that goes.

    Exits 0 when all is well, 1 when Telegram says that something is broken, 2 when the settings or the
    command line are wrong.
    """


@command.command("set")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def set_(*, as_json: bool) -> None:
    """Point Telegram at PUBLIC_URL/telegram/webhook, and set the command menu.

    Can be run again at any time; waiting updates are kept. A self-signed certificate in TLS_CERT_FILE
    is uploaded, so that Telegram trusts it. Deliveries that failed before are told, and are no failure of
    this command: the server may be about to start.
    """
    settings = _settings()
    registration = checked_registration(settings)
    state = register(settings, registration)
    problems = _misplaced(state, registration.url)
    _print(state, problems, in_words(state, datetime.now(UTC), just_set=True), as_json=as_json)
    click.get_current_context().exit(_BROKEN if problems else 0)


@command.command("info")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def info(*, as_json: bool) -> None:
    """Tell what Telegram says about the webhook."""
    settings = _settings()
    expected = None if settings.public_url is None else settings.public_url + PATH
    _tell(_run(settings, lambda client: client.webhook_info()), expected, as_json=as_json)


@command.command("delete")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def delete(*, as_json: bool) -> None:
    """Stop Telegram from posting; it keeps waiting updates for 24 hours."""

    async def action(client: TelegramClient) -> WebhookState:
        await client.webhook_delete()
        return await client.webhook_info()

    state = _run(_settings(), action)
    if as_json:
        click.echo(json.dumps(_as_json(state, []), indent=2))
        return
    waiting = f" {_updates(state.pending)} there for up to 24 hours." if state.pending else ""
    click.echo(f"The webhook is removed; Telegram posts nowhere.{waiting}")


def _settings() -> Settings:
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        raise _Unusable(error.detail) from error
    # The other warnings are about the server, which tells them when it starts.
    for mistyped in settings.mistyped:
        click.echo(mistyped, err=True)
    return settings


def checked_registration(settings: Settings) -> Registration:
    """What Telegram has to be told; ends with exit code 2 when the settings do not allow it."""
    try:
        return Registration.of(settings)
    except NotToBeSet as error:
        raise _Unusable(error.detail) from error


def register(settings: Settings, registration: Registration) -> WebhookState:
    """Set the webhook and the command menu, and ask how it does; nothing is told.

    Raises:
        TelegramFailed: Telegram said no, or cannot be reached.
    """

    async def action(client: TelegramClient) -> WebhookState:
        await registration.set(client)
        await patiently(lambda: client.set_commands(MENU))
        return await client.webhook_info()

    return _run(settings, action)


def _run(settings: Settings, action: Callable[[TelegramClient], Awaitable[WebhookState]]) -> WebhookState:
    # What goes wrong is told once, as this command's error; without a handler, warnings would repeat it.
    logging.getLogger("telegate").addHandler(logging.NullHandler())

    async def main() -> WebhookState:
        client = TelegramClient(
            settings.bot_token, settings.telegram_api_url, secrets=(settings.webhook_secret,)
        )
        try:
            return await action(client)
        finally:
            await client.close()

    try:
        return asyncio.run(main())
    except NotToBeSet as error:
        raise _Unusable(error.detail) from error
    except (NotDelivered, DeliveryUnknown) as error:
        raise TelegramFailed(error.detail) from error
    except Rejected as error:
        words = error.failure.description
        raise TelegramFailed(f"{error.detail} Telegram's words: {words}") from error


def _tell(state: WebhookState, expected: str | None, *, as_json: bool) -> None:
    now = datetime.now(UTC)
    problems = _misplaced(state, expected)
    if state.is_failing(now):
        problems.append(
            f"Deliveries fail, and {_updates(state.pending)}. "
            f"Telegram says: {delivery_error(state.last_error)}"
        )
    _print(state, problems, in_words(state, now), as_json=as_json)
    click.get_current_context().exit(_BROKEN if problems else 0)


def _print(state: WebhookState, problems: list[str], words: list[str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(state, problems), indent=2))
        return
    # Telegram's words hold those of whatever answered it: they must not move the cursor of a terminal.
    for line in words:
        click.echo(visible(line))
    for problem in problems:
        click.echo(visible(problem), err=True)


def _misplaced(state: WebhookState, expected: str | None) -> list[str]:
    """What is wrong with the webhook itself, whatever came of deliveries."""
    if not state.url:
        return ["No webhook is set, so no answer reaches the gateway. Run: telegate webhook set"]
    if expected is not None and state.url != expected:
        ours = f"Telegram posts to {state.url}, but PUBLIC_URL makes it {expected}."
        return [f"{ours} If no other program shall have this bot's updates, run: telegate webhook set"]
    if state.allowed_updates and set(state.allowed_updates) != set(HANDLED_UPDATES):
        return ["Telegram posts other kinds of updates than needed. Run: telegate webhook set"]
    return []


def in_words(state: WebhookState, now: datetime, *, just_set: bool = False) -> list[str]:
    """Where Telegram posts to, and what came of it.

    Args:
        state: what Telegram says.
        now: the time.
        just_set: whether deliveries that fail belong here, because they are from before.
    """
    if not state.url:
        return []
    certificate = ", with the certificate that was uploaded" if state.own_certificate else ""
    lines = [f"Telegram posts to {state.url}{certificate}.", f"{_updates(state.pending).capitalize()}."]
    age = state.error_age(now)
    if age is not None and (just_set or not state.is_failing(now)):
        lines.append(f"The last delivery that failed was {_duration(age)} ago ({state.last_error}).")
    return lines


def _as_json(state: WebhookState, problems: list[str]) -> dict[str, object]:
    at = state.last_error_at
    return {
        "ok": not problems,
        "problems": problems,
        "url": state.url or None,
        "pending": state.pending,
        "last_error": state.last_error,
        "last_error_at": None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "own_certificate": state.own_certificate,
        "ip_address": state.ip_address,
        "max_connections": state.max_connections,
        "allowed_updates": list(state.allowed_updates),
    }


def _updates(count: int) -> str:
    if count == 0:
        return "no updates wait"
    return "1 update waits" if count == 1 else f"{count} updates wait"


def _duration(seconds: float) -> str:
    for length, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"
