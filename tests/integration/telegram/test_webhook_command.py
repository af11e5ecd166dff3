"""`telegate webhook`, against the sandbox and against a Telegram that complains."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.sandbox import Sandbox
from infra.server.tls import self_signed_pair
from tests.integration.telegram.misbehaving import answer, refusal, serve
from tests.ports import reserved_port

TOKEN = "123456789:CANARY-token-that-nobody-may-ever-see"
PUBLIC = "https://bot.example.com"
HOOK = f"{PUBLIC}/telegram/webhook"


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    out: str
    err: str


async def webhook(arguments: str, folder: Path, settings: Mapping[str, str]) -> Ended:
    """Run the command as a process, with these settings only."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from infra.cli.webhook import command; command()",
        *arguments.split(),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3]), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert b"CANARY" not in out + err
    return Ended(process.returncode or 0, out.decode(), err.decode())


def at(url: str, token: str = TOKEN, **more: str) -> dict[str, str]:
    return {"BOT_TOKEN": token, "TELEGRAM_API_URL": url, "PUBLIC_URL": PUBLIC, **more}


def state(**fields: object) -> Mapping[str, object]:
    return {
        "ok": True,
        "result": {"url": HOOK, "has_custom_certificate": False, "pending_update_count": 0, **fields},
    }


async def test_set_can_be_repeated_and_info_and_delete_tell_what_is_so(tmp_path: Path) -> None:
    async with Sandbox.start() as sandbox:
        settings = at(sandbox.api_url, sandbox.token)
        missing = await webhook("info", tmp_path, settings)
        first = await webhook("set", tmp_path, settings)
        second = await webhook("set", tmp_path, settings)
        info = await webhook("info --json", tmp_path, settings)
        deleted = await webhook("delete", tmp_path, settings)
        again = await webhook("delete --json", tmp_path, settings)
        calls = [call for call in sandbox.calls if call.method == "setWebhook"]
    assert (missing.code, missing.out) == (1, "")
    assert "telegate webhook set" in missing.err
    assert (first.code, first.err) == (0, "")
    assert first == second
    assert f"Telegram posts to {HOOK}." in first.out
    told = json.loads(info.out)
    assert (told["ok"], told["url"], told["pending"]) == (True, HOOK, 0)
    assert sorted(told["allowed_updates"]) == ["callback_query", "message", "my_chat_member"]
    assert (deleted.code, deleted.out) == (0, "The webhook is removed; Telegram posts nowhere.\n")
    assert json.loads(again.out)["url"] is None
    assert all("drop_pending_updates" not in call.parameters for call in calls)
    assert all(call.parameters["secret_token"] for call in calls)


def tls(folder: Path, host: str) -> dict[str, str]:
    """The settings of a server with a certificate of its own."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    for path, text in zip((certificate, key), self_signed_pair(host), strict=True):
        path.write_bytes(text)
    return {"TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}


async def test_set_uploads_a_self_signed_certificate(tmp_path: Path) -> None:
    async with serve(
        answer(200, {"ok": True, "result": True}), answer(200, state()), answer(200, state())
    ) as server:
        server.behaviours.insert(1, answer(200, {"ok": True, "result": True}))
        ended = await webhook("set", tmp_path, at(server.url, **tls(tmp_path, "bot.example.com")))
    assert (ended.code, ended.err) == (0, "")
    body = server.requests[0].body
    assert b"-----BEGIN CERTIFICATE-----" in body
    assert b'name="certificate"; filename=' in body
    assert b'name="url"\r\n\r\n' + HOOK.encode() in body
    assert b'["message", "callback_query", "my_chat_member"]' in body


async def test_set_uploads_no_certificate_that_only_a_router_sees(tmp_path: Path) -> None:
    done = answer(200, {"ok": True, "result": True})
    async with serve(done, done, answer(200, state())) as server:
        behind = {**tls(tmp_path, "gateway.internal"), "TRUSTED_PROXIES": "1"}
        ended = await webhook("set", tmp_path, at(server.url, **behind))
    assert (ended.code, ended.err) == (0, "")
    assert b"CERTIFICATE" not in server.requests[0].body


async def test_set_uploads_no_certificate_that_telegram_would_not_trust_at_this_address(
    tmp_path: Path,
) -> None:
    async with serve() as server:
        ended = await webhook("set", tmp_path, at(server.url, **tls(tmp_path, "bot.example.net")))
    assert (ended.code, ended.out) == (2, "")
    assert "certificate.pem, which is not made for bot.example.com" in ended.err
    assert "telegate cert new --host bot.example.com" in ended.err
    assert not server.requests


async def test_an_old_error_is_no_complaint_and_a_new_one_with_waiting_updates_is(tmp_path: Path) -> None:
    words = "Wrong response from the webhook: 502 Bad Gateway"
    old = state(last_error_date=int(time.time()) - 7300, last_error_message=words, pending_update_count=1)
    new = state(last_error_date=int(time.time()) - 5, last_error_message=words, pending_update_count=3)
    async with serve(answer(200, old), answer(200, new)) as server:
        past = await webhook("info", tmp_path, at(server.url))
        now = await webhook("info", tmp_path, at(server.url))
    assert (past.code, past.err) == (0, "")
    assert f"The last delivery that failed was 2 hours ago ({words})." in past.out
    assert now.code == 1
    assert "3 updates wait" in now.err
    assert words in now.err


async def test_deliveries_that_failed_before_are_told_by_set_and_do_not_make_it_fail(tmp_path: Path) -> None:
    words = "Connection refused"
    failing = state(last_error_date=int(time.time()) - 185, last_error_message=words, pending_update_count=3)
    done = answer(200, {"ok": True, "result": True})
    async with serve(*(done, done, answer(200, failing)) * 2) as server:
        ended = await webhook("set", tmp_path, at(server.url))
        as_json = await webhook("set --json", tmp_path, at(server.url))
    assert (ended.code, ended.err) == (0, "")
    assert "3 updates wait." in ended.out
    assert f"The last delivery that failed was 3 minutes ago ({words})." in ended.out
    assert as_json.code == 0
    told = json.loads(as_json.out)
    assert (told["ok"], told["problems"], told["last_error"]) == (True, [], words)


async def test_set_fails_when_the_webhook_is_somebody_else_s_right_after(tmp_path: Path) -> None:
    done = answer(200, {"ok": True, "result": True})
    elsewhere = answer(200, state(url="https://elsewhere.example/hook"))
    async with serve(done, done, elsewhere) as server:
        ended = await webhook("set", tmp_path, at(server.url))
    assert ended.code == 1
    assert "https://elsewhere.example/hook" in ended.err


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (
            state(url="https://elsewhere.example/hook"),
            "Telegram posts to https://elsewhere.example/hook, but",
        ),
        (state(allowed_updates=["message"]), "other kinds of updates"),
        (state(url=""), "No webhook is set"),
    ],
    ids=["taken away", "other updates", "none"],
)
async def test_info_complains_about_what_stops_answers(
    tmp_path: Path, found: Mapping[str, object], complaint: str
) -> None:
    async with serve(answer(200, found)) as server:
        ended = await webhook("info", tmp_path, at(server.url))
        as_json = await webhook("info --json", tmp_path, at(server.url))
    assert ended.code == as_json.code == 1
    assert complaint in ended.err
    assert complaint in " ".join(json.loads(as_json.out)["problems"])


async def test_a_long_wait_that_telegram_asks_for_is_told_and_not_waited(tmp_path: Path) -> None:
    async with serve(refusal(429, "Too Many Requests: retry after 600", retry_after=600)) as server:
        ended = await webhook("set", tmp_path, at(server.url))
    assert (ended.code, ended.out) == (1, "")
    assert "wait 600 seconds" in ended.err


async def test_what_telegram_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    words = "Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"
    async with serve(refusal(400, words)) as server:
        ended = await webhook("set", tmp_path, at(server.url))
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.err


async def test_a_telegram_that_cannot_be_reached_is_told_in_words(tmp_path: Path) -> None:
    ended = await webhook("info", tmp_path, at(f"http://127.0.0.1:{reserved_port()}"))
    assert (ended.code, ended.out) == (1, "")
    assert "Telegram cannot be reached." in ended.err
    assert ended.err.count("\n") == 1


Change = Callable[[dict[str, str]], object]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda settings: settings.pop("PUBLIC_URL"), "PUBLIC_URL is missing"),
        (lambda settings: settings.pop("BOT_TOKEN"), "BOT_TOKEN is missing"),
        (
            lambda settings: settings.update(
                PUBLIC_URL="http://127.0.0.1:8080", TELEGRAM_API_URL="https://api.telegram.org"
            ),
            "https addresses only",
        ),
    ],
    ids=["no address", "no token", "http without sandbox"],
)
async def test_settings_that_cannot_work_are_refused_before_telegram_is_asked(
    tmp_path: Path, change: Change, complaint: str
) -> None:
    settings = at("http://127.0.0.1:9")
    change(settings)
    ended = await webhook("set", tmp_path, settings)
    assert (ended.code, ended.out) == (2, "")
    assert complaint in ended.err


async def test_a_name_in_dotenv_that_is_no_setting_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PUBLIC_ULR={PUBLIC}\n")
    settings = at("http://127.0.0.1:9")
    del settings["PUBLIC_URL"]
    ended = await webhook("set", tmp_path, settings)
    assert ended.code == 2
    assert "PUBLIC_ULR is not a setting of Telegate, and is ignored. Did you mean PUBLIC_URL?" in ended.err
    assert "PUBLIC_URL is missing" in ended.err


async def test_http_is_accepted_for_a_sandbox_on_this_machine(tmp_path: Path) -> None:
    async with Sandbox.start() as sandbox:
        settings = at(sandbox.api_url, sandbox.token, PUBLIC_URL="http://127.0.0.1:8080")
        ended = await webhook("set", tmp_path, settings)
    assert (ended.code, ended.err) == (0, "")


async def test_a_word_that_is_no_command_is_a_usage_error(tmp_path: Path) -> None:
    assert (await webhook("sett", tmp_path, {})).code == 2
