"""What Telegram said about chats is kept, for this bot, and for whoever reads it next."""

from __future__ import annotations

from core.model.chat import ChatNote
from core.model.failure import Failure
from infra.store import Store
from tests.contract.store.conftest import OpenStore
from tests.contract.store.samples import OPS, later

GONE = Failure("recipient_unreachable", "Blocked.", 403, "Forbidden: bot was blocked by the user")


async def note_of(store: Store, chat: int | str) -> ChatNote | None:
    return next(iter(await store.chat_notes((chat,))), None)


async def test_of_a_chat_that_nothing_was_said_about_there_is_no_note(store: Store) -> None:
    assert await store.chat_notes(None) == []
    assert await note_of(store, 815) is None


async def test_one_note_keeps_everything_about_a_chat(store: Store) -> None:
    await store.keep_chat_unreachable(OPS, later(600), GONE)
    await store.move_chat(OPS, -1009)
    assert await note_of(store, OPS) == ChatNote(OPS, later(600), GONE, -1009)
    await store.forget_chat_unreachable(OPS)
    assert await note_of(store, OPS) == ChatNote(OPS, migrated_to=-1009)


async def test_the_notes_about_all_chats_or_about_some_are_told(store: Store) -> None:
    for chat in (815, "@news", OPS):
        await store.keep_chat_unreachable(chat, later(60), GONE)
    assert {note.chat for note in await store.chat_notes(None)} == {815, "@news", OPS}
    assert {note.chat for note in await store.chat_notes((815, "@news", 4711))} == {815, "@news"}


async def test_a_later_word_about_a_chat_counts(store: Store) -> None:
    await store.keep_chat_unreachable(815, later(60), GONE)
    await store.keep_chat_unreachable(815, later(30), GONE)
    assert await note_of(store, 815) == ChatNote(815, later(30), GONE)


async def test_notes_outlive_the_process(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.keep_chat_unreachable(815, later(60), GONE)
    async with open_store() as store:
        assert await note_of(store, 815) == ChatNote(815, later(60), GONE)
