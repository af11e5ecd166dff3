"""The gateway's Telegram client: core's `Messenger`, and what the operator's commands need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from core.metrics import SLOW, Histogram
from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected
from core.model.part import Part
from core.model.retry import RetryPolicy
from infra.config.secret import Secret
from infra.observability.redaction import KnownSecrets
from infra.telegram.payloads import Parameters, edit_parameters, message_parameters
from infra.telegram.responses import Refused, as_core_error, message_id_of
from infra.telegram.webhook.state import HANDLED_UPDATES, MAX_CONNECTIONS, WebhookState

if TYPE_CHECKING:
    import telegram

    from infra.telegram.connection import Connection

T = TypeVar("T")

_logger = logging.getLogger("telegate.telegram")

DEFAULT_API_URL: Final = "https://api.telegram.org"
_IDENTIFY: Final = RetryPolicy(first=1.0, longest=60.0)
_NOTHING_TO_STRIP = ("message is not modified", "message to edit not found", "message can't be edited")
_TOKEN_OR_METHOD_UNKNOWN = (401, 404)
_TOO_MANY = 429


class TelegramClient:
    """Speaks to Telegram for one bot; see `core.ports.Messenger` for the four calls that tasks make.

    Making it and `start` touch neither the network nor python-telegram-bot: importing that library
    takes 0.2 s, which the first call spends in a thread.

    Args:
        token: the bot's token.
        api_url: where the Bot API is, without a slash at the end.
        total_seconds: the longest that one call may take; None for 20.
        secrets: what is to be told to nobody, besides the token, whatever Telegram or a proxy says.

    Attributes:
        username: the bot's name without `@`, once `identify` has learned it.
        hear_date: told the `Date` header of Telegram's answers to rare calls; set it before the first one.
        calls: how long calls took, by method and outcome.
    """

    def __init__(
        self,
        token: Secret,
        api_url: str = DEFAULT_API_URL,
        *,
        total_seconds: float | None = None,
        secrets: Iterable[Secret] = (),
    ) -> None:
        # A proxy, or a Bot API server of the operator's own, may put a call's address into what it says, and
        # with it the token, whose part behind the colon is a secret by itself.
        own_half = Secret(token.reveal().partition(":")[2])
        self._conceal = KnownSecrets((token, own_half, *secrets)).hide
        self.username: str | None = None
        self.hear_date: Callable[[str | None], None] | None = None
        self.calls = Histogram(SLOW)
        self._token = token
        self._api_url = api_url.rstrip("/")
        self._total_seconds = total_seconds
        self._connection: Connection | None = None
        self._closed = False
        self._away_since: float | None = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Be ready for calls; needs no Telegram."""
        self._closed = False

    async def close(self) -> None:
        """Close every connection; calls after this are `NotDelivered`."""
        self._closed = True
        async with self._opening:
            connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def identify(self, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> str:
        """Learn the bot's username; tries again after 1, 2, 4 … 60 s until Telegram says it.

        Returns:
            The username, without `@`.
        """
        attempts = 0
        while True:
            attempts += 1
            try:
                self.username = await self._through_bot("getMe", _username)
            except (NotDelivered, Rejected, DeliveryUnknown) as error:
                # The call itself was told already.
                _logger.debug(
                    "The bot's username is not known yet. %s",
                    error.detail,
                    extra={"action": "telegram_identify_failed"},
                )
                await sleep(max(_IDENTIFY.delay(attempts) or 0.0, error.retry_after or 0.0))
            else:
                return self.username

    # What tasks need (core.ports.Messenger).

    async def send(self, chat: int | str, topic: int | None, part: Part) -> int:
        """Send one message.

        Returns:
            Telegram's message id.
        """
        try:
            return message_id_of(await self._call("sendMessage", message_parameters(chat, topic, part)))
        except Refused as refused:
            raise self._reported("sendMessage", refused) from refused

    async def edit(self, chat: int | str, message_id: int, part: Part) -> None:
        """Give a message this text and these buttons; "not modified" is success."""
        await self._call_but(
            "editMessageText", edit_parameters(chat, message_id, part), "message is not modified"
        )

    async def delete(self, chat: int | str, message_id: int) -> None:
        """Take a message away; one that is gone already is success, so that a repeated call is."""
        parameters = {"chat_id": chat, "message_id": message_id}
        await self._call_but("deleteMessage", parameters, "message to delete not found")

    async def strip(self, chat: int | str, message_id: int) -> None:
        """Take a message's buttons away; one that is gone, too old or without any is success.

        Source: https://core.telegram.org/bots/api#editmessagereplymarkup
        """
        parameters = {"chat_id": chat, "message_id": message_id}
        await self._call_but("editMessageReplyMarkup", parameters, *_NOTHING_TO_STRIP)

    async def acknowledge(self, press_id: str, text: str, *, popup: bool) -> None:
        """Answer a button's press; a press that is too old is success.

        Source: https://core.telegram.org/bots/api#answercallbackquery
        """
        parameters: Parameters = {"callback_query_id": press_id}
        if text:
            parameters["text"] = text
        if popup:
            parameters["show_alert"] = True
        await self._call_but("answerCallbackQuery", parameters, "query is too old")

    # What the operator's commands need.

    async def webhook_set(
        self,
        url: str,
        secret: Secret,
        certificate: Path | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Tell Telegram where to post updates to; waiting updates are kept.

        Source: https://core.telegram.org/bots/api#setwebhook

        Args:
            url: the full address.
            secret: what Telegram shall send in `X-Telegram-Bot-Api-Secret-Token`.
            certificate: a self-signed certificate (PEM) to upload, or None for one that is trusted anyway.
            max_connections: how many updates Telegram may deliver at a time, 1 to 100.
        """
        pem = None if certificate is None else await asyncio.to_thread(certificate.read_bytes)

        async def action(bot: telegram.Bot) -> bool:
            return await bot.set_webhook(
                url,
                certificate=pem,
                max_connections=max_connections,
                allowed_updates=HANDLED_UPDATES,
                secret_token=secret.reveal(),
            )

        await self._through_bot("setWebhook", action)

    async def webhook_info(self) -> WebhookState:
        """What Telegram says about the webhook now."""
        state = await self._through_bot("getWebhookInfo", _webhook_state)
        return (
            state if state.last_error is None else replace(state, last_error=self._conceal(state.last_error))
        )

    async def webhook_delete(self) -> None:
        """Tell Telegram to post nowhere; waiting updates are kept for 24 hours."""
        await self._through_bot("deleteWebhook", lambda bot: bot.delete_webhook())

    async def set_commands(self, commands: Mapping[str, str]) -> None:
        """Set the command menu that everybody sees: names without slash, with their descriptions.

        Source: https://core.telegram.org/bots/api#setmycommands
        """
        pairs = list(commands.items())
        await self._through_bot("setMyCommands", lambda bot: bot.set_my_commands(pairs))

    # How it is done.

    async def _open(self) -> Connection:
        async with self._opening:
            if self._closed:
                raise NotDelivered("The gateway is stopping, so Telegram was not asked.")
            if self._connection is None:
                module = await asyncio.to_thread(import_module, "infra.telegram.connection")
                connection: Connection = module.Connection(
                    self._token, self._api_url, self._total_seconds, self.hear_date, conceal=self._conceal
                )
                await connection.open()
                self._connection = connection
            return self._connection

    async def _call(self, method: str, parameters: Parameters) -> Any:
        connection = self._connection or await self._open()
        begun = time.monotonic()
        try:
            with _Measuring(self.calls, method):
                result = await connection.call(method, parameters)
        except (NotDelivered, DeliveryUnknown) as error:
            self._missed(method, error, begun)
            raise
        self._heard()
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("Telegram has done %s.", method, extra=_fields(method, "done", begun))
        return result

    async def _call_but(self, method: str, parameters: Parameters, *harmless: str) -> None:
        """Call a method whose refusal in any of these words means that there is nothing left to do."""
        try:
            await self._call(method, parameters)
        except Refused as refused:
            if not any(refused.says(words) for words in harmless):
                raise self._reported(method, refused) from refused

    async def _through_bot(self, method: str, action: Callable[[telegram.Bot], Awaitable[T]]) -> T:
        connection = self._connection or await self._open()
        begun = time.monotonic()
        try:
            with _Measuring(self.calls, method):
                result = await connection.through_bot(action)
        except Refused as refused:
            raise self._reported(method, refused) from refused
        except (NotDelivered, DeliveryUnknown) as error:
            self._missed(method, error, begun)
            raise
        self._heard()
        return result

    def _heard(self) -> None:
        """Telegram has answered, whatever it said."""
        if self._away_since is None:
            return
        seconds, self._away_since = round(time.monotonic() - self._away_since, 1), None
        _logger.info(
            "Telegram answers again, after %s s.",
            seconds,
            extra={"action": "telegram_back", "seconds": seconds},
        )

    def _missed(self, method: str, error: NotDelivered | DeliveryUnknown, begun: float) -> None:
        self._away_since = self._away_since or begun
        outcome = "not_reached" if isinstance(error, NotDelivered) else "unclear"
        _logger.warning("%s failed. %s", method, error.detail, extra=_fields(method, outcome, begun))

    def _reported(self, method: str, refused: Refused) -> NotDelivered | Rejected | Migrated:
        self._heard()
        wrong_set_up = refused.code in _TOKEN_OR_METHOD_UNKNOWN
        error = as_core_error(refused)
        _logger.log(
            logging.ERROR if wrong_set_up else logging.WARNING,
            "Telegram refused %s (%s: %s). %s",
            method,
            refused.code,
            refused.description,
            error.detail,
            extra={"action": "telegram_call", "method": method, "outcome": "refused", "code": refused.code},
        )
        return error


class _Measuring:
    """Notes how long one call took, and what came of it."""

    __slots__ = ("_begun", "_calls", "_method")

    def __init__(self, calls: Histogram, method: str) -> None:
        self._calls = calls
        self._method = method
        self._begun = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._calls.observe(time.monotonic() - self._begun, self._method, _outcome(error))


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case Refused():
            return "too_many" if error.code == _TOO_MANY else "refused"
        case NotDelivered():
            return "not_reached"
    # A call that was let go of may have been done as well.
    return "unclear"


def _fields(method: str, outcome: str, begun: float) -> dict[str, object]:
    milliseconds = round((time.monotonic() - begun) * 1000, 1)
    return {"action": "telegram_call", "method": method, "outcome": outcome, "duration_ms": milliseconds}


async def _username(bot: telegram.Bot) -> str:
    me = await bot.get_me()
    return me.username or ""


async def _webhook_state(bot: telegram.Bot) -> WebhookState:
    info = await bot.get_webhook_info()
    return WebhookState(
        url=info.url,
        pending=info.pending_update_count,
        last_error=info.last_error_message,
        last_error_at=info.last_error_date,
        own_certificate=info.has_custom_certificate,
        ip_address=info.ip_address,
        max_connections=info.max_connections,
        allowed_updates=tuple(info.allowed_updates or ()),
    )
