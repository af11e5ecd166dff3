"""What is known about chats decides whether Telegram is called."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.jobs.chats import FAIL_FAST, REFRESH_EVERY, ChatBook
from core.model.failure import Failure
from tests.fakes.clock import START
from tests.fakes.store import MemoryStore
from tests.fakes.world import ADA, BEN, GROUP

GONE = Failure("recipient_unreachable", "Blocked.", 403, "Forbidden: bot was blocked by the user")


async def test_nobody_is_left_alone_who_can_be_reached() -> None:
    assert (await ChatBook(MemoryStore()).note(ADA.id)).reason_not_to_call(START) is None


async def test_a_chat_that_cannot_be_reached_is_left_alone_for_ten_minutes() -> None:
    chats = ChatBook(MemoryStore())
    await chats.unreachable(ADA.id, START, GONE)
    note = await chats.note(ADA.id)
    assert note.reason_not_to_call(START + FAIL_FAST - timedelta(seconds=1)) == GONE
    assert note.reason_not_to_call(START + FAIL_FAST) is None
    await chats.reached(BEN.id)
    assert (await chats.note(ADA.id)).reason_not_to_call(START) == GONE
    await chats.reached(ADA.id)
    assert (await chats.note(ADA.id)).reason_not_to_call(START) is None


@pytest.mark.parametrize("shared", [True, False])
async def test_another_process_knows_once_it_starts_or_when_the_store_is_shared(*, shared: bool) -> None:
    store = MemoryStore()
    other = ChatBook(store, shared=shared)
    assert (await other.note(ADA.id)).reason_not_to_call(START) is None
    await ChatBook(store).unreachable(ADA.id, START, GONE)
    assert ((await other.note(ADA.id)).reason_not_to_call(START) == GONE) is shared
    assert (await ChatBook(store).note(ADA.id)).reason_not_to_call(START) == GONE


async def test_without_the_database_what_was_known_last_counts(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    chats = ChatBook(store, shared=True)
    await chats.unreachable(ADA.id, START, GONE)
    store.down = True
    assert (await chats.note(ADA.id)).reason_not_to_call(START) == GONE
    assert "could not be read" in caplog.text


async def test_whoever_writes_is_reachable_again_although_another_process_has_noted_that_it_was_not() -> None:
    store = MemoryStore()
    await ChatBook(store).unreachable(ADA.id, START, GONE)
    await ChatBook(store).reached(ADA.id)
    assert (await ChatBook(store).note(ADA.id)).reason_not_to_call(START) is None


async def test_a_process_learns_what_others_note_without_calling_the_chat() -> None:
    store = MemoryStore()
    chats = ChatBook(store, shared=True)
    learning = asyncio.create_task(chats.run())
    await chats.ready()
    await ChatBook(store).moved(GROUP, -1009)
    store.down = True
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert not chats.is_same(GROUP, -1009)
    store.down = False
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert chats.is_same(GROUP, -1009)
    learning.cancel()
    await ChatBook(store).run()


async def test_a_group_and_its_supergroup_are_one_chat() -> None:
    chats = ChatBook(MemoryStore())
    await chats.note(GROUP)
    assert chats.is_same(GROUP, GROUP)
    assert not chats.is_same(GROUP, -1009)
    await chats.moved(GROUP, -1009)
    assert chats.is_same(GROUP, -1009)
