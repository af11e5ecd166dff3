"""What Telegram's answers mean: done, refused, later, or nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from pydantic_core import from_json

from core.model.errors import (
    DeliveryUnknown,
    Migrated,
    NotDelivered,
    RecipientUnreachable,
    Rejected,
    TelegramRejected,
)
from core.model.failure import Failure

_LONGEST_WAIT: Final = 86_400.0
"""Seconds: for longer than a day Telegram asks nobody to wait."""

_SHORTEST_WAIT: Final = 1.0
"""Seconds: whoever says "later" and names no time would be asked without a pause."""

_USUAL_WAIT: Final = 5.0
"""Seconds to wait when what Telegram says is no number of seconds."""

_STORABLE: Final = 2**63
"""Ids are smaller, on either side of zero: databases have no room for others."""

_SUCCESS, _CLIENT_ERROR, _SERVER_ERROR = 2, 4, 5

_UNREACHABLE: Final = ("chat not found", "user not found", "peer_id_invalid", "chat_id_invalid")
"""What a 400 says when nobody is there; every 403 says it by its number."""

_ADVICE: Final = (
    ("not enough rights", "Give the bot the right to do this in the chat's administrator settings."),
    ("need administrator rights", "Make the bot an administrator of the chat."),
    ("have no rights", "Give the bot the right to write in this chat."),
    ("message thread not found", "The topic does not exist (any more); name another one, or none."),
    ("topic_closed", "The topic is closed; open it again, or name another one."),
    ("message to edit not found", "The message is gone; send a new one."),
    ("message can't be edited", "Only the bot's own messages can be changed; send a new one."),
    ("message can't be deleted", "Telegram lets a bot delete a message for 48 hours only."),
    ("wrong remote file", "Check the file's address; Telegram must be able to load it."),
    ("message is too long", "Shorten the text."),
    ("can't parse", "Check the text's markup."),
    ("button_data_invalid", "A button carries more than 64 bytes."),
    ("button_url_invalid", "Check the address of the link button."),
    ("reply markup is too long", "Use fewer or shorter buttons."),
)


class Refused(Exception):
    """Telegram said no.

    Attributes:
        code: Telegram's number, or the HTTP status.
        description: Telegram's words, exactly but for secrets of ours; None when there are none.
        retry_after: seconds after which to try again, when Telegram says so.
        migrated_to: the id of the supergroup that the group has become.
    """

    def __init__(
        self,
        code: int,
        description: str | None,
        retry_after: float | None = None,
        migrated_to: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {description or 'no words'}")
        self.code = code
        self.description = description
        self.retry_after = retry_after
        self.migrated_to = migrated_to

    def says(self, words: str) -> bool:
        """Whether Telegram's words hold these, in any case."""
        return words in (self.description or "").lower()


def read_answer(status: int, payload: bytes, conceal: Callable[[str], str]) -> Any:
    """The `result` of a Bot API answer.

    Source: https://core.telegram.org/bots/api#making-requests

    Args:
        status: of HTTP.
        payload: the body.
        conceal: takes our own secrets out of words that are passed on.

    Raises:
        Refused: Telegram said no (any 4xx).
        DeliveryUnknown: a 5xx, or an answer without sense: it may or may not have been done.
    """
    answer = _parse(payload)
    if status // 100 == _SUCCESS and answer.get("ok") is True and "result" in answer:
        return answer["result"]
    raise why_not(status, payload, conceal)


def why_not(status: int, payload: bytes, conceal: Callable[[str], str]) -> Refused | DeliveryUnknown:
    """What an answer means that is no success; takes what `read_answer` takes."""
    answer = _parse(payload)
    code = (_number(answer.get("error_code")) or status) if status // 100 == _SUCCESS else status
    if code // 100 != _CLIENT_ERROR or code == HTTPStatus.REQUEST_TIMEOUT:
        return DeliveryUnknown(_unclear_because(code))
    return _refusal(code, answer, conceal)


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        answer = from_json(payload)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(code: int, answer: dict[str, Any], conceal: Callable[[str], str]) -> Refused:
    description = answer.get("description")
    parameters = answer.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    return Refused(
        code,
        conceal(description) if isinstance(description, str) else None,
        _seconds(parameters.get("retry_after")),
        _chat_id(parameters.get("migrate_to_chat_id")),
    )


def message_id_of(result: object) -> int:
    """The id of the message that Telegram says it has sent.

    Raises:
        DeliveryUnknown: it names none.
    """
    message_id = _number(result.get("message_id")) if isinstance(result, dict) else None
    if message_id is not None and 0 < message_id < _STORABLE:
        return message_id
    raise DeliveryUnknown(
        "Telegram said yes, but did not name the message, so it may or may not have been sent. "
        "Look into the chat before you repeat it."
    )


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(min(max(value, _SHORTEST_WAIT), _LONGEST_WAIT))
    return _USUAL_WAIT


def _chat_id(value: object) -> int | None:
    number = _number(value)
    return number if number is not None and 0 < abs(number) < _STORABLE else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _unclear_because(code: int) -> str:
    if code // 100 == _SUCCESS:
        what = "answered with something that cannot be read"
    elif code // 100 == _SERVER_ERROR:
        what = f"had an error of its own (status {code})"
    else:
        what = f"answered with status {code}"
    return f"Telegram {what}, so it may or may not have done this. Look into the chat before you repeat it."


def as_core_error(refused: Refused) -> NotDelivered | Rejected | Migrated:
    """What a refusal means for a task.

    Source: https://core.telegram.org/bots/api#responseparameters, and the texts of the Bot API server.
    """
    if refused.migrated_to is not None:
        return Migrated(refused.migrated_to)
    if refused.code == HTTPStatus.TOO_MANY_REQUESTS:
        return NotDelivered(
            _later(refused.retry_after),
            retry_after=refused.retry_after,
            error_code=refused.code,
            description=refused.description,
        )
    code, detail = TelegramRejected.code, _advice(refused)
    if refused.code == HTTPStatus.FORBIDDEN or any(refused.says(words) for words in _UNREACHABLE):
        code, detail = RecipientUnreachable.code, _unreachable(refused)
    words = refused.description or f"HTTP status {refused.code}"
    return Rejected(Failure(code, detail, refused.code, words))


def _later(retry_after: float | None) -> str:
    wait = "a while" if retry_after is None else f"{retry_after:g} seconds"
    return f"Telegram asks for fewer calls, and to wait {wait}. Nothing was done, so it can be tried again."


def _unreachable(refused: Refused) -> str:
    if refused.says("blocked by the user"):
        return "This person has blocked the bot. He or she must unblock it, or press Start again."
    if refused.says("initiate conversation"):
        return "This person has never written to the bot. He or she must open it and press Start once."
    if refused.says("deactivated"):
        return "This account is deactivated, so nothing can be sent to it."
    if refused.says("kicked") or refused.says("not a member"):
        return "The bot is no member of this chat. Add it to the chat again."
    if refused.says("can't send messages to"):
        return "Bots cannot write to this recipient. Check the chat's id."
    return (
        "The bot cannot reach this chat. Check its id; a person must press Start first, "
        "and a group or channel must have the bot as a member."
    )


def _advice(refused: Refused) -> str:
    if refused.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND):
        return (
            "Telegram does not know the bot's token or this method. "
            "The operator must check BOT_TOKEN and TELEGRAM_API_URL."
        )
    for words, advice in _ADVICE:
        if refused.says(words):
            return f"Telegram refused this. {advice}"
    return "Telegram refused this, and would refuse it again. Its own words say why; correct the request."
