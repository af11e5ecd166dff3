"""What an address in a text becomes: a link, a mention of a person, a custom emoji or a time."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode

from core.model.address import is_address, person_of
from infra.telegram.formatting.marked_text import LONGEST_ADDRESS
from infra.telegram.payloads import (
    CUSTOM_EMOJI,
    DATE_TIME,
    EMOJI_LINK,
    PERSON_LINK,
    PERSON_MENTION,
    TIME_LINK,
)

LARGEST_TIME: Final = 2**31 - 1
LARGEST_EMOJI: Final = 2**63 - 1

_NUMBER = re.compile("0*([1-9][0-9]{0,18})")
_TIME_FORMAT = re.compile("[rR]|[wW]?[dD]?[tT]?")
"""Source: https://core.telegram.org/bots/api#date-time-entity-formatting."""


def link(address: str) -> tuple[str, str] | None:
    """The formatting and the url that a link to this address gets, or None: Telegram would not open it."""
    person = person_of(address)
    if person is not None:
        return PERSON_MENTION, f"{PERSON_LINK}{person}"
    if is_address(address) and len(address.encode()) <= LONGEST_ADDRESS:
        return "text_link", address
    return None


def sign(address: str) -> tuple[str, str] | None:
    """The formatting of what MarkdownV2 writes as a picture, a custom emoji or a time; None for a picture.

    Source: https://core.telegram.org/bots/api#markdownv2-style
    """
    if address.startswith(EMOJI_LINK):
        return custom_emoji(address.removeprefix(EMOJI_LINK))
    if address.startswith(TIME_LINK):
        given = dict(parse_qsl(address.removeprefix(TIME_LINK)))
        return date_time(given.get("unix", ""), given.get("format", ""))
    return None


def custom_emoji(number: str) -> tuple[str, str] | None:
    """A custom emoji by its id, or None when that is none."""
    found = _NUMBER.fullmatch(number)
    return (CUSTOM_EMOJI, EMOJI_LINK + found[1]) if found and int(found[1]) <= LARGEST_EMOJI else None


def date_time(unix: str, shown: str) -> tuple[str, str] | None:
    """A time that every reader sees in the own zone, or None.

    Args:
        unix: seconds, as digits.
        shown: how, for example `wDT`; empty for the text as it is.
    """
    found = _NUMBER.fullmatch(unix)
    if found is None or int(found[1]) > LARGEST_TIME or _TIME_FORMAT.fullmatch(shown) is None:
        return None
    given = {"unix": found[1], "format": shown} if shown else {"unix": found[1]}
    return DATE_TIME, TIME_LINK + urlencode(given)
