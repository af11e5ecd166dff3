"""The first day of a new user: one command, a page, a curl, a tap, and the curl returns with the answer."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.ports import reserved_port

ROOT = Path(__file__).parents[2]
SCREENSHOT = ROOT / "docs" / "images" / "chat-page.png"
LIMIT = 60.0
"""Seconds that anything here may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class Guide:
    """What `telegate dev` prints.

    Attributes:
        page: the chat page's address.
        curl: the command that asks a question, exactly as it stands there.
    """

    page: str
    curl: str

    @classmethod
    def read(cls, text: str) -> Guide | None:
        """The guide in the output so far, or None while it is not whole."""
        page = re.search(r"Open the chat page:\s+(http://\S+)", text)
        curl = re.search(r"^\s*(curl .*?)\n\n", text, re.MULTILINE | re.DOTALL)
        return cls(page[1], curl[1]) if page and curl and "Ctrl-C" in text else None


def written(log: Path) -> str:
    return log.read_text(errors="replace")


@asynccontextmanager
async def telegate_dev(log: Path) -> AsyncIterator[Guide]:
    """`telegate dev` in the checkout, on free ports; at the end it is stopped with Ctrl-C."""
    ports = ("--port", str(reserved_port()), "--sandbox-port", str(reserved_port()))
    command = (sys.executable, "-m", "infra", "dev", *ports)
    kept = {name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), "LANG": "C.UTF-8", **kept}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(LIMIT):
            while (guide := Guide.read(written(log))) is None:
                assert process.returncode is None, written(log)
                await asyncio.sleep(0.1)
        yield guide
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(LIMIT):
            assert await process.wait() == 0, written(log)
        assert "Stopping: requests that wait are answered first." in written(log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in written(log)


@pytest.mark.browser
async def test_a_tap_in_the_chat_page_lets_the_printed_curl_return_with_the_answer(
    page: Page, tmp_path: Path
) -> None:
    expect.set_options(timeout=LIMIT * 1000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type in {"error", "warning"} else None)
    async with telegate_dev(tmp_path / "dev.log") as guide:
        await page.goto(guide.page)
        await page.get_by_test_id("chat-list").get_by_text("Telegate").first.click()
        curl = await asyncio.create_subprocess_shell(
            guide.curl, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        messages = page.get_by_test_id("messages")
        tap = messages.get_by_role("button", name="Deploy", exact=True)
        await expect(tap).to_be_visible()
        await expect(messages).to_contain_text("Build 1234 is green. Deploy it?")
        assert curl.returncode is None
        if os.environ.get("UPDATE_SCREENSHOT") == "1":
            await page.screenshot(path=SCREENSHOT)
        await tap.click()
        async with asyncio.timeout(LIMIT):
            out, err = await curl.communicate()
        assert curl.returncode == 0, err.decode()
        task = json.loads(out)
        assert (task["state"], task["answer"]["choice"]) == ("answered", "deploy")
        assert task["answer"]["by"]["name"] == "Ada Lovelace"
        await expect(messages).to_contain_text("Ada Lovelace chose “Deploy”")
        await expect(tap).to_have_count(0)
        # Read here: when the sandbox stops, the page loses its connection and rightly says so.
        assert problems == []
