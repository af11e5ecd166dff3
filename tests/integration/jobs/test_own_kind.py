"""A kind of job that the engine has never heard of outlives `kill -9` on a real database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("own_kind.py")
HOUSE = Path(__file__).parents[3]


async def start(database: Path, notes: Path, what: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    return await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, database, notes, what, env=environment, cwd=HOUSE
    )


async def test_jobs_of_a_killed_process_are_run_again_by_the_next_one_and_the_others_for_the_first_time(
    tmp_path: Path,
) -> None:
    database, notes = tmp_path / "jobs.db", tmp_path / "notes"
    notes.touch()
    first = await start(database, notes, "store")
    async with asyncio.timeout(20):
        while notes.read_text().count("begin") < 2:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    await first.wait()
    assert notes.read_text().splitlines() == ["begin job-0 first", "begin job-1 first"], (
        "Its lane is two wide."
    )
    second = await start(database, notes, "run")
    async with asyncio.timeout(20):
        while notes.read_text().count("end") < 2:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
        while "begin job-2 first" not in notes.read_text():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    await second.wait()
    lines = notes.read_text().splitlines()[2:]
    assert sorted(lines[:2] + lines[2:]) == sorted(
        ["begin job-0 again", "end job-0", "begin job-1 again", "end job-1", "begin job-2 first"]
    )
