"""Text of others, fit for a line: what moves a cursor, turns words round or ends a line is spelled out."""

from __future__ import annotations

import json
import unicodedata
from typing import Final

_ACTS: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
"""Controls, format characters (bidirectional ones and tags among them), halves, unassigned and private ones,
and the two separators. Source: https://www.unicode.org/reports/tr44/#General_Category_Values"""


def visible(text: str, *, keep: str = "") -> str:
    """The text with every character that acts instead of being seen written as its escape.

    Args:
        text: whatever somebody has sent.
        keep: characters that stay as they are, such as a line's end.
    """
    if text.isprintable():
        return text
    return "".join(_spelled(letter) if letter not in keep and _acts(letter) else letter for letter in text)


def visible_json(document: str) -> str:
    """The same JSON, with the characters in its strings that `visible` spells out escaped as JSON does."""
    if document.isprintable():
        return document
    # Outside of strings JSON has ASCII alone, and of that only blanks and line ends that act.
    return "".join(
        json.dumps(letter)[1:-1] if letter not in "\t\n\r" and _acts(letter) else letter
        for letter in document
    )


def _acts(letter: str) -> bool:
    return not letter.isprintable() and unicodedata.category(letter) in _ACTS


def _spelled(letter: str) -> str:
    code = ord(letter)
    if code > 0xFFFF:  # noqa: PLR2004 - what \u can say
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"  # noqa: PLR2004 - what \x can say
