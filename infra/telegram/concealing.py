"""Concealing: our own secrets in words that come from outside, before anybody is told these words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from infra.secret import Secret

HIDDEN: Final = "(hidden)"

_SHORTEST = 6
"""Characters; what is shorter stands in every other sentence."""


class Concealer:
    """Replaces secrets in text.

    Telegram tells nobody's secrets. But a proxy, or a Bot API server of the operator's own, may put the
    address of a call into what it says, and with it the bot's token.

    Args:
        token: the bot's token; the part behind the colon is a secret by itself.
        others: more secrets.
    """

    def __init__(self, token: Secret, others: Iterable[Secret] = ()) -> None:
        values = [token.reveal(), token.reveal().partition(":")[2], *(other.reveal() for other in others)]
        forms = {form for value in values for form in _forms(value) if len(form) >= _SHORTEST}
        # What holds another one goes first.
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def __call__(self, words: str) -> str:
        """The words without any of the secrets."""
        return self._pattern.sub(HIDDEN, words)


def _forms(value: str) -> Iterator[str]:
    """A secret as it is, and as addresses quote it."""
    yield value
    yield quote(value, safe="")
    yield quote(value, safe="").lower()
