"""What Telegram said about chats is kept, for this bot, and for whoever reads it next."""

from __future__ import annotations

from core.jobs.chats import EVERY_CHAT, ChatNote
from core.model.task import Failure
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import NOW, OPS, later

GONE = Failure("recipient_unreachable", "Blocked.", 403, "Forbidden: bot was blocked by the user")


async def note_of(store: Store, chat: int | str) -> ChatNote | None:
    return next(iter(await store.chat_notes((chat,))), None)


async def test_of_a_chat_that_nothing_was_said_about_there_is_no_note(store: Store) -> None:
    assert await store.chat_notes(None) == []
    assert await note_of(store, 815) is None


async def test_a_pause_is_kept_and_a_shorter_one_does_not_end_it(store: Store) -> None:
    await store.pause_chat(815, NOW, later(60))
    await store.pause_chat(815, later(1), later(2))
    assert await note_of(store, 815) == ChatNote(815, paused_until=later(60))
    assert await note_of(store, EVERY_CHAT) is None


async def test_two_chats_within_five_seconds_pause_every_chat(store: Store) -> None:
    await store.pause_chat(815, NOW, later(10))
    await store.pause_chat("@news", later(4.9), later(20))
    assert await note_of(store, EVERY_CHAT) == ChatNote(EVERY_CHAT, paused_until=later(20))


async def test_two_chats_further_apart_pause_only_themselves(store: Store) -> None:
    await store.pause_chat(815, NOW, later(10))
    await store.pause_chat("@news", later(5), later(20))
    assert await note_of(store, EVERY_CHAT) is None
    assert {note.chat for note in await store.chat_notes(None)} == {815, "@news"}


async def test_one_note_keeps_everything_about_a_chat(store: Store) -> None:
    await store.keep_chat_unreachable(OPS, later(600), GONE)
    await store.pause_chat(OPS, NOW, later(9))
    await store.move_chat(OPS, -1009)
    whole = ChatNote(OPS, later(9), later(600), GONE, -1009)
    assert await note_of(store, OPS) == whole
    await store.forget_chat_unreachable(OPS)
    assert await note_of(store, OPS) == ChatNote(OPS, paused_until=later(9), migrated_to=-1009)


async def test_notes_outlive_the_process(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.pause_chat(815, NOW, later(60))
    async with open_store() as store:
        assert await note_of(store, 815) == ChatNote(815, paused_until=later(60))
