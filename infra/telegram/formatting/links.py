"""Which addresses Telegram makes a link of."""

from __future__ import annotations

import re

_LINK = re.compile(
    r"(?:https?://|ton://|tonsite://)[^\s/?#]+[^\s]*"
    r"|tg://[a-z_]+(?:[/?]\S*)?"
    r"|(?:[a-z0-9-]+\.)+[a-z]{2,}(?::[0-9]{1,5})?(?:[/?#]\S*)?",
    re.IGNORECASE,
)
_PERSON = re.compile(r"tg://user\?id=[0-9]{1,18}")


def is_link(address: str) -> bool:
    """Whether Telegram opens this address: http, https, tg and ton, or a host with a dot.

    Telegram drops any other link without a word.
    """
    return _LINK.fullmatch(address) is not None


def names_person(address: str) -> bool:
    """Whether this is Telegram's own link to a person, `tg://user?id=…`."""
    return _PERSON.fullmatch(address) is not None
