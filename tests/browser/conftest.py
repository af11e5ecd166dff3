"""Fixtures of the browser tests: a headless Chromium that is installed on this machine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.fail(
            "The browser tests need Chromium, and there is none. On Debian and Ubuntu: "
            "sudo apt-get install chromium. To leave these tests out: pytest -m 'not browser'."
        )
    return found


@pytest_asyncio.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    """An empty page in a fresh browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            context = await browser.new_context(
                viewport={"width": 1100, "height": 760}, device_scale_factor=2
            )
            yield await context.new_page()
        finally:
            await browser.close()
