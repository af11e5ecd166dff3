"""Pages of the documentation, read as a reader sees them: code, links, headings, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

_ASSIGNMENT = re.compile(r"[A-Z_]+=[^\s$]*")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        language: what stands behind the backticks.
        mark: the comment right before it, without its brackets; empty for none.
    """

    language: str
    text: str
    mark: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, each on one line; plain settings are none."""
        joined = self.text.replace("\\\n", " ")
        found: list[str] = []
        for line in joined.splitlines():
            if found and found[-1].count("'") % 2:
                found[-1] += "\n" + line
            elif line.strip() and not line.startswith("#"):
                found.append(line)
        return [re.sub(r" +", " ", line) for line in found if not _ASSIGNMENT.fullmatch(line)]


@dataclass(frozen=True)
class Page:
    """One Markdown file, by its path from the root."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    def blocks(self, *languages: str) -> list[Block]:
        """Its blocks of code in these languages."""
        found, mark = [], ""
        for token in self._tokens:
            if token.type == "fence" and token.info in languages:
                found.append(Block(token.info, token.content, mark))
            if token.type == "html_block":
                mark = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
            elif token.level == 0:
                mark = ""
        return found

    @property
    def links(self) -> Iterator[str]:
        """Where its links and pictures lead."""
        for token in self._tokens:
            for child in token.children or ():
                target = child.attrGet("href") or child.attrGet("src")
                if isinstance(target, str):
                    yield target

    @property
    def headings(self) -> list[str]:
        """Its headings as they are written."""
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        return [inline.content for opening, inline in pairs if opening.type == "heading_open"]

    @property
    def anchors(self) -> set[str]:
        """What `#…` can name, as GitHub makes it of headings."""
        plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in self.headings)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}

    def section(self, heading: str) -> str:
        """The text under a heading, up to the next one that is not below it."""
        opening = re.search(rf"^(#+) {re.escape(heading)}\n", self.text, re.MULTILINE)
        assert opening, f"{self.name} has no heading {heading!r}."
        return re.split(
            rf"^#{{1,{len(opening[1])}}} ", self.text[opening.end() :], maxsplit=1, flags=re.MULTILINE
        )[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row in a text, headers and rules aside."""
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        is_header = not before.startswith("|")
        if line.startswith("|") and not is_header and not line.startswith("|-"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def every_page() -> list[Page]:
    """README, CHANGELOG and all of docs."""
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(str(file.relative_to(ROOT))) for file in files]
