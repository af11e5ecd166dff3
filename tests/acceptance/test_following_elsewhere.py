"""A task is followed at one server while everything happens at another one, with one PostgreSQL."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.acceptance.gateway import Service, application, question
from tests.acceptance.pairs import Pair, migrated_database, same_service, servers, told
from tests.acceptance.streams import following

pytestmark = pytest.mark.asyncio(loop_scope="module")

HINTS_TRAVEL = application() == "infra.app:create_app"


async def test_a_question_of_one_server_is_followed_at_the_other_to_its_answer(pair: Pair) -> None:
    (here, there), ada = same_service(pair), pair.here.person()
    async with contextlib.AsyncExitStack() as outage:
        await outage.enter_async_context(pair.here.sandbox.down())
        created = (await here.ask(question(ada), prefer="respond-async")).task(202)
        await here.until(created["id"], "queued")
        async with following(there, created["id"]) as stream:
            assert await stream.state() == "queued"
            await outage.aclose()
            assert set(await stream.until("asked")) <= {"queued", "sending", "asked"}
            await ada.taps(await pair.here.next_message(ada), "Yes")
            assert await stream.state() == "answered"
            await stream.ended()


async def slowly_asked(pair: Pair, here: Service, there: Service) -> float:
    """How long it takes from Telegram's answer at one server until the other one tells `asked`."""
    ada = pair.here.person()
    answer = pair.here.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=60)
    created = (await here.ask(question(ada), prefer="respond-async")).task(202)
    async with following(there, created["id"]) as stream:
        assert await stream.state() == "sending"
        await pair.here.next_message(ada)
        began = time.monotonic()
        answer.lift()
        assert await stream.state() == "asked"
        return time.monotonic() - began


@pytest.mark.skipif(not HINTS_TRAVEL, reason="Here no hint arrives, on purpose.")
async def test_every_step_comes_over_by_a_hint_and_not_by_polling_every_two_seconds(pair: Pair) -> None:
    here, there = same_service(pair)
    times = [await slowly_asked(pair, here, there) for _ in range(8)]
    # Polling may come just in time, but not nearly each time.
    assert sorted(times)[5] < 0.5, times
    assert len(told(pair.there, "hints_received")) >= len(times)


async def test_a_client_goes_on_at_the_other_server_with_what_it_has(pair: Pair) -> None:
    (here, there), ada = same_service(pair), pair.here.person()
    task = await here.asked(question(ada))
    asked = await pair.here.next_message(ada)
    async with following(here, task["id"]) as stream:
        assert await stream.state() == "asked"
    async with following(there, task["id"], stream.last_id) as again:
        await pair.there.until_waiting(1)
        await ada.taps(asked, "Yes")
        assert await again.state() == "answered"
        await again.ended()
    await pair.here.until_edited(asked)
    async with following(here, task["id"], again.last_id) as over:
        assert over.response.status == 204


async def test_when_its_server_is_killed_a_client_goes_on_at_the_other_one(tmp_path: Path) -> None:
    async with servers(tmp_path, 2, await migrated_database()) as (here, there):
        pair, ada = Pair(here, there), here.person()
        one, other = same_service(pair)
        task = await one.asked(question(ada))
        asked = await here.next_message(ada)
        async with following(one, task["id"]) as stream:
            assert await stream.state() == "asked"
            await here.server.kill()
        await ada.taps(asked, "Yes")
        async with following(other, task["id"], stream.last_id) as again:
            assert await again.state() == "answered"
            await again.ended()
