"""The reference page and `.env.example` say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.config.dotenv import read_dotenv
from infra.config.reference import FILES, env_example, settings_page
from infra.config.settings import Settings
from infra.config.table import TABLE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_written_pages_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path](), "run `make reference`"


def test_every_setting_is_in_the_reference_once() -> None:
    page = settings_page()
    assert all(page.count(f"| `{setting.name}` |") == 1 for setting in TABLE)
    assert len({setting.name for setting in TABLE}) == len(TABLE)


def test_every_default_in_the_table_is_a_value_that_the_parser_takes() -> None:
    for setting in TABLE:
        if setting.default is not None:
            setting.parse(setting.default)


def test_the_example_with_its_marks_removed_is_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    lines = env_example().splitlines()
    path.write_text("\n".join(line[1:] if "=" in line and line[1:2].isupper() else line for line in lines))
    found = read_dotenv(path)
    assert found.problems == ()
    assert {"BOT_TOKEN", "PUBLIC_URL", "PORT"} <= set(found.values)
    settings = Settings.from_environment({"TLS_CERT_FILE": "", "TLS_KEY_FILE": ""}, path)
    assert settings.public_url == "https://bot.example.com"
    assert settings.person_roles == {815: frozenset({"operator"}), 4711: frozenset({"viewer"})}


def test_the_example_as_it_is_sets_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(env_example())
    assert read_dotenv(path).values == {}
