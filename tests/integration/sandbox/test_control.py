"""The control routes: the sandbox as another program and the chat page use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from infra.sandbox import Sandbox, control, views

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller, Receiver

OPS = -1001234567890
ADA, GRACE, LINUS = 815, 4711, 1337


class Control:
    """Asks the control routes."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http = http
        self.base = f"{base}/sandbox"

    async def __call__(self, method: str, path: str, /, *, expect: int = 200, **values: Any) -> Any:
        send = {"params": values} if method == "GET" else {"json": values}
        async with self.http.request(method, f"{self.base}/{path}", **send) as response:  # type: ignore[arg-type]
            answer = await response.json()
            assert response.status == expect, answer
            return answer


@pytest.fixture
def ask(sandbox: Sandbox, http: aiohttp.ClientSession) -> Control:
    return Control(http, sandbox.api_url)


async def question(call: Caller, chat: int = ADA) -> int:
    markup = {
        "inline_keyboard": [[{"text": "Deploy", "callback_data": "y"}, {"text": "Docs", "url": "e.org"}]]
    }
    sent = await call.result("sendMessage", chat_id=chat, text="Deploy?", reply_markup=markup)
    return int(sent["message_id"])


async def test_the_page_comes_with_a_policy_that_allows_nothing_from_elsewhere(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with http.get(sandbox.page_url) as response:
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert response.status == 200
    assert "Telegate Sandbox" in text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("app.js", "api.js", "bubbles.js", "text.js", "style.css", "icon.svg", "pattern.svg"):
        async with http.get(f"{sandbox.page_url}page/{name}") as response:
            assert response.status == 200
            assert "Content-Security-Policy" in response.headers
    for name in ("nothing.js", "..%2fserver.py"):
        async with http.get(f"{sandbox.page_url}page/{name}") as response:
            assert response.status == 404


def test_the_page_uses_no_host_but_its_own_and_never_writes_markup() -> None:
    folder = Path(views.__file__).parent / "page"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
        ):
            assert forbidden not in text, path
        assert "https://" not in text.replace("http://www.w3.org", ""), path


async def test_the_state_is_what_one_person_sees(ask: Control, sandbox: Sandbox, call: Caller) -> None:
    await call.result("setMyCommands", commands=[{"command": "deploy", "description": "Deploy"}])
    group_only = {"type": "chat_member", "chat_id": OPS, "user_id": ADA}
    await call.result("setMyCommands", commands=[{"command": "ops", "description": "x"}], scope=group_only)
    await question(call)
    state = await ask("GET", "state", person=ADA)
    assert state["viewer"]["name"] == "Ada Lovelace"
    private, ops = (next(chat for chat in state["chats"] if chat["id"] == chat_id) for chat_id in (ADA, OPS))
    assert (private["name"], ops["topics"]) == ("Telegate Sandbox", {"7": "Deploys"})
    assert [each["command"] for each in private["commands"]] == ["deploy"]
    assert [each["command"] for each in ops["commands"]] == ["ops"]
    assert private["messages"][0]["text"] == "Deploy?"
    linus = await ask("GET", "state", person=LINUS)
    assert [chat["id"] for chat in linus["chats"]] == [LINUS]
    assert linus["viewer"]["started"] is False
    assert (await ask("GET", "state"))["viewer"]["id"] == ADA
    assert LINUS not in sandbox.world.chats


async def test_another_program_can_press_and_wait_for_the_answer(
    ask: Control, call: Caller, hooked: Receiver
) -> None:
    asked = await question(call)
    press = await ask("POST", "presses", person=ADA, message=asked, button="Deploy")
    assert press["answered"] is False
    assert (await hooked.next())["callback_query"]["id"] == press["id"]
    waiting = asyncio.create_task(ask("GET", f"presses/{press['id']}", wait=10))
    await call.result("answerCallbackQuery", callback_query_id=press["id"], text="Thanks")
    assert (await waiting)["toast"] == "Thanks"
    await ask("GET", "presses/42", expect=404)
    await ask("POST", "presses", expect=400, person=ADA, message=asked, button="Nope")
    await ask("POST", "presses", expect=400, person=ADA, message=asked, button="Docs")
    await ask("POST", "presses", expect=404, person=ADA, message=4242, button="Deploy")
    await ask("POST", "presses", expect=404, person=5, message=asked, button="Deploy")
    assert (await ask("POST", "presses", person=GRACE, chat=ADA, message=asked, data="forged"))[
        "data"
    ] == "forged"


async def test_another_program_can_write_and_wait_for_messages(
    ask: Control, call: Caller, hooked: Receiver
) -> None:
    waiting = asyncio.create_task(ask("GET", "messages", chat=ADA, wait=10))
    asked = await question(call)
    assert [each["text"] for each in (await waiting)["messages"]] == ["Deploy?"]
    said = await ask("POST", "messages", person=ADA, text="why?", reply_to=asked)
    assert said["reply_to_message"]["message_id"] == asked
    assert (await hooked.next())["message"]["text"] == "why?"
    newer = await ask("GET", "messages", chat=ADA, after=asked)
    assert [each["text"] for each in newer["messages"]] == ["why?"]
    assert (await ask("GET", "messages", chat=5))["messages"] == []
    await ask("POST", "messages", person=ADA, chat=OPS, topic=7, text="/deploy")
    assert (await hooked.next())["message"]["message_thread_id"] == 7
    await ask("POST", "messages", person=ADA, location=[51.5, -0.12])
    assert (await hooked.next())["message"]["location"]["latitude"] == 51.5
    for wrong in ({"text": " "}, {"chat": 5, "text": "x"}, {"location": ["a", 1]}, {"location": 5}):
        status = 404 if "chat" in wrong else 400
        assert "error" in await ask("POST", "messages", expect=status, person=ADA, **wrong)


async def test_a_file_can_be_sent_and_looked_at(
    ask: Control, sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    for name, kind, shown in (("a.png", "image/png", "inline"), ("a.html", "text/html", "attachment")):
        form = aiohttp.FormData({"person": str(ADA), "text": "caption"})
        form.add_field("file", b"<script>", filename=name, content_type=kind)
        async with http.post(f"{ask.base}/messages", data=form) as response:
            sent = await response.json()
        assert (sent["document"]["file_name"], sent["caption"]) == (name, "caption")
        async with http.get(f"{ask.base}/files/{sent['document']['file_id']}") as response:
            assert response.headers["Content-Disposition"] == shown
            assert response.content_type != "text/html"
    async with http.get(f"{ask.base}/files/none") as response:
        assert response.status == 404


async def test_starting_blocking_and_new_people_and_chats(
    ask: Control, call: Caller, sandbox: Sandbox
) -> None:
    await ask("POST", "start", person=LINUS, payload="x")
    assert sandbox.chat(LINUS).last.text == "/start x"
    assert (await ask("POST", "block", person=ADA))["blocked"] is True
    assert (await call("sendMessage", chat_id=ADA, text="x"))["status"] == 403
    assert (await ask("POST", "block", person=ADA, blocked=False))["blocked"] is False
    await ask("POST", "persons", id=99, first_name="Alan", last_name="Turing", username="alan")
    await call.result("sendMessage", chat_id=99, text="x")
    made = await ask("POST", "chats", id=-5, title="Two", members=[99, ADA], kind="group")
    assert (made["title"], made["type"]) == ("Two", "group")
    await call.result("sendMessage", chat_id=-5, text="x")
    await ask("POST", "persons", expect=400, id=0)
    await ask("POST", "chats", expect=400, id=5, title="x")
    await ask("POST", "chats", expect=400, id=-6, title="x", members=[5])


async def test_calls_truth_and_updates_can_be_read(ask: Control, call: Caller, hooked: Receiver) -> None:
    waiting = asyncio.create_task(ask("GET", "calls", method="sendMessage", wait=10))
    await question(call)
    first = (await waiting)["calls"][0]
    assert (first["method"], first["chat"], first["outcome"]) == ("sendMessage", ADA, "ok")
    later = await ask("GET", "calls", after=first["number"], chat=ADA)
    assert later["calls"] == []
    assert [each["kind"] for each in (await ask("GET", "truth"))["truth"]][-1] == "sent"
    await ask("POST", "messages", person=ADA, text="hi")
    await hooked.next()
    updates = await ask("GET", "updates")
    assert set(updates) == {"pending", "attempts"}
    await ask("DELETE", "calls")
    assert (await ask("GET", "calls"))["calls"] == []
    await ask("GET", "calls", expect=400, wait=-1)
    await ask("GET", "calls", expect=400, wait="soon")


async def test_faults_can_be_set_listed_and_lifted(ask: Control, call: Caller) -> None:
    made = await ask(
        "POST", "faults", kind="too_many_requests", method="sendMessage", chat=ADA, retry_after=9, times=None
    )
    assert (made["times"], made["retry_after"]) == (None, 9)
    assert (await call("sendMessage", chat_id=ADA, text="x"))["parameters"] == {"retry_after": 9}
    assert [each["hits"] for each in (await ask("GET", "faults"))["faults"]] == [1]
    assert await ask("DELETE", f"faults/{made['number']}") == {"lifted": 1}
    await call.result("sendMessage", chat_id=ADA, text="x")
    await ask("POST", "faults", kind="error", status=502)
    assert (await call("getMe"))["status"] == 502
    await ask("POST", "faults", kind="error", times=5)
    assert await ask("DELETE", "faults") == {"lifted": 1}
    refused = await ask("POST", "faults", expect=400, kind="earthquake")
    assert "down, too_many_requests" in refused["error"]


async def test_an_outage_ends_by_itself(ask: Control, call: Caller, sandbox: Sandbox) -> None:
    assert (await ask("POST", "faults", kind="down", seconds=0.3))["kind"] == "down"

    async with asyncio.timeout(10):
        with pytest.raises(aiohttp.ClientError):  # noqa: PT012 - the outage begins at some moment
            while True:
                await call("getMe")
        answer = None
        while answer is None:
            with contextlib.suppress(aiohttp.ClientError):
                answer = await call("getMe")
    assert answer["ok"] is True


async def test_a_sandbox_can_close_while_it_is_down(http: aiohttp.ClientSession) -> None:
    async with Sandbox.start(token="123456:TEST-token") as sandbox:
        await Control(http, sandbox.api_url)("POST", "faults", kind="down", seconds=60)


async def test_scripts_can_be_set_and_lifted(ask: Control, call: Caller, hooked: Receiver) -> None:
    script = await ask("POST", "scripts", person=ADA, answer="Deploy")
    await question(call)
    assert (await hooked.next())["callback_query"]["data"] == "y"
    assert await ask("DELETE", f"scripts/{script['number']}") == {"answered": 1}
    await ask("DELETE", f"scripts/{script['number']}", expect=404)
    await ask("POST", "scripts", expect=400, person=ADA)


async def test_a_page_of_another_site_may_not_act(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    url = f"{sandbox.api_url}/sandbox/start"
    async with http.post(url, json={"person": ADA}, headers={"Origin": "https://evil.example"}) as response:
        assert response.status == 403
    async with http.post(url, json={"person": ADA}, headers={"Origin": sandbox.api_url}) as response:
        assert response.status == 200
    async with http.post(url, data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert response.status == 400


async def next_event(stream: aiohttp.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            line = await stream.readline()
            if line.startswith(b"data: "):
                return dict(json.loads(line[6:]))


async def test_events_tell_one_person_what_happens(
    ask: Control, call: Caller, sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{ask.base}/events", params={"person": ADA}) as response:
        assert (await next_event(response.content))["kind"] == "state"
        await call.result("sendMessage", chat_id=GRACE, text="not for Ada")
        asked = await question(call)
        assert (await next_event(response.content))["message"]["text"] == "Deploy?"
        await call.result("sendChatAction", chat_id=ADA, action="typing")
        assert (await next_event(response.content))["action"] == "typing"
        press = await sandbox.person(ADA).taps(sandbox.chat(ADA).last, "Deploy")
        assert (await next_event(response.content))["kind"] == "pressed"
        await sandbox.person(GRACE).forges(sandbox.chat(ADA).last, "x")
        await call.result("answerCallbackQuery", callback_query_id=press.id, text="Yes", show_alert=True)
        assert (await next_event(response.content))["press"]["alert"] == "Yes"
        await call.result("editMessageText", chat_id=ADA, message_id=asked, text="Done")
        edited = await next_event(response.content)
        assert (edited["kind"], edited["message"]["text"]) == ("edited", "Done")
        await call.result("deleteMessage", chat_id=ADA, message_id=asked)
        assert (await next_event(response.content))["message_id"] == asked
        await call.result("setMyCommands", commands=[{"command": "a", "description": "b"}])
        assert (await next_event(response.content))["kind"] == "state"
        await call.result("sendMessage", chat_id=ADA, text="?", reply_markup={"force_reply": True})
        assert (await next_event(response.content))["message"]["force_reply"] == {"placeholder": ""}
        await call.result("sendMessage", chat_id=ADA, text="?", reply_markup={"keyboard": [["Yes"]]})
        assert (await next_event(response.content))["message"]["keyboard"] == [["Yes"]]
    async with http.get(f"{ask.base}/events", params={"person": 5}) as response:
        assert response.status == 404


async def test_a_quiet_stream_shows_signs_of_life(
    ask: Control, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "HEARTBEAT", 0.01)
    async with http.get(f"{ask.base}/events", params={"person": ADA}) as response:
        await next_event(response.content)
        await response.content.readline()
        async with asyncio.timeout(10):
            assert await response.content.readline() == b": still here\n"


async def test_a_page_that_lags_behind_is_cut_off_so_that_it_loads_again(
    ask: Control, http: aiohttp.ClientSession, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_UNREAD", 2)
    async with http.get(f"{ask.base}/events", params={"person": ADA}) as response:
        await next_event(response.content)
        for text in ("one", "two", "three"):
            await sandbox.person(ADA).says(None, text)
        async with asyncio.timeout(10):
            assert await response.content.read() is not None
    assert sandbox.world.watchers == []
