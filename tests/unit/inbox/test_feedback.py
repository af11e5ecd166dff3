"""Feedback: acknowledging a tap and taking buttons off a message, once, soon, and within the limits."""

from __future__ import annotations

import asyncio
import logging

import pytest

from core.inbox.feedback import ACKNOWLEDGEMENTS
from core.model.effect import Notice, Orphan
from core.model.part import Button, FormattedText, Part
from tests.fakes.messenger import NOT_REACHED, UNCLEAR, later
from tests.fakes.world import ADA, GROUP, Gateway

NOTICE = Notice("press-1", "Thank you!", popup=True)


async def with_buttons(gateway: Gateway, chat: int = ADA.id) -> Orphan:
    """A message with a button, whose question nobody knows."""
    part = Part(FormattedText("Deploy?"), keyboard=((Button("Deploy", data="data"),),))
    return Orphan(chat, await gateway.world.messenger.send(chat, None, part))


def calls(gateway: Gateway) -> list[str]:
    """What was asked of Telegram, except to send."""
    return [call.verb for call in gateway.world.messenger.calls if call.verb != "send"]


async def test_an_acknowledgement_that_fails_is_logged_and_harms_nothing(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.world.messenger.script(*[NOT_REACHED] * 10, verb="acknowledge")
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    assert len(calls(gateway)) == 4, "Nobody sees it any more."
    assert "A call to Telegram failed: Telegram cannot be reached" in caplog.text


async def test_an_acknowledgement_that_did_not_come_through_is_repeated(gateway: Gateway) -> None:
    gateway.world.messenger.script(NOT_REACHED, UNCLEAR, verb="acknowledge")
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    made = gateway.world.messenger.of("acknowledge")
    assert [(call.press_id, call.text, call.popup) for call in made] == [("press-1", "Thank you!", True)] * 3


async def test_an_acknowledgement_that_would_come_too_late_is_not_waited_for(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(3600), verb="acknowledge")
    gateway.feedback.acknowledge(NOTICE)
    begun = asyncio.get_running_loop().time()
    await gateway.settled()
    assert asyncio.get_running_loop().time() - begun < 1
    assert calls(gateway) == ["acknowledge"]


async def test_telegram_is_not_asked_again_before_it_wants_to_be(gateway: Gateway) -> None:
    gateway.world.messenger.script(later(3600), verb="acknowledge")
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    assert calls(gateway) == ["acknowledge"]
    gateway.world.clock.advance(3601)
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    assert calls(gateway) == ["acknowledge"] * 2


async def test_a_tap_in_a_chat_that_has_to_wait_is_acknowledged_at_once(gateway: Gateway) -> None:
    orphan = await with_buttons(gateway)
    await gateway.limits.holds.hold(str(orphan.chat), 60)
    gateway.feedback.acknowledge(NOTICE)
    gateway.feedback.strip(orphan)
    await gateway.settled()
    assert calls(gateway) == ["acknowledge"]


async def test_the_end_of_a_short_hold_is_waited_for(gateway: Gateway) -> None:
    orphan = await with_buttons(gateway)
    await gateway.limits.holds.hold("", 5)
    gateway.feedback.acknowledge(NOTICE)
    gateway.feedback.strip(orphan)
    await asyncio.sleep(4.9)
    assert calls(gateway) == []
    gateway.world.clock.advance(5)
    await gateway.settled()
    assert sorted(calls(gateway)) == ["acknowledge", "strip"]


async def test_the_end_of_a_long_hold_is_not_waited_for(gateway: Gateway) -> None:
    orphan = await with_buttons(gateway)
    await gateway.limits.holds.hold("", 60)
    begun = asyncio.get_running_loop().time()
    gateway.feedback.acknowledge(NOTICE)
    gateway.feedback.strip(orphan)
    await gateway.settled()
    assert asyncio.get_running_loop().time() - begun < 10
    assert calls(gateway) == []


async def test_a_message_that_keeps_its_buttons_holds_its_chat_alone(gateway: Gateway) -> None:
    there, elsewhere = await with_buttons(gateway), await with_buttons(gateway, GROUP)
    gateway.world.messenger.script(later(60), verb="strip")
    for orphan in (there, there, elsewhere):
        gateway.feedback.strip(orphan)
        await gateway.settled()
    assert [call.chat for call in gateway.world.messenger.of("strip")] == [there.chat, elsewhere.chat]
    assert await gateway.limits.holds.end(str(there.chat)) is not None
    assert await gateway.limits.holds.end(ACKNOWLEDGEMENTS) is None


async def test_a_tap_is_acknowledged_although_the_database_has_gone_away(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gateway.world.store.down = True
    gateway.feedback.acknowledge(NOTICE)
    await gateway.settled()
    gateway.world.store.down = False
    assert calls(gateway) == ["acknowledge"]
    assert caplog.records == []
