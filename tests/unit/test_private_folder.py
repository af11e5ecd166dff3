"""Folders for secrets are their owner's alone, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.private_folder import make_private_folder
from infra.store.sqlite.file import migrate


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_folder_and_those_above_it_are_private(tmp_path: Path, umask: int) -> None:
    make_private_folder(tmp_path / "var" / "data")
    assert [mode(tmp_path / "var"), mode(tmp_path / "var" / "data")] == [0o700, 0o700]


def test_the_database_and_its_new_folder_are_private(tmp_path: Path, umask: int) -> None:
    migrate(tmp_path / "data" / "telegate.db")
    assert mode(tmp_path / "data") == 0o700
    assert {mode(file) for file in (tmp_path / "data").iterdir()} == {0o600}


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    make_private_folder(tmp_path / "data")
    migrate(tmp_path / "data" / "telegate.db")
    assert mode(tmp_path / "data") == 0o755


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match=r"exist|directory"):
        make_private_folder(tmp_path / "data")
    with pytest.raises(OSError, match=r"exist|directory"):
        make_private_folder(tmp_path / "data" / "deeper")
