"""The short form of the nemesis, on one server on SQLite; in a file of its own, both can run at once."""

from __future__ import annotations

from pathlib import Path

from tests.nemesis.plan import Database
from tests.nemesis.shortform import assert_nothing_is_lost


async def test_two_hundred_tasks_and_twenty_faults_lose_nothing(tmp_path: Path) -> None:
    await assert_nothing_is_lost(Database.SQLITE, tmp_path)
