"""Background loops: started again after a bug, and ended with the server, whatever they make of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from core.model.retry import RetryPolicy
from infra.server import background
from infra.server.background import running
from tests.fakes.world import turns


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RESTART", RetryPolicy(first=0.001))
    monkeypatch.setattr(background, "CANCEL_AGAIN", 0.001)


async def test_loops_run_as_long_as_the_block_lasts() -> None:
    ended: list[str] = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("run")

    async with running({"running": run}):
        await turns()
        assert not ended
    assert ended == ["run"]


async def test_a_loop_that_returns_is_done() -> None:
    times: list[str] = []

    async def once() -> None:
        times.append("once")

    async with running({"once": once}):
        await turns()
    assert times == ["once"]


async def test_a_loop_with_a_bug_is_logged_and_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[int] = []
    again = asyncio.Event()

    async def stumble() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise ValueError("a bug")
        again.set()
        await asyncio.Event().wait()

    async with running({"stumbling": stumble}):
        async with asyncio.timeout(5):
            await again.wait()
    assert "stumbling failed because of a bug and starts again." in caplog.text
    assert "ValueError: a bug" in caplog.text


async def test_a_loop_that_swallows_its_cancellation_is_cancelled_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    overheard: list[int] = []

    async def overhear() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                overheard.append(1)
                if len(overheard) == 3:
                    raise

    with caplog.at_level(logging.WARNING, "telegate.background"):
        async with running({"overhearing": overhear}):
            await turns()
    assert len(overheard) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "overhearing did not end when it was told to; it is told again."
    ] * 2
