"""Updates on their way to the webhook: secret, order, retries, expiry, TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import telegram
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.sandbox import Sandbox, Timing
from infra.sandbox.updates import Update, UpdateQueues
from tests.integration.sandbox import conftest as parts
from tests.ports import reserved_port

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller, Receiver

TOKEN = "123456:TEST-token"
OPS = -1001234567890
ADA, GRACE = 815, 4711


async def question(call: Caller, chat: int = ADA) -> None:
    markup = {"inline_keyboard": [[{"text": "Yes", "callback_data": "y"}]]}
    await call.result("sendMessage", chat_id=chat, text="Deploy?", reply_markup=markup)


async def test_a_press_arrives_with_the_secret_and_reads_as_a_callback_query(
    hooked: Receiver, call: Caller, sandbox: Sandbox, bot: telegram.Bot
) -> None:
    await question(call)
    press = await sandbox.person(ADA).taps(await sandbox.next_message(ADA), "Yes")
    update = telegram.Update.de_json(await hooked.next(), bot)
    assert update.callback_query is not None
    assert (update.callback_query.id, update.callback_query.data) == (press.id, "y")
    assert update.callback_query.from_user.id == ADA
    assert isinstance(update.callback_query.message, telegram.Message)
    assert update.callback_query.message.text == "Deploy?"
    assert update.callback_query.chat_instance
    assert hooked.headers[0]["X-Telegram-Bot-Api-Secret-Token"] == "s3cret"
    assert hooked.headers[0]["Content-Type"] == "application/json"


async def test_update_ids_grow(hooked: Receiver, sandbox: Sandbox) -> None:
    for text in ("one", "two", "three"):
        await sandbox.person(ADA).says(None, text)
    updates = [await hooked.next() for _ in range(3)]
    assert [update["message"]["text"] for update in updates] == ["one", "two", "three"]
    first = updates[0]["update_id"]
    assert [update["update_id"] for update in updates] == [first, first + 1, first + 2]


async def test_a_failing_update_blocks_its_chat_and_no_other(hooked: Receiver, sandbox: Sandbox) -> None:
    hooked.answers.extend([web.Response(status=500), web.Response(status=500)])
    hooked.answers.append(web.Response(status=500, headers={"Retry-After": "100"}))
    await sandbox.person(ADA).says(None, "one")
    for _ in range(3):
        assert (await hooked.next())["message"]["text"] == "one"
    await sandbox.person(ADA).says(None, "two")
    await sandbox.person(GRACE).says(None, "other")
    rest = [(await hooked.next())["message"]["text"] for _ in range(3)]
    assert rest[0] == "other"
    assert rest[1:] == ["one", "two"]


async def test_one_update_of_a_queue_is_in_flight_and_presses_are_another_queue(
    hooked: Receiver, sandbox: Sandbox, call: Caller
) -> None:
    hooked.gate.clear()
    await question(call)
    await sandbox.person(ADA).says(None, "one")
    await sandbox.person(ADA).says(None, "two")
    assert (await hooked.next())["message"]["text"] == "one"
    await sandbox.person(ADA).double_taps(await sandbox.next_message(ADA), "Yes")
    assert "callback_query" in await hooked.next()
    assert (hooked.open_posts, hooked.posts.qsize()) == (2, 0)
    hooked.gate.set()
    rest = [await hooked.next(), await hooked.next()]
    assert sorted("message" in update for update in rest) == [False, True]
    assert hooked.most_open == 2


async def test_no_more_than_max_connections_are_used(
    receiver: Receiver, sandbox: Sandbox, call: Caller
) -> None:
    await call.result("setWebhook", url=receiver.url, max_connections=1)
    receiver.gate.clear()
    await sandbox.person(ADA).says(None, "one")
    await sandbox.person(GRACE).says(None, "two")
    await receiver.next()
    receiver.gate.set()
    await receiver.next()
    assert receiver.most_open == 1


async def test_retries_come_after_0_2_4_8_16_32_seconds_and_then_between_60_and_120() -> None:
    from infra.sandbox.faults import FaultPlan

    queues = UpdateQueues(Timing(scale=0.0), FaultPlan(), lambda: None)
    update = Update(1, "message", b"", expires=float("inf"))
    waits = []
    for _ in range(9):
        before = update.backoff
        queues._postpone(update, 0)
        waits.append(update.backoff if update.backoff != before else 0)
    assert waits[:6] == [0, 2, 4, 8, 16, 32]
    assert all(60 <= wait <= 120 for wait in waits[6:])


async def test_retry_after_is_honoured_to_the_second(hooked: Receiver, sandbox: Sandbox) -> None:
    hooked.answers.append(web.Response(status=503, headers={"Retry-After": "30"}))
    await sandbox.person(ADA).says(None, "one")
    await hooked.next()
    await hooked.next()
    assert hooked.times[1] - hooked.times[0] >= 30 * 0.01 * 0.99
    assert sandbox.updates.attempts[0].status == 503


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.Response(status=500), "Wrong response from the webhook: 500 Internal Server Error"),
        (web.Response(status=302), "Wrong response from the webhook: 302 Found"),
        (web.Response(status=401), "Wrong response from the webhook: 401 Unauthorized"),
    ],
)
async def test_the_webhook_info_tells_the_last_error_and_keeps_it(
    hooked: Receiver, sandbox: Sandbox, bot: telegram.Bot, answer: web.Response, words: str
) -> None:
    hooked.answers.append(answer)
    await sandbox.person(ADA).says(None, "one")
    await sandbox.wait_for(lambda: sandbox.updates.pending == 0)
    info = await bot.get_webhook_info()
    assert (info.url, info.pending_update_count, info.max_connections) == (hooked.url, 0, 40)
    assert info.last_error_message == words
    assert info.last_error_date is not None


async def test_any_2xx_is_a_success(hooked: Receiver, sandbox: Sandbox) -> None:
    hooked.answers.extend([web.Response(status=204), web.Response(status=299, reason="odd")])
    await sandbox.person(ADA).says(None, "one")
    await sandbox.person(ADA).says(None, "two")
    await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 2)
    assert [attempt.status for attempt in sandbox.updates.attempts] == [204, 299]


async def test_a_webhook_that_does_not_answer_in_time_is_asked_again(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    timing = Timing(scale=0.01, answer_within=0.05)
    async with Sandbox.start(token=TOKEN, timing=timing) as sandbox:
        await parts.Caller(http, sandbox.api_url).result("setWebhook", url=receiver.url)
        receiver.gate.clear()
        await sandbox.person(ADA).says(None, "one")
        await receiver.next()
        assert (await receiver.next())["message"]["text"] == "one"
        assert sandbox.updates.attempts[0].error == "Read timeout expired"


async def test_a_webhook_that_refuses_connections_is_asked_again(sandbox: Sandbox, call: Caller) -> None:
    await call.result("setWebhook", url=f"http://127.0.0.1:{reserved_port()}/hook")
    await sandbox.person(ADA).says(None, "one")
    await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 2)
    assert sandbox.updates.attempts[0].error == "Connection refused"
    assert sandbox.updates.pending == 1


async def test_updates_wait_for_a_webhook_and_go_to_it_when_it_is_set(
    receiver: Receiver, sandbox: Sandbox, call: Caller, bot: telegram.Bot
) -> None:
    await sandbox.person(ADA).says(None, "early")
    assert (await bot.get_webhook_info()).pending_update_count == 1
    await call.result("setWebhook", url=receiver.url)
    assert (await receiver.next())["message"]["text"] == "early"


async def test_a_new_webhook_gets_what_the_old_one_refused_at_once(
    hooked: Receiver, sandbox: Sandbox, call: Caller, http: aiohttp.ClientSession
) -> None:
    hooked.answers.append(web.Response(status=503, headers={"Retry-After": "3600"}))
    await sandbox.person(ADA).says(None, "one")
    await hooked.next()
    await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 1)
    sandbox.double.set_webhook_at[0] = 0
    await call.result("setWebhook", url=f"{hooked.url}?again")
    assert (await hooked.next())["message"]["text"] == "one"


async def test_a_deleted_webhook_gets_nothing_and_pending_updates_can_be_dropped(
    hooked: Receiver, sandbox: Sandbox, bot: telegram.Bot
) -> None:
    await bot.delete_webhook()
    await sandbox.person(ADA).says(None, "one")
    info = await bot.get_webhook_info()
    assert (info.url, info.pending_update_count) == ("", 1)
    await bot.delete_webhook(drop_pending_updates=True)
    assert (await bot.get_webhook_info()).pending_update_count == 0
    assert hooked.posts.empty()


async def test_presses_are_kept_for_a_shorter_time_than_messages(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    async with Sandbox.start(token=TOKEN, timing=Timing(presses_kept=0.0)) as sandbox:
        call = parts.Caller(http, sandbox.api_url)
        await question(call)
        await sandbox.person(ADA).taps(await sandbox.next_message(ADA), "Yes")
        await sandbox.person(ADA).says(None, "still here")
        assert sandbox.updates.pending == 1
        await call.result("setWebhook", url=receiver.url)
        assert (await receiver.next())["message"]["text"] == "still here"
        assert receiver.posts.empty()


async def test_only_the_kinds_that_are_wanted_come_and_an_omitted_list_keeps_the_last(
    receiver: Receiver, sandbox: Sandbox, call: Caller, bot: telegram.Bot
) -> None:
    await call.result("setWebhook", url=receiver.url, allowed_updates=["callback_query"])
    await sandbox.person(ADA).says(None, "unheard")
    assert sandbox.updates.pending == 0
    sandbox.double.set_webhook_at[0] = 0
    await call.result("setWebhook", url=receiver.url)
    assert (await bot.get_webhook_info()).allowed_updates == ("callback_query",)
    sandbox.double.set_webhook_at[0] = 0
    await call.result("setWebhook", url=receiver.url, allowed_updates=[])
    assert (await bot.get_webhook_info()).allowed_updates == ()
    await sandbox.person(ADA).says(None, "heard")
    assert (await receiver.next())["message"]["text"] == "heard"


async def test_a_method_in_the_webhook_s_answer_is_executed_and_never_told(
    hooked: Receiver, sandbox: Sandbox
) -> None:
    hooked.answers.append(web.json_response({"method": "sendMessage", "chat_id": ADA, "text": "by return"}))
    await sandbox.person(ADA).says(None, "hello")
    assert (await sandbox.next_message(ADA)).text == "by return"
    for ignored in ({"method": "getMe"}, {"method": "nope"}, ["x"]):
        hooked.answers.append(web.json_response(ignored))
        await sandbox.person(ADA).says(None, "again")
    hooked.answers.append(web.Response(body=b"x" * (2 << 20)))
    await sandbox.person(ADA).says(None, "last")
    await sandbox.wait_for(lambda: sandbox.updates.pending == 0)
    assert len(sandbox.calls.of("sendMessage")) == 1


async def test_set_webhook_is_limited_to_one_a_second(http: aiohttp.ClientSession) -> None:
    # A second that lasts an hour, so that the second call comes within it on any machine.
    async with Sandbox.start(token=TOKEN, time_scale=3600) as sandbox:
        call = parts.Caller(http, sandbox.api_url)
        await call.result("setWebhook", url="https://example.com/hook")
        answer = await call("setWebhook", url="https://example.com/hook")
    assert answer["description"] == "Too Many Requests: retry after 1"
    assert answer["parameters"] == {"retry_after": 1}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "http://example.com/"}, "bad webhook: An HTTPS URL must be provided for webhook"),
        (
            {"url": "https://example.com:4443/"},
            "bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443",
        ),
        ({"url": "ftp://example.com/"}, "invalid webhook URL specified"),
        ({"url": "https://example.com:port/"}, "invalid webhook URL specified"),
        ({"url": "https://e.org/", "secret_token": "a b"}, "secret token contains unallowed characters"),
        ({"url": "https://e.org/", "secret_token": "a" * 257}, "secret token is too long"),
        (
            {"url": "https://e.org/", "allowed_updates": {"a": 1}},
            "can't parse allowed updates: Expected an Array of String",
        ),
    ],
)
async def test_a_webhook_has_to_be_right(call: Caller, values: dict[str, Any], words: str) -> None:
    assert await call.refusal("setWebhook", **values) == (400, f"Bad Request: {words}")


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1, and its key, in one PEM file each."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(secret)
    return folder / f"{name}.pem"


async def test_a_webhook_with_its_own_certificate_is_checked_against_the_uploaded_one(
    sandbox: Sandbox, bot: telegram.Bot, tmp_path: Path
) -> None:
    right, wrong = certificate(tmp_path, "right"), certificate(tmp_path, "wrong")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(right, right.with_suffix(".key"))
    async for receiver in parts.serve(tls):
        await bot.set_webhook(receiver.url, certificate=wrong.read_bytes())
        await sandbox.person(ADA).says(None, "one")
        await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 1)
        assert sandbox.updates.attempts[0].error.startswith("SSL error")
        sandbox.double.set_webhook_at[0] = 0
        await bot.set_webhook(receiver.url, certificate=right.read_bytes())
        assert (await receiver.next())["message"]["text"] == "one"
        assert (await bot.get_webhook_info()).has_custom_certificate


async def test_what_is_no_certificate_is_refused(bot: telegram.Bot) -> None:
    with pytest.raises(telegram.error.BadRequest, match="custom certificate"):
        await bot.set_webhook("https://127.0.0.1/hook", certificate=b"not a certificate")


async def test_a_webhook_that_speaks_no_tls_is_an_ssl_error(
    receiver: Receiver, sandbox: Sandbox, call: Caller
) -> None:
    await call.result("setWebhook", url=receiver.url.replace("http:", "https:"))
    await sandbox.person(ADA).says(None, "one")
    await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 1)
    assert sandbox.updates.attempts[0].error.startswith("SSL error")


async def test_a_webhook_that_hangs_up_is_asked_again(sandbox: Sandbox, call: Caller) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await call.result("setWebhook", url=f"http://127.0.0.1:{port}/hook")
        await sandbox.person(ADA).says(None, "one")
        await sandbox.wait_for(lambda: len(sandbox.updates.attempts) >= 2)
        assert sandbox.updates.attempts[0].error == "Webhook connection closed"
