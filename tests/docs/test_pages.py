"""What holds for every page: links lead somewhere, lists are complete, samples are what the tools print."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from infra.cli import main
from tests.docs.pages import ROOT, Page, every_page, rows

PAGES = every_page()
COMMAND_LINE = Page("docs/reference/command-line.md")
INDEX = Page("docs/README.md")
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def _page_name(page: Page) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=_page_name)
def test_every_relative_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{page.name} links to {link}, which is not there."
        if anchor:
            reached = Page(str(target.relative_to(ROOT)))
            assert anchor in reached.anchors, f"{page.name} links to {link}; no heading makes that anchor."


def test_the_index_lists_every_page() -> None:
    listed = {(INDEX.path.parent / link).resolve() for link in INDEX.links}
    assert {page.path for page in PAGES} - listed <= {INDEX.path, ROOT / "README.md"}


# The command line


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


COMMANDS = list(_commands(main))


def _forget_help_option(path: tuple[str, ...]) -> None:
    """Let click make it anew: it keeps the one of a first call that was without the parents' settings."""
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        inner = command.get_command(click.Context(command), name)
        assert inner is not None
        command = inner
    command._help_option = None


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_reference_shows_what_help_prints(path: tuple[str, ...]) -> None:
    _forget_help_option(path)
    done = CliRunner().invoke(main, [*path, "--help"], prog_name="telegate", terminal_width=80)
    assert done.exit_code == 0
    section = COMMAND_LINE.section(f"`{' '.join(('telegate', *path))}`")
    (shown,) = re.findall(r"```text\n(.*?)\n```", section, re.DOTALL)
    assert shown == done.output.rstrip(), "Copy what --help prints into docs/reference/command-line.md."


def test_the_reference_has_no_command_that_does_not_exist() -> None:
    told = [heading.strip("`") for heading in COMMAND_LINE.headings[1:]]
    assert told == [" ".join(("telegate", *path)) for path in COMMANDS]


# Dependencies


def test_every_dependency_is_explained_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {match[0] for match in (re.match(r"[\w.-]+(\[\w+\])?", one) for one in wanted) if match}
    page = Page("docs/dependencies.md")
    told = {cells[0].strip("`") for cells in rows(page.text) if cells[0].startswith("`")}
    assert told == names


# Changes and decisions


def test_changes_are_in_the_form_of_keep_a_changelog() -> None:
    headings = Page("CHANGELOG.md").headings
    assert headings[:2] == ["Changes", "[Unreleased]"]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    release = re.compile(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    assert all(one in kinds or release.fullmatch(one) for one in headings[1:])


@pytest.mark.parametrize("number", range(1, len(DECISIONS) + 1))
def test_a_decision_has_context_choice_and_price(number: int) -> None:
    path = DECISIONS[number - 1]
    page = Page(str(path.relative_to(ROOT)))
    assert path.name.startswith(f"{number:04}-")
    title, *parts = page.headings
    assert title.startswith(f"{number:04}: ")
    assert parts == ["Context", "Choice", "Price"]
    assert f"[{title}](decisions/{path.name})" in INDEX.text
