"""Stores tasks from several sides at once, and prints the id of each once it is acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from core.model.task import Change
from core.model.transition import TaskState
from infra.store import Store, open_sqlite
from tests.contract.store.samples import BOT, a_question, add, change, later


async def write(store: Store) -> None:
    while True:
        task = await add(store, a_question(TaskState.SENDING))
        await change(store, task.id, lambda task: Change.to_state(task.asked(later(1))))
        await change(store, task.id, lambda task: Change.to_state(task.expired(later(2))))
        print(task.id, flush=True)  # noqa: T201 -- the parent reads it


async def main() -> None:
    async with open_sqlite(Path(sys.argv[1]), BOT, lock_wait=0) as store:
        await asyncio.wait_for(asyncio.gather(*(write(store) for _ in range(8))), timeout=60)


asyncio.run(main())
