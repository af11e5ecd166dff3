"""The inbox counts each update once, by what became of it, and measures how long that took."""

from __future__ import annotations

import pytest

from core.inbox.inbox import Inbox
from core.metrics import EFFECTS
from core.model.errors import StorageUnavailable, TelegramUnavailable
from core.model.update import CommandReceived, Ignored, TextReceived, Unreadable, Update
from tests.fakes.world import ADA, GROUP, Gateway

WORDS = TextReceived(9001, ADA, ADA.id, private=True, message_id=5, text="hello")
IN_A_GROUP = TextReceived(9002, ADA, GROUP, private=False, message_id=6, text="hello")
FOR_ANOTHER_BOT = CommandReceived(
    9003, ADA, GROUP, private=False, message_id=7, name="help", text="", addressed_to="other"
)


def effects(inbox: Inbox) -> dict[str, int]:
    """What was counted, without what did not happen; every update was measured."""
    counted = {effect: count for (effect,), count in inbox.metrics.effects.items()}
    assert set(counted) == set(EFFECTS)
    measured = [sum(series[1:]) for _, series in inbox.metrics.seconds.items()]
    assert sum(measured) == sum(counted.values())
    return {effect: count for effect, count in counted.items() if count}


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ([], {}),
        ([WORDS], {"taken": 1}),
        ([WORDS, WORDS, WORDS], {"taken": 1, "duplicate": 2}),
        ([IN_A_GROUP, FOR_ANOTHER_BOT, Ignored(9004, "a sticker")], {"ignored": 3}),
        ([Unreadable(9005, "no chat", b"{}"), Unreadable(None, "no id", b"[]")], {"quarantined": 2}),
    ],
)
async def test_each_update_counts_once_by_its_effect(
    gateway: Gateway, updates: list[Update], expected: dict[str, int]
) -> None:
    inbox = gateway.inbox
    for update in updates:
        await inbox.take(update)
    assert effects(inbox) == expected


async def test_an_update_that_could_not_be_stored_counts_as_refused(gateway: Gateway) -> None:
    inbox = gateway.inbox
    gateway.world.store.down = True
    with pytest.raises(StorageUnavailable):
        await inbox.take(WORDS)
    gateway.world.store.down = False
    gateway.username = None
    with pytest.raises(TelegramUnavailable):
        await inbox.take(FOR_ANOTHER_BOT)
    assert effects(inbox) == {"refused": 2}
