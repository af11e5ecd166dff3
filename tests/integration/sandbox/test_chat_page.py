"""The chat page in a real browser: what a person sees, taps and types."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it brings no types
from playwright.async_api import Browser, Page, async_playwright, expect

from infra.sandbox import Sandbox
from infra.sandbox.world import Entity
from tests.ports import reserved_port

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller

pytestmark = pytest.mark.browser

OPS = -1001234567890
ADA, GRACE, LINUS = 815, 4711, 1337
PATIENCE = 20_000
"""Milliseconds: a browser on a busy machine takes its time."""

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

LEAST_CONTRAST = 4.5
"""Between text and what is behind it. Source: https://www.w3.org/TR/WCAG22/#contrast-minimum"""

CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = (layers) => {
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    const light = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
  };
  // What is behind an element, from the bottom; once for every colour of a gradient that it lies on.
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each);
      const stops = style.backgroundImage.match(/rgba?\\([^)]*\\)/g);
      layers.unshift(style.backgroundColor);
      if (stops) return stops.map((stop) => [stop, ...layers]);
    }
    return [layers];
  };
  const contrast = (element) => {
    const colour = getComputedStyle(element).color;
    return Math.min(...behind(element).map((layers) => {
      const [dark, bright] = [seen(layers), seen([...layers, colour])].sort((a, b) => a - b);
      return (bright + 0.05) / (dark + 0.05);
    }));
  };
  return [...document.querySelectorAll("body *")]
    .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((each) => each.checkVisibility() && !each.closest("[aria-hidden], .spoiler"))
    .map((each) => [each.textContent.slice(0, 30), each.className, contrast(each)]);
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("There is no Chromium. Install it: apt-get update && apt-get install -y chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=path, args=QUIET)
        yield running
        await running.close()


@pytest.fixture
async def page(browser: Browser, sandbox: Sandbox) -> AsyncIterator[Page]:
    """The page as Ada sees it; it must not complain on its console."""
    expect.set_options(timeout=PATIENCE)
    complaints: list[str] = []
    shown = await browser.new_page(viewport={"width": 1100, "height": 750})
    shown.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    await shown.goto(sandbox.page_url)
    await expect(shown.get_by_test_id("connection")).to_have_text("Sandbox, live")
    yield shown
    await shown.close()
    assert [each for each in complaints if "net::ERR" not in each] == []


def deploy_or_not() -> dict[str, Any]:
    row = [
        {"text": "Deploy", "callback_data": "y", "style": "success"},
        {"text": "Not now", "callback_data": "n", "style": "danger"},
    ]
    return {"inline_keyboard": [row]}


async def test_a_question_appears_is_answered_by_a_tap_and_shows_the_outcome(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    # Before anything is said: a screen reader says only what appears in a place that it knows.
    assert await page.get_by_test_id("toast").evaluate("each => each.checkVisibility()")
    sent = await call.result(
        "sendMessage",
        chat_id=ADA,
        text="<b>Deploy 1.42?</b>",
        parse_mode="HTML",
        reply_markup=deploy_or_not(),
    )
    await expect(page.get_by_test_id("unread")).to_have_text("1")
    await page.get_by_test_id(f"chat-{ADA}").click()
    await expect(page.get_by_test_id("unread")).to_have_count(0)
    await expect(page.get_by_test_id("message-text").locator("strong")).to_have_text("Deploy 1.42?")
    button = page.get_by_test_id("inline-button").filter(has_text="Deploy")
    await button.click()
    press = await sandbox.wait_for(lambda: next(iter(sandbox.world.presses.values()), None))
    assert (press.person.id, press.data) == (ADA, "y")
    await expect(button).to_have_attribute("aria-busy", "true")
    await call.result("answerCallbackQuery", callback_query_id=press.id, text="Thank you.")
    await expect(page.get_by_test_id("toast")).to_have_text("Thank you.")
    await expect(button).not_to_have_attribute("aria-busy", "true")
    edit = {"chat_id": ADA, "message_id": sent["message_id"], "text": "Deployed by Ada."}
    await call.result("editMessageText", **edit)
    await expect(page.get_by_test_id("message-text")).to_have_text("Deployed by Ada.")
    await expect(page.get_by_test_id("edited")).to_be_visible()
    await expect(page.get_by_test_id("inline-button")).to_have_count(0)
    await call.result("deleteMessage", chat_id=ADA, message_id=sent["message_id"])
    await expect(page.get_by_test_id("empty")).to_be_visible()
    await expect(page.get_by_test_id("toast")).to_be_empty()


async def test_an_alert_stays_until_it_is_closed(page: Page, sandbox: Sandbox, call: Caller) -> None:
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=deploy_or_not())
    await page.get_by_test_id(f"chat-{ADA}").click()
    await page.get_by_role("button", name="Not now").press("Enter")
    press = await sandbox.wait_for(lambda: next(iter(sandbox.world.presses.values()), None))
    await call.result("answerCallbackQuery", callback_query_id=press.id, text="You may not.", show_alert=True)
    await expect(page.get_by_test_id("alert")).to_contain_text("You may not.")
    await page.get_by_role("button", name="OK").click()
    await expect(page.get_by_test_id("alert")).to_be_hidden()


async def test_a_forced_reply_opens_the_composer_and_the_reply_quotes_the_question(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    await page.get_by_test_id(f"chat-{ADA}").click()
    markup = {"force_reply": True, "input_field_placeholder": "for example 1.42"}
    asked = await call.result("sendMessage", chat_id=ADA, text="Which version?", reply_markup=markup)
    await expect(page.get_by_test_id("reply-bar")).to_contain_text("Which version?")
    composer = page.get_by_test_id("composer-text")
    await expect(composer).to_have_attribute("placeholder", "for example 1.42")
    await expect(composer).to_be_focused()
    await composer.press_sequentially("1.42")
    await composer.press("Enter")
    said = await sandbox.wait_for(
        lambda: next((m for m in sandbox.chat(ADA).messages if m.text == "1.42"), None)
    )
    assert said.reply_to is not None
    assert said.reply_to.id == asked["message_id"]
    await expect(page.get_by_test_id("reply-bar")).to_be_hidden()


async def test_the_command_menu_opens_on_a_slash_and_follows_the_keys(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    commands = [{"command": name, "description": f"Does {name}"} for name in ("deploy", "status")]
    await call.result("setMyCommands", commands=commands)
    await page.get_by_test_id(f"chat-{ADA}").click()
    composer = page.get_by_test_id("composer-text")
    await composer.press_sequentially("/")
    await expect(page.get_by_test_id("command-menu").get_by_role("option")).to_have_count(2)
    await composer.press("ArrowDown")
    await composer.press("Enter")
    await sandbox.wait_for(lambda: [m for m in sandbox.chat(ADA).messages if m.text == "/status"])
    await expect(page.get_by_test_id("command-menu")).to_be_hidden()


async def test_somebody_else_presses_start(page: Page, sandbox: Sandbox, call: Caller) -> None:
    await page.get_by_test_id("person-switcher").click()
    await page.get_by_test_id(f"person-{LINUS}").click()
    await expect(page.get_by_test_id("chat-list").get_by_role("button")).to_have_count(1)
    await page.get_by_test_id(f"chat-{LINUS}").click()
    await expect(page.get_by_test_id("composer")).to_be_hidden()
    await page.get_by_test_id("start").click()
    await expect(page.get_by_test_id("message-text")).to_have_text("/start")
    await call.result("sendMessage", chat_id=LINUS, text="Welcome.")
    await expect(page.get_by_text("Welcome.").first).to_be_visible()
    assert sandbox.world.persons[LINUS].started


async def test_markup_in_a_message_is_text_and_a_script_link_is_no_link(page: Page, sandbox: Sandbox) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    await page.get_by_test_id(f"chat-{ADA}").click()
    # The Bot API would refuse this address: the page must be safe without it.
    script = Entity("text_link", 0, 4, url="javascript:alert(1)")
    chat = sandbox.world.chats[ADA]
    sandbox.world.add_message(sandbox.double.new_message(chat, text=hostile, entities=(script,)))
    text = page.get_by_test_id("message-text")
    await expect(text).to_have_text(hostile)
    await expect(text.locator("img, a")).to_have_count(0)


async def test_a_group_shows_its_topics_and_who_is_speaking(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    await call.result("sendMessage", chat_id=OPS, text="in the topic", message_thread_id=7)
    await call.result("sendMessage", chat_id=OPS, text="in general")
    await page.get_by_test_id(f"chat-{OPS}").click()
    await expect(page.get_by_test_id("message")).to_have_count(2)
    await page.get_by_test_id("topic-7").click()
    await expect(page.get_by_test_id("message-text")).to_have_text("in the topic")
    await page.get_by_test_id("composer-text").fill("/deploy")
    await page.get_by_test_id("send").click()
    said = await sandbox.wait_for(
        lambda: next((m for m in sandbox.chat(OPS).messages if m.text == "/deploy"), None)
    )
    assert said.topic == 7
    await page.get_by_test_id("topic-general").click()
    await expect(page.get_by_test_id("message-text")).to_have_text("in general")
    await call.result("sendChatAction", chat_id=OPS, action="typing")
    await expect(page.get_by_test_id("chat-status")).to_have_text("Telegate Sandbox is typing…")


async def test_on_a_phone_the_list_and_the_chat_are_two_screens_and_nothing_overflows(
    page: Page, call: Caller
) -> None:
    await call.result("sendMessage", chat_id=ADA, text="Deploy? " + "x" * 300, reply_markup=deploy_or_not())
    await page.set_viewport_size({"width": 360, "height": 700})
    await expect(page.get_by_test_id("welcome")).to_be_hidden()
    await page.get_by_test_id(f"chat-{ADA}").click()
    await expect(page.get_by_test_id("chat-list")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.get_by_test_id("back").click()
    await expect(page.get_by_test_id("chat-list")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_test_id("message")).to_be_visible()


async def test_the_page_says_when_the_sandbox_is_gone_and_comes_back_by_itself(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    await page.get_by_test_id(f"chat-{ADA}").click()
    async with sandbox.down():
        await expect(page.get_by_test_id("connection")).to_contain_text("does not answer")
        # On a phone the list with that line is another screen.
        await expect(page.get_by_test_id("chat-status")).to_have_text("Connecting…")
    await expect(page.get_by_test_id("chat-status")).to_have_text("bot")
    await call.result("sendMessage", chat_id=ADA, text="back again")
    await expect(page.get_by_test_id("message-text")).to_have_text("back again")


async def test_a_page_that_stays_open_knows_what_is_new_after_a_restart_of_the_sandbox(page: Page) -> None:
    port = reserved_port()
    row, unread = page.get_by_test_id(f"chat-{OPS}"), page.get_by_test_id("unread")
    async with Sandbox.start(token="123456:TEST-token", port=port) as before:
        await page.goto(before.page_url)
        for text in ("one", "two"):
            await before.person(GRACE).says(OPS, text)
        await expect(unread).to_have_text("2")
        await row.click()
        await expect(unread).to_have_count(0)
        await page.get_by_test_id(f"chat-{ADA}").click()
    async with Sandbox.start(token="123456:TEST-token", port=port) as after:
        await expect(row).to_contain_text("No messages yet")
        await after.person(GRACE).says(OPS, "new")
        await expect(unread).to_have_text("1")


async def test_an_address_with_a_person_who_is_gone_shows_somebody_who_is_there(
    browser: Browser, sandbox: Sandbox
) -> None:
    # A page of its own: the browser itself complains about the 404 on its console.
    page = await browser.new_page()
    await page.goto(f"{sandbox.page_url}#person=99")
    await expect(page.get_by_test_id("person-switcher")).to_contain_text("Ada Lovelace", timeout=PATIENCE)
    await expect(page.get_by_test_id("connection")).to_have_text("Sandbox, live", timeout=PATIENCE)


async def test_text_from_right_to_left_stands_so_wherever_it_is_shown(
    page: Page, sandbox: Sandbox, call: Caller
) -> None:
    hebrew = "כן!"
    keyboard = {"inline_keyboard": [[{"text": hebrew, "callback_data": "y"}]]}
    asked = await call.result("sendMessage", chat_id=ADA, text=hebrew, reply_markup=keyboard)
    await page.get_by_test_id(f"chat-{ADA}").click()
    button = page.get_by_test_id("inline-button")
    await button.click()
    press = await sandbox.wait_for(lambda: next(iter(sandbox.world.presses.values()), None))
    await call.result("answerCallbackQuery", callback_query_id=press.id, text=hebrew, show_alert=True)
    await page.get_by_role("button", name="OK").click()
    await call.result("sendMessage", chat_id=ADA, text=hebrew, reply_to_message_id=asked["message_id"])
    await page.get_by_test_id("composer-text").fill(hebrew)
    shown = [
        page.get_by_test_id(f"chat-{ADA}").locator(".chat-preview bdi"),
        page.get_by_test_id("message-text").last,
        page.locator(".quoted bdi"),
        page.get_by_test_id("alert").locator("p"),
        page.get_by_test_id("composer-text"),
        button,
    ]
    for each in shown:
        await expect(each).to_have_css("direction", "rtl")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_what_is_behind_it(
    page: Page, call: Caller, scheme: Literal["light", "dark"]
) -> None:
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    styles = ["primary", "success", "danger", None]
    row = [
        {"text": f"{style}", "callback_data": f"{style}"} | ({"style": style} if style else {})
        for style in styles
    ]
    text = "<a href='https://example.com'>link</a> <code>code</code>"
    text += "<pre><code class='language-sh'>ls</code></pre>"
    markup = {"inline_keyboard": [row]}
    await call.result("sendMessage", chat_id=OPS, text="unread")
    sent = await call.result("sendMessage", chat_id=ADA, text=text, parse_mode="HTML", reply_markup=markup)
    await page.get_by_test_id(f"chat-{ADA}").click()
    await page.get_by_test_id("reply").click()
    await page.get_by_test_id("composer-text").fill("mine")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("message")).to_have_count(2)
    await call.result("sendMessage", chat_id=ADA, text="late", reply_to_message_id=sent["message_id"])
    await expect(page.get_by_test_id("message")).to_have_count(3)
    await page.get_by_test_id("reply").first.click()
    in_private = await page.evaluate(CONTRASTS)
    await page.get_by_test_id(f"chat-{OPS}").click()
    await expect(page.get_by_test_id("topics")).to_be_visible()
    shown = [*in_private, *await page.evaluate(CONTRASTS)]
    assert {"link", "primary", "None", "mine", "Today", "Ops"} <= {words for words, *_ in shown}
    assert [each for each in shown if each[-1] < LEAST_CONTRAST] == []


async def test_a_folded_quote_shows_three_whole_lines_and_all_of_them_when_it_is_pressed(
    page: Page, call: Caller
) -> None:
    lines = "\n".join(f"line {number}" for number in range(1, 8))
    text = f"<blockquote expandable>{lines}</blockquote>"
    await call.result("sendMessage", chat_id=ADA, text=text, parse_mode="HTML")
    await page.get_by_test_id(f"chat-{ADA}").click()
    quote = page.locator(".quote")
    # What can be seen ends with the third line: nothing of the fourth is in it.
    seen, line = await quote.evaluate(
        "each => [each.clientHeight, parseFloat(getComputedStyle(each).lineHeight)]"
    )
    assert abs(seen - 3 * line) <= 1
    await page.get_by_test_id("messages").get_by_role("button", name="line 1").press("Enter")
    assert await quote.evaluate("each => each.clientHeight") >= 7 * line
    await expect(quote).not_to_have_attribute("role", "button")


async def test_whoever_wants_little_motion_is_at_the_quoted_message_at_once(page: Page, call: Caller) -> None:
    await page.emulate_media(reduced_motion="reduce")
    first = await call.result("sendMessage", chat_id=ADA, text="first\n" * 100)
    await call.result("sendMessage", chat_id=ADA, text="last", reply_to_message_id=first["message_id"])
    await page.get_by_test_id(f"chat-{ADA}").click()
    # Looked at in the same moment as the click: a smooth scroll has not begun then.
    moved = await page.locator(".quoted").evaluate(
        "quote => { const box = document.getElementById('scroller'), before = box.scrollTop;"
        " quote.click(); return before - box.scrollTop; }"
    )
    assert moved > 0


# Whoever hears the page read out, or has no mouse


async def faults(page: Page) -> list[str]:
    """What axe-core finds. On the wallpaper it cannot judge contrast; the test of that does."""
    found = await Axe().run(page)
    return [
        f"{one['id']}: {one['help']} {[node['html'] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_that_stands_in_anybody_s_way(
    page: Page, sandbox: Sandbox, call: Caller, scheme: Literal["light", "dark"]
) -> None:
    # What fades in has another contrast while it does.
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await call.result("setMyCommands", commands=[{"command": "help", "description": "What I can do"}])
    await sandbox.person(ADA).says(ADA, "What is new?")
    asked = await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=deploy_or_not())
    await call.result("sendMessage", chat_id=ADA, text="Now?", reply_to_message_id=asked["message_id"])
    await expect(page.get_by_test_id("welcome")).to_be_visible()
    assert await faults(page) == [], "at the start"
    await page.get_by_test_id("person-switcher").click()
    await expect(page.get_by_test_id("person-menu")).to_be_visible()
    assert await faults(page) == [], "with the list of people"
    await page.keyboard.press("Escape")
    await page.get_by_test_id(f"chat-{ADA}").click()
    await expect(page.get_by_test_id("message")).to_have_count(3)
    assert await faults(page) == [], "in a chat"
    await page.get_by_test_id("composer-text").fill("/")
    await expect(page.get_by_test_id("command-menu")).to_be_visible()
    assert await faults(page) == [], "with the list of commands"


async def test_a_question_is_answered_without_a_mouse(page: Page, sandbox: Sandbox, call: Caller) -> None:
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=deploy_or_not())
    await page.get_by_test_id(f"chat-{ADA}").press("Enter")
    button = page.get_by_test_id("inline-button").last
    await expect(button).to_be_visible()
    for _ in range(20):
        await page.keyboard.press("Shift+Tab")
        if await button.evaluate("button => button === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    press = await sandbox.wait_for(lambda: next(iter(sandbox.world.presses.values()), None))
    assert press.person.id == ADA
