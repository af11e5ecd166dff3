"""python-telegram-bot and its transport, made on the first call: importing the library takes 0.2 s."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import telegram
from telegram.error import TelegramError

from core.model.errors import DeliveryUnknown, NotDelivered
from infra.config.secret import Secret
from infra.telegram.payloads import Parameters
from infra.telegram.responses import read_answer, why_not
from infra.telegram.transport import TOTAL_SECONDS, HearDate, NothingWritten, Refusal, Transport, Unanswered

T = TypeVar("T")

# At DEBUG the library logs addresses, which hold the bot's token, and parameters, which hold secrets.
for _name in ("telegram", "httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Connection:
    """One bot on one transport; both ways of calling share it.

    `call` is for messages: it costs 100 µs of CPU, where `Bot.send_message` costs 260 and
    `Bot.do_api_request` 125. `through_bot` is for the operator's rare calls, typed and complete.

    Args:
        token: the bot's token.
        api_url: where the Bot API is, without a slash at the end.
        total_seconds: the longest that one call may take; None for the transport's own.
        hear_date: see `Transport`.
        conceal: takes our own secrets out of Telegram's words.
    """

    def __init__(
        self,
        token: Secret,
        api_url: str,
        total_seconds: float | None = None,
        hear_date: HearDate | None = None,
        *,
        conceal: Callable[[str], str],
    ) -> None:
        self._conceal = conceal
        total = TOTAL_SECONDS if total_seconds is None else total_seconds
        self._transport = Transport(total_seconds=total, hear_date=hear_date)
        self._bot = telegram.Bot(
            token.reveal(),
            base_url=f"{api_url}/bot",
            base_file_url=f"{api_url}/file/bot",
            request=self._transport,
            get_updates_request=self._transport,
        )
        self._address = self._bot.base_url

    async def open(self) -> None:
        """Make the session, in the serving loop; nothing is connected yet."""
        await self._transport.initialize()

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.shutdown()

    async def call(self, method: str, parameters: Parameters) -> Any:
        """One Bot API method; returns its `result`.

        Raises:
            Refused: Telegram said no.
            NotDelivered: certainly not done.
            DeliveryUnknown: may or may not have been done.
        """
        try:
            status, payload = await self._transport.call(f"{self._address}/{method}", parameters)
        except TelegramError as error:
            raise _translated(error) from error
        return read_answer(status, payload, self._conceal)

    async def through_bot(self, action: Callable[[telegram.Bot], Awaitable[T]]) -> T:
        """What one of the library's own methods returns; raises as `call` does."""
        try:
            return await action(self._bot)
        except Refusal as refusal:
            raise why_not(refusal.status, refusal.payload, self._conceal) from refusal
        except TelegramError as error:
            raise _translated(error) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The library builds its objects from whatever came, and stumbles over what does not fit.
            raise _translated(Unanswered("The answer is not what the Bot API promises.")) from error


def _translated(error: TelegramError) -> NotDelivered | DeliveryUnknown:
    if isinstance(error, NothingWritten):
        return NotDelivered(
            f"Telegram cannot be reached. {error.message} Nothing was done, so it can be tried again."
        )
    what = error.message if isinstance(error, Unanswered) else "The answer cannot be read."
    return DeliveryUnknown(
        f"Telegram was asked, but gave no usable answer. {what} It may or may not have been done: "
        "look into the chat before you repeat it."
    )
