"""What nobody waits for goes on to its end, and its failure is logged in words."""

from __future__ import annotations

import asyncio
import gc

import pytest

from core.jobs.background import BackgroundTasks, run_to_completion
from core.model.errors import StorageUnavailable, TelegramUnavailable


async def failing(begun: asyncio.Event, error: Exception) -> None:
    begun.set()
    await asyncio.sleep(1)
    raise error


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (StorageUnavailable("The database is away."), "disconnected: The database is away."),
        (ZeroDivisionError("a bug"), "Unhandled exception in background work after the caller disconnected."),
    ],
    ids=["weather", "a bug"],
)
async def test_a_failure_that_nobody_waits_for_is_logged_and_not_reported_as_unretrieved(
    caplog: pytest.LogCaptureFixture, error: Exception, logged: str
) -> None:
    unretrieved: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unretrieved.append(context))
    begun = asyncio.Event()
    waiting = asyncio.create_task(run_to_completion(failing(begun, error)))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(2)
    gc.collect()
    assert logged in caplog.text
    assert unretrieved == []


async def test_whoever_waits_gets_the_result_or_the_failure() -> None:
    async def give() -> int:
        return 7

    assert await run_to_completion(give()) == 7
    with pytest.raises(StorageUnavailable):
        await run_to_completion(failing(asyncio.Event(), StorageUnavailable("Away.")))


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (StorageUnavailable("The database is away."), "store_failed"),
        (TelegramUnavailable("Telegram is away."), "telegram_unavailable"),
        (ZeroDivisionError("a bug"), "bug"),
    ],
    ids=["database", "Telegram", "a bug"],
)
async def test_what_goes_wrong_in_the_background_is_logged_and_the_rest_goes_on(
    caplog: pytest.LogCaptureFixture, error: Exception, action: str
) -> None:
    background, begun, ended = BackgroundTasks(), asyncio.Event(), []

    async def go_on() -> None:
        await asyncio.sleep(5)
        ended.append("went on")

    background.start(failing(begun, error))
    background.start(go_on())
    await background.stop(10)
    assert [vars(record)["action"] for record in caplog.records] == [action]
    assert ended == ["went on"]


async def test_stopping_waits_as_long_as_it_may_and_then_cancels() -> None:
    background, ended = BackgroundTasks(), []

    async def work(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            ended.append(seconds)
        except asyncio.CancelledError:
            ended.append(-seconds)
            raise

    for seconds in (1, 60, 3):
        background.start(work(seconds))
    await background.stop(10)
    assert (ended, asyncio.get_running_loop().time()) == ([1, 3, -60], 10)
    assert (background.stopping, len(background.running)) == (True, 0)


async def test_stopping_waits_for_what_the_work_has_started_too() -> None:
    background, ended = BackgroundTasks(), []

    async def follow() -> None:
        await asyncio.sleep(1)
        ended.append("followed")

    async def work() -> None:
        await asyncio.sleep(1)
        background.start(follow())

    background.start(work())
    await background.stop(10)
    assert ended == ["followed"]


async def test_work_that_never_began_leaves_no_coroutine_behind() -> None:
    background = BackgroundTasks()
    background.start(asyncio.sleep(1))
    await background.stop(0)
    gc.collect()
    assert len(background.running) == 0
