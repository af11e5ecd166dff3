"""Every command that a page asks its reader to type is run by a test, or excused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.excused import EXCUSED
from tests.docs.pages import ROOT, Page

RUN_BY = {
    "README.md": "tests/docs/test_readme.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/how-to/ask-from-ci.md": "tests/docs/test_ask_from_ci.py",
    "docs/how-to/deploy.md": "tests/docs/test_how_to.py",
    "docs/how-to/earlier-interface.md": "tests/docs/test_how_to.py",
    "docs/how-to/follow-a-task.md": "tests/docs/test_follow_a_task.py",
    "docs/how-to/tls.md": "tests/docs/test_how_to.py",
    "docs/how-to/tokens-and-keys.md": "tests/integration/access/test_access_docs.py",
    "docs/how-to/token-issuer.md": "tests/integration/access/test_access_docs.py",
}
"""Which file runs the commands of a page that are not excused; it takes all of its blocks, one by one."""

PAGES = [
    Page(str(file.relative_to(ROOT)))
    for file in (ROOT / "README.md", ROOT / "docs/tutorial.md", *(ROOT / "docs/how-to").glob("*.md"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_with_commands_has_a_test_that_runs_them(page: Page) -> None:
    commands = [one for block in page.blocks("sh", "bash") for one in block.commands if one not in EXCUSED]
    if commands:
        assert page.name in RUN_BY, f"Nothing runs the commands of {page.name}: {commands}"
        assert page.path.name in (ROOT / RUN_BY[page.name]).read_text(encoding="utf-8")


def test_every_excuse_is_needed() -> None:
    typed = {command for page in PAGES for block in page.blocks("sh", "bash") for command in block.commands}
    assert set(EXCUSED) <= typed


def test_every_page_that_is_run_exists() -> None:
    assert all(Path(ROOT / name).is_file() for name in RUN_BY)
