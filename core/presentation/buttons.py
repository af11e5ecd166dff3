"""What a question's button carries: 24 bytes that name task and option and cannot be forged."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from core.model.identity import ButtonKey

TOKEN_BYTES = 12
"""96 random bits a task: Telegram lets a modified client send any data."""

_MAC_BYTES = 10
_SIZE = 1 + TOKEN_BYTES + 1 + _MAC_BYTES


@dataclass(frozen=True, slots=True)
class ButtonData:
    """One button's data, packed into Telegram's 64 bytes of `callback_data`.

    The layout is: key id (1 byte), the task's token (12), the option's index (1), and the first 80 bits
    of an HMAC-SHA256 over these and the chat (10), in URL-safe base64: 32 characters.
    Source of the limit: https://core.telegram.org/bots/api#inlinekeyboardbutton
    """

    LIMIT: ClassVar[int] = 64

    key_id: int
    token: bytes
    option: int
    mac: bytes

    @classmethod
    def sign(cls, key: ButtonKey, token: bytes, option: int, chat: int | str) -> ButtonData:
        """The data of the button at index `option` of the task with this token, in this chat."""
        return cls(key.id, token, option, _mac(key, token, option, chat))

    @classmethod
    def unpack(cls, data: str) -> ButtonData | None:
        """What a press brought; None when this never was a button of ours."""
        try:
            raw = base64.b64decode(data.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        if len(raw) != _SIZE:
            return None
        return cls(raw[0], raw[1 : 1 + TOKEN_BYTES], raw[1 + TOKEN_BYTES], raw[2 + TOKEN_BYTES :])

    def pack(self) -> str:
        """The text for Telegram's `callback_data`."""
        raw = bytes([self.key_id]) + self.token + bytes([self.option]) + self.mac
        return base64.urlsafe_b64encode(raw).decode("ascii")

    def genuine(self, keys: Sequence[ButtonKey], chat: int | str) -> bool:
        """Whether one of our keys signed exactly this, for this chat."""
        for key in keys:
            if key.id == self.key_id:
                return hmac.compare_digest(self.mac, _mac(key, self.token, self.option, chat))
        return False


def are_of_one_question(data: Sequence[str]) -> bool:
    """Whether a message's buttons, in order, are all that one question has, as far as their layout tells.

    That needs no key: one token, and the options counted from 0. Nobody else's looks so by chance.
    """
    buttons = [button for button in map(ButtonData.unpack, data) if button is not None]
    questions = {(button.key_id, button.token) for button in buttons}
    in_order = [button.option for button in buttons] == list(range(len(data)))
    return len(questions) == 1 and in_order


def _mac(key: ButtonKey, token: bytes, option: int, chat: int | str) -> bytes:
    signed = bytes([key.id]) + token + bytes([option]) + str(chat).encode()
    return hmac.new(key.secret, signed, hashlib.sha256).digest()[:_MAC_BYTES]
