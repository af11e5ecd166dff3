"""CommonMark as Telegram's texts need it: the parser, and where it departs from the specification."""

from __future__ import annotations

import re
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_inline.state_inline import Scanned, StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType

_EAST_ASIAN = re.compile(
    "[\u1100-\u11ff\u2e80-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f"
    "\uff00-\uffef\U00016fe0-\U00018dff\U0001aff0-\U0001b16f\U0001f200-\U0001f2ff\U00020000-\U0003fffd]"
)
"""Letters and punctuation of Chinese, Japanese and Korean, which put no blanks between words."""

_BLANK = re.compile(r"\s")

_PIPE = re.compile(r"(?<!\\)\|")
_LAST_PIPE = re.compile(r"(?<!\\)\|\Z")
_MOST_MISSING_CELLS = 1_000
_MOST_LINES_IN_VAIN = 5_000
_IN_VAIN = "lines looked at in vain"


@cache
def commonmark() -> MarkdownIt:
    """The parser, made once: it keeps nothing from one text to the next."""
    made = _Reader("commonmark", {"html": False})
    made.inline = _Inline()
    made.configure("commonmark", {"html": False})
    made.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    return made.enable(["strikethrough", "table"])


class _Reader(MarkdownIt):
    """Addresses stay as they are written, whatever they are: whether Telegram opens one is told elsewhere."""

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802 - the library's name and signature
        return True

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the library's name
        return _BLANK.sub(lambda blank: "".join(f"%{byte:02X}" for byte in blank[0].encode()), url)

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802 - the library's name
        return link


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The rule for tables, unless cells would be lost, or a short text would become a large one.

    Lines that were looked at in vain are counted, so that a text of many such tables is read in one pass.
    """
    looked_at = state.env.get(_IN_VAIN, 0)
    if looked_at > _MOST_LINES_IN_VAIN or not table(state, start, end, silent=True):
        return False
    if silent:
        return True
    lines, fits = _look_at_rows(state, start, end)
    if not fits:
        state.env[_IN_VAIN] = looked_at + lines
        return False
    return table(state, start, end, silent=False)


def _look_at_rows(state: StateBlock, start: int, end: int) -> tuple[int, bool]:
    """How many lines a table has, and whether no row has too many cells, nor all together too few."""
    heads = _cells(state, start)
    missing = 0
    for line in range(start + 2, end):
        if state.isEmpty(line):
            return line - start, True
        cells = _cells(state, line)
        missing += heads - cells
        if cells > heads or missing > _MOST_MISSING_CELLS:
            return line - start, False
    return end - start, True


def _cells(state: StateBlock, line: int) -> int:
    text = state.getLines(line, line + 1, 0, keepLastLF=False).strip()
    return len(_PIPE.findall(text)) + 1 - text.startswith("|") - bool(_LAST_PIPE.search(text, 1))


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        state = _State(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


class _State(StateInline):
    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803 - the library's names
        """Marks such as `**` beside East Asian signs begin and end formatting as beside a letter.

        CommonMark tells by the blanks around a word whether `**` beside punctuation begins or ends, and texts
        without blanks are then not bold: `**「重要」**です`. Rule: https://github.com/tats-u/markdown-cjk-friendly
        """
        scanned = super().scanDelims(start, canSplitWord)
        end = start + scanned.length
        before = self.src[start - 1] if start > 0 else " "
        after = self.src[end] if end < self.posMax else " "
        if not canSplitWord or not (_EAST_ASIAN.match(before) or _EAST_ASIAN.match(after)):
            return scanned
        return Scanned(
            scanned.can_open or not after.isspace(),
            scanned.can_close or not before.isspace(),
            scanned.length,
        )
