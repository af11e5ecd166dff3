"""The chat page for whoever sees little, hears it read out, or has no mouse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it brings no types
from playwright.async_api import Page, expect

from infra.sandbox import Sandbox

pytestmark = pytest.mark.browser

ADA = 815
BUTTONS = {
    "inline_keyboard": [
        [{"text": "Deploy", "callback_data": "1", "style": "success"}],
        [{"text": "Not now", "callback_data": "2", "style": "danger"}],
        [{"text": "Read more", "url": "https://example.com"}],
    ]
}
TEXT = (
    "<b>Build</b> 1234 is <a href='https://example.com'>green</a>.\n"
    "<pre><code class='language-python'>1</code></pre>"
)


@dataclass(frozen=True, slots=True)
class Bot:
    """Calls the sandbox as a gateway does."""

    sandbox: Sandbox
    session: aiohttp.ClientSession

    async def call(self, method: str, **parameters: Any) -> Any:
        """What the method returns."""
        url = f"{self.sandbox.api_url}/bot{self.sandbox.token}/{method}"
        async with self.session.post(url, json=parameters) as answer:
            told = await answer.json()
        assert told["ok"], told
        return told["result"]


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """A bot of a sandbox in which something was said."""
    async with Sandbox.start() as sandbox, aiohttp.ClientSession() as session:
        made = Bot(sandbox, session)
        await made.call("setMyCommands", commands=[{"command": "help", "description": "What I can do"}])
        await sandbox.person(ADA).says(ADA, "What is new?")
        said = await made.call("sendMessage", chat_id=ADA, text=TEXT, parse_mode="HTML", reply_markup=BUTTONS)
        answers = {"message_id": said["message_id"]}
        await made.call(
            "sendMessage", chat_id=ADA, text="And this one is about it.", reply_parameters=answers
        )
        yield made


async def faults(page: Page) -> list[str]:
    """What stands in somebody's way on the page as it is now."""
    found = await Axe().run(page)
    return [
        f"{one['id']}: {one['help']} {[node['html'] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]


async def open_chat(page: Page) -> None:
    await page.get_by_test_id("chat-list").get_by_role("button").first.click()
    await expect(page.get_by_test_id("messages")).to_contain_text("And this one is about it.")


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing_that_stands_in_anybody_s_way(
    page: Page, bot: Bot, colours: Literal["light", "dark"]
) -> None:
    # What fades in has another contrast while it does.
    await page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    await page.goto(bot.sandbox.page_url)
    await expect(page.get_by_test_id("welcome")).to_be_visible()
    assert await faults(page) == [], "at the start"
    await page.get_by_test_id("person-switcher").click()
    await expect(page.get_by_test_id("person-menu")).to_be_visible()
    assert await faults(page) == [], "with the list of people"
    await page.keyboard.press("Escape")
    await open_chat(page)
    assert await faults(page) == [], "in a chat"
    await page.get_by_test_id("composer-text").fill("/")
    await expect(page.get_by_test_id("command-menu")).to_be_visible()
    assert await faults(page) == [], "with the list of commands"


async def test_a_question_is_answered_without_a_mouse(page: Page, bot: Bot) -> None:
    await page.goto(bot.sandbox.page_url)
    await open_chat(page)
    button = page.get_by_role("button", name="Not now")
    for _ in range(40):
        await page.keyboard.press("Shift+Tab")
        if await button.evaluate("button => button === document.activeElement"):
            break
    await expect(button).to_be_focused()
    before = bot.sandbox.updates.pending
    await page.keyboard.press("Enter")
    await bot.sandbox.wait_for(
        lambda: bot.sandbox.updates.pending > before, what="a press on its way to the bot"
    )
