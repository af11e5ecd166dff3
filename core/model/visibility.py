"""What of a text a person can see."""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = (
    # Control characters and Unicode's spaces: Cc, and White_Space in
    # https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt
    "\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    # Characters made to be not seen: Default_Ignorable_Code_Point in
    # https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # The rest of the format characters (Cf), but for signs that stand before digits and are drawn.
    "\ufff9-\ufffb\U00013430-\U0001343f"
    # Signs that are drawn as nothing: Braille blank, object replacement, hieroglyph blanks, Khitan filler,
    # null notehead.
    "\u2800\ufffc\U00013441\U00013442\U00016fe4\U0001d159"
    # Marks that Telegram's server takes out of every text: clean_input_string in td/telegram/misc.cpp,
    # https://github.com/tdlib/td
    "\u030a\u0333\u033f"
)
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")


def shows_nothing(text: str) -> bool:
    """Whether a person sees nothing of it: Telegram refuses such a text, and nobody can press such a label.

    What Telegram's server counts as empty (`strip_empty_characters` in td/telegram/misc.cpp,
    https://github.com/tdlib/td) is a part of these; for the rest, Unicode says what is not drawn.
    """
    return _VISIBLE.search(text) is None


def end_of_visible(text: str) -> int:
    """How long the text is without what cannot be seen at its end; 0 when all of it cannot be seen."""
    return next((at for at in range(len(text), 0, -1) if _VISIBLE.match(text, at - 1)), 0)
