"""What nobody waits for any more goes on to its end, and its failure is told in words."""

from __future__ import annotations

import asyncio
import gc

import pytest

from core.jobs.background import to_its_end
from core.model.errors import StorageUnavailable


async def failing(begun: asyncio.Event, error: Exception) -> None:
    begun.set()
    await asyncio.sleep(1)
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageUnavailable("The database is away."), "failed: The database is away."),
        (ZeroDivisionError("a bug"), "failed because of a bug"),
    ],
    ids=["weather", "a bug"],
)
async def test_a_failure_that_nobody_waits_for_is_logged_and_not_reported_as_unretrieved(
    caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    unretrieved: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unretrieved.append(context))
    begun = asyncio.Event()
    waiting = asyncio.create_task(to_its_end(failing(begun, error)))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(2)
    gc.collect()
    assert told in caplog.text
    assert unretrieved == []


async def test_whoever_waits_gets_the_result_or_the_failure() -> None:
    async def give() -> int:
        return 7

    assert await to_its_end(give()) == 7
    with pytest.raises(StorageUnavailable):
        await to_its_end(failing(asyncio.Event(), StorageUnavailable("Away.")))
