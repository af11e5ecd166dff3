"""What is known about chats decides whether Telegram is called."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.jobs.chats import FAIL_FAST, REFRESH_EVERY, ChatBook
from core.model.task import Failure
from tests.fakes.clock import START
from tests.fakes.store import MemoryStore
from tests.fakes.world import ADA, BEN, GROUP

GONE = Failure("recipient_unreachable", "Blocked.", 403, "Forbidden: bot was blocked by the user")


def book(store: MemoryStore, *, shared: bool = False, jitter: float = 0.0) -> ChatBook:
    return ChatBook(store, shared=shared, jitter=lambda: jitter)


async def test_nobody_waits_who_was_not_told_to() -> None:
    assert (await book(MemoryStore()).note(ADA.id)).pause_end(START) is None


async def test_a_chat_waits_until_its_pause_is_over_and_others_do_not() -> None:
    chats = book(MemoryStore())
    await chats.pause(ADA.id, START, 17)
    assert (await chats.note(ADA.id)).pause_end(START + timedelta(seconds=16.9)) == START + timedelta(
        seconds=17
    )
    assert (await chats.note(ADA.id)).pause_end(START + timedelta(seconds=17)) is None
    assert (await chats.note(BEN.id)).pause_end(START) is None


async def test_a_pause_is_up_to_a_tenth_longer_than_telegram_asks() -> None:
    chats = book(MemoryStore(), jitter=1.0)
    assert chats.pauses == 0
    await chats.pause(ADA.id, START, 10)
    assert chats.pauses == 1
    assert (await chats.note(ADA.id)).pause_end(START) == START + timedelta(seconds=11)


async def test_two_chats_at_once_pause_every_chat() -> None:
    chats = book(MemoryStore())
    await chats.pause(ADA.id, START, 10)
    await chats.pause(BEN.id, START + timedelta(seconds=1), 10)
    assert (await chats.note(GROUP)).pause_end(START) == chats.bot_pause == START + timedelta(seconds=11)


@pytest.mark.parametrize("shared", [True, False])
async def test_another_process_obeys_once_it_starts_or_when_the_store_is_shared(*, shared: bool) -> None:
    store = MemoryStore()
    other = book(store, shared=shared)
    assert (await other.note(ADA.id)).pause_end(START) is None
    await book(store).pause(ADA.id, START, 10)
    assert ((await other.note(ADA.id)).pause_end(START) is not None) is shared
    assert (await book(store).note(ADA.id)).pause_end(START) is not None


async def test_without_the_database_what_was_known_last_counts(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    chats = book(store, shared=True)
    await chats.pause(ADA.id, START, 10)
    store.down = True
    assert (await chats.note(ADA.id)).pause_end(START) == START + timedelta(seconds=10)
    assert "could not be read" in caplog.text


async def test_a_chat_that_cannot_be_reached_is_left_alone_for_ten_minutes() -> None:
    chats = book(MemoryStore())
    await chats.unreachable(ADA.id, START, GONE)
    note = await chats.note(ADA.id)
    assert note.reason_not_to_call(START + FAIL_FAST - timedelta(seconds=1)) == GONE
    assert note.reason_not_to_call(START + FAIL_FAST) is None
    await chats.reached(BEN.id)
    assert (await chats.note(ADA.id)).reason_not_to_call(START) == GONE
    await chats.reached(ADA.id)
    assert (await chats.note(ADA.id)).reason_not_to_call(START) is None


async def test_whoever_writes_is_reachable_again_although_another_process_has_noted_that_it_was_not() -> None:
    store = MemoryStore()
    await book(store).unreachable(ADA.id, START, GONE)
    await book(store).reached(ADA.id)
    assert (await book(store).note(ADA.id)).reason_not_to_call(START) is None


async def test_a_process_learns_what_others_note_without_calling_the_chat() -> None:
    store = MemoryStore()
    chats = book(store, shared=True)
    learning = asyncio.create_task(chats.run())
    await chats.ready()
    await book(store).moved(GROUP, -1009)
    store.down = True
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert not chats.is_same(GROUP, -1009)
    store.down = False
    await asyncio.sleep(REFRESH_EVERY + 1)
    assert chats.is_same(GROUP, -1009)
    learning.cancel()
    await book(store).run()


async def test_a_group_and_its_supergroup_are_one_chat() -> None:
    chats = book(MemoryStore())
    await chats.note(GROUP)
    assert chats.is_same(GROUP, GROUP)
    assert not chats.is_same(GROUP, -1009)
    await chats.moved(GROUP, -1009)
    assert chats.is_same(GROUP, -1009)
