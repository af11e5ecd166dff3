"""What a service wrote, as Telegram takes it: parsed, checked and split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from core.model.errors import Invalid
from core.model.message import Format
from core.model.part import FormattedText
from core.model.visibility import shows_nothing
from infra.telegram.formatting.html import read_html
from infra.telegram.formatting.markdown import read_markdown
from infra.telegram.formatting.marked_text import BLANK, MarkedText
from infra.telegram.formatting.split import LONGEST_TEXT, split

_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")

_READERS: Final[Mapping[Format, Callable[[str], MarkedText]]] = {
    Format.PLAIN: MarkedText,
    Format.HTML: read_html,
    Format.MARKDOWN: read_markdown,
}


class TelegramFormatter:
    """See `core.ports.Formatter`. Formatting is sent as entities, so no text can smuggle any in."""

    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        """Parse the markup and split what is too long for one Telegram message.

        Args:
            text: as the service wrote it.
            markup: the language it is written in.
            reserve: characters to keep free in the last part, for an outcome that comes later.

        Raises:
            Invalid: markup that Telegram would refuse, or no text at all; pointer `/text`, with its place.
        """
        forbidden = _FORBIDDEN.search(text)
        if forbidden is not None:
            raise Invalid.field(
                "/text",
                f"Character {forbidden.start() + 1} of the text is U+{ord(forbidden[0]):04X}, "
                "which no message can hold. Leave it out.",
            )
        parts = _parts(text, markup, reserve)
        if not parts:
            raise Invalid.field("/text", "The text has nothing to show; write something.")
        return parts


def _parts(text: str, markup: Format, reserve: int) -> tuple[FormattedText, ...]:
    if markup is Format.PLAIN and len(text) <= LONGEST_TEXT - reserve:
        # Most texts: there is nothing to read in them, and nothing to cut.
        return () if shows_nothing(text) else (FormattedText(text.strip(BLANK)),)
    marked = _READERS[markup](text).trimmed()
    return tuple(part.for_telegram() for part in split(marked, reserve))
