"""Faults on request: what a caller sees, and what really happened."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import aiohttp
import pytest
import telegram

from infra.sandbox import ChangeKind, FaultKind, Sandbox

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller, Receiver

TOKEN = "123456:TEST-token"
ADA, GRACE = 815, 4711


def sent_texts(sandbox: Sandbox) -> list[str]:
    return [change.text for change in sandbox.truth if change.kind is ChangeKind.SENT]


async def test_429_names_the_seconds_in_body_and_header(
    sandbox: Sandbox, http: aiohttp.ClientSession, call: Caller
) -> None:
    sandbox.fault(FaultKind.TOO_MANY_REQUESTS, retry_after=7, times=2)
    url = f"{sandbox.api_url}/bot{TOKEN}/sendMessage"
    async with http.post(url, json={"chat_id": ADA, "text": "x"}) as response:
        answer = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert answer["description"] == "Too Many Requests: retry after 7"
    assert answer["parameters"] == {"retry_after": 7}
    assert (await call("getMe"))["status"] == 429
    assert (await call("getMe"))["status"] == 200
    assert sent_texts(sandbox) == []
    assert [entry.outcome for entry in sandbox.calls][:2] == ["Too Many Requests: retry after 7"] * 2


async def test_python_telegram_bot_reads_the_429(
    sandbox: Sandbox, bot: telegram.Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", "1")
    sandbox.fault("too_many_requests", retry_after=3)
    with pytest.raises(telegram.error.RetryAfter) as caught:
        await bot.send_message(ADA, "x")
    assert caught.value.retry_after == timedelta(seconds=3)


async def test_a_fault_meets_only_its_method_and_its_chat(sandbox: Sandbox, call: Caller) -> None:
    fault = sandbox.fault("error", method="sendMessage", chat=ADA, status=502, times=None)
    assert await call.refusal("sendMessage", chat_id=ADA, text="x") == (502, "Bad Gateway")
    await call.result("sendMessage", chat_id=GRACE, text="x")
    await call.result("getChat", chat_id=ADA)
    assert fault.hits == 1
    fault.lift()
    await call.result("sendMessage", chat_id=ADA, text="x")


async def test_an_error_can_be_any_status_and_text(sandbox: Sandbox, call: Caller) -> None:
    sandbox.fault("error", status=409, description="terminated by other getUpdates request")
    expected = (409, "Conflict: terminated by other getUpdates request")
    assert await call.refusal("getMe") == expected


@pytest.mark.parametrize("effect", [False, True])
async def test_a_reset_comes_after_the_request_was_read(sandbox: Sandbox, call: Caller, effect: bool) -> None:
    sandbox.fault("reset", effect=effect)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await call("sendMessage", chat_id=ADA, text="x")
    assert sent_texts(sandbox) == (["x"] if effect else [])
    assert [(entry.status, entry.outcome) for entry in sandbox.calls] == [(None, "reset")]
    await call.result("getMe")


@pytest.mark.parametrize("effect", [False, True])
async def test_a_hanging_call_is_answered_by_nobody_until_the_fault_is_lifted(
    sandbox: Sandbox, call: Caller, effect: bool
) -> None:
    with sandbox.fault("hang", effect=effect) as fault:
        waiting = asyncio.create_task(call("sendMessage", chat_id=ADA, text="x"))
        await sandbox.wait_for(lambda: fault.hits)
        assert not waiting.done()
        await call.result("getMe")
        assert sent_texts(sandbox) == (["x"] if effect else [])
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await waiting


async def test_a_hanging_call_does_not_keep_the_sandbox_from_closing(http: aiohttp.ClientSession) -> None:
    async with Sandbox.start(token=TOKEN) as sandbox:
        fault = sandbox.fault("hang")
        waiting = asyncio.create_task(http.get(f"{sandbox.api_url}/bot{TOKEN}/getMe"))
        await sandbox.wait_for(lambda: fault.hits)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await waiting


async def test_a_dripping_answer_is_right_but_slow(sandbox: Sandbox, call: Caller) -> None:
    sandbox.fault("drip", seconds=0.001)
    assert (await call.result("sendMessage", chat_id=ADA, text="x"))["text"] == "x"
    with sandbox.fault("drip", seconds=60, times=None) as fault:
        waiting = asyncio.create_task(call.result("sendMessage", chat_id=ADA, text="y"))
        await sandbox.wait_for(lambda: fault.hits)
        await sandbox.wait_for(lambda: sent_texts(sandbox) == ["x", "y"])
        assert not waiting.done()
    assert (await waiting)["text"] == "y"


async def test_a_slow_answer_is_right_and_its_work_is_done_before(sandbox: Sandbox, call: Caller) -> None:
    sandbox.fault("slow", seconds=0.01)
    assert (await call.result("sendMessage", chat_id=ADA, text="x"))["text"] == "x"
    with sandbox.fault("slow", seconds=60, times=None):
        waiting = asyncio.create_task(call.result("sendMessage", chat_id=ADA, text="y"))
        await sandbox.wait_for(lambda: sent_texts(sandbox) == ["x", "y"])
        assert not waiting.done()
    assert (await waiting)["text"] == "y"


async def test_nonsense_is_a_page_of_html(
    sandbox: Sandbox, http: aiohttp.ClientSession, bot: telegram.Bot
) -> None:
    sandbox.fault("nonsense", times=2)
    async with http.get(f"{sandbox.api_url}/bot{TOKEN}/getMe") as response:
        assert (response.status, response.content_type) == (200, "text/html")
    with pytest.raises(telegram.error.TelegramError):
        await bot.send_message(ADA, "x")
    assert sent_texts(sandbox) == ["x"]


async def test_a_huge_answer_has_the_size_it_was_asked_for(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    sandbox.fault("huge")
    async with http.get(f"{sandbox.api_url}/bot{TOKEN}/getMe") as response:
        assert len(await response.read()) == 10_000_000
        assert (await response.json())["ok"] is True


async def test_a_sandbox_that_is_down_refuses_connections_and_comes_back(
    sandbox: Sandbox, call: Caller
) -> None:
    await call.result("getMe")
    async with sandbox.down():
        with pytest.raises(aiohttp.ClientConnectorError):
            await call("getMe")
    await call.result("getMe")


async def test_the_port_of_a_sandbox_that_is_down_goes_to_nobody_else(sandbox: Sandbox) -> None:
    number = int(sandbox.api_url.rpartition(":")[2])
    async with sandbox.down():
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", number))


async def test_an_update_can_come_twice(sandbox: Sandbox, hooked: Receiver) -> None:
    sandbox.fault("duplicate_update")
    await sandbox.person(ADA).says(None, "one")
    await sandbox.person(ADA).says(None, "two")
    updates = [await hooked.next() for _ in range(3)]
    assert [update["message"]["text"] for update in updates] == ["one", "one", "two"]
    assert updates[0] == updates[1]


async def test_two_updates_can_change_places(sandbox: Sandbox, hooked: Receiver) -> None:
    sandbox.fault("reorder_updates")
    await sandbox.person(ADA).says(None, "one")
    assert sandbox.updates.pending == 1
    await sandbox.person(GRACE).says(None, "two")
    updates = [await hooked.next() for _ in range(2)]
    assert [update["message"]["text"] for update in updates] == ["two", "one"]
    assert updates[0]["update_id"] > updates[1]["update_id"]


async def test_all_faults_can_be_lifted_at_once(sandbox: Sandbox, call: Caller) -> None:
    sandbox.fault("error", times=None)
    sandbox.fault("reset", times=None)
    assert sandbox.faults.lift() == 2
    await call.result("getMe")


async def test_an_unknown_fault_is_an_error_at_once(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="earthquake"):
        sandbox.fault("earthquake")
