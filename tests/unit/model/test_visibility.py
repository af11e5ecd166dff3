"""What a person sees of a text, by Unicode's own properties."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from core.model.visibility import end_of_visible, shows_nothing

SPACES_AND_CONTROLS = {"Cc", "Zs", "Zl", "Zp"}
DRAWN_FORMAT_CHARACTERS = (
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Prepended_Concatenation_Mark in https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt."""
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u3164\ufe0f\uffa0"
BLANK_SIGNS = "\u2800\ufffc\U00013441\U00013442\U00016fe4\U0001d159"
TAKEN_OUT_BY_TELEGRAM = "\u030a\u0333\u033f"
EVERY = [chr(code) for code in range(sys.maxunicode + 1)]


def test_spaces_control_and_format_characters_show_nothing() -> None:
    for mark in EVERY:
        if unicodedata.category(mark) in SPACES_AND_CONTROLS or mark.isspace():
            assert shows_nothing(mark), hex(ord(mark))
        if unicodedata.category(mark) == "Cf":
            assert shows_nothing(mark) is (mark not in DRAWN_FORMAT_CHARACTERS), hex(ord(mark))


@pytest.mark.parametrize("mark", FILLERS + BLANK_SIGNS + TAKEN_OUT_BY_TELEGRAM, ids=ascii)
def test_fillers_and_blank_signs_show_nothing(mark: str) -> None:
    assert shows_nothing(mark)
    assert shows_nothing(f" {mark}\u200b{mark}\n")
    assert not shows_nothing(f"{mark}a")


def test_letters_digits_punctuation_and_emoji_can_be_seen() -> None:
    exceptions = set(FILLERS + BLANK_SIGNS + TAKEN_OUT_BY_TELEGRAM)
    for mark in EVERY:
        if unicodedata.category(mark)[0] in "LNPS" and mark not in exceptions:
            assert not shows_nothing(mark), hex(ord(mark))


def test_what_cannot_be_seen_at_the_end_does_not_count() -> None:
    assert end_of_visible("a b\u200b \n") == 3
    assert end_of_visible("a\u200bb") == 3
    assert end_of_visible("\u200b\u2060") == end_of_visible("") == 0
