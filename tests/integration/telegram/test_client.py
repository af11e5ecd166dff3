"""What the client sends, and what it makes of Telegram's answers to it."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.model.errors import DeliveryUnknown, Migrated, NotDelivered, Rejected
from core.model.message import Format
from core.model.part import Button, Entity, FormattedText, Part
from core.model.question import Style
from core.ports import Messenger
from infra.config.secret import Secret
from infra.sandbox import Sandbox
from infra.telegram.client import TelegramClient
from infra.telegram.formatting.formatter import TelegramFormatter
from tests.integration.telegram.misbehaving import Behaviour, answer, done, refusal, serve

ClientAt = Callable[..., Awaitable[TelegramClient]]
HELLO = Part(FormattedText("hello"))
YES = answer(200, {"ok": True, "result": True})


def test_the_client_is_the_messenger_that_tasks_need() -> None:
    messenger: Messenger = TelegramClient(Secret("1:A"))
    assert messenger


async def test_a_start_needs_neither_telegram_nor_its_library() -> None:
    code = (
        "import sys, asyncio; from infra.config.secret import Secret; "
        "from infra.telegram.client import TelegramClient; from infra.telegram.updates import parse_update; "
        "from infra.telegram.formatting.formatter import TelegramFormatter; "
        "client = TelegramClient(Secret('1:A'), 'http://127.0.0.1:9'); asyncio.run(client.start()); "
        "print([name for name in ('telegram', 'httpx', 'markdown_it') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert (output.decode().strip(), errors.decode()) == ("[]", "")


async def test_a_plain_message_carries_nothing_but_what_it_needs(client_at: ClientAt) -> None:
    async with serve(done()) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
    assert server.requests[0].parameters == {
        "chat_id": 815,
        "text": "hello",
        "link_preview_options": {"is_disabled": True},
    }


async def test_everything_that_a_part_can_say_reaches_telegram(client_at: ClientAt) -> None:
    part = Part(
        FormattedText("Deploy?", (Entity("bold", 0, 6), Entity("pre", 0, 1, language="python"))),
        reply_to=17,
        keyboard=(
            (Button("Yes", data="y" * 32, style=Style.SUCCESS), Button("Why", url="https://e.org")),
            (Button("No", data="n" * 32, style=Style.DANGER),),
        ),
        silent=True,
        protect=True,
        preview=True,
    )
    async with serve(done()) as server:
        client = await client_at(server.url)
        await client.send("@channel", 7, part)
    assert server.requests[0].parameters == {
        "chat_id": "@channel",
        "message_thread_id": 7,
        "text": "Deploy?",
        "entities": [
            {"type": "bold", "offset": 0, "length": 6},
            {"type": "pre", "offset": 0, "length": 1, "language": "python"},
        ],
        "reply_parameters": {"message_id": 17, "allow_sending_without_reply": False},
        "disable_notification": True,
        "protect_content": True,
        "reply_markup": {
            "inline_keyboard": [
                [
                    {"text": "Yes", "callback_data": "y" * 32, "style": "success"},
                    {"text": "Why", "url": "https://e.org"},
                ],
                [{"text": "No", "callback_data": "n" * 32, "style": "danger"}],
            ]
        },
    }


async def test_a_group_that_became_a_supergroup_is_told_with_its_new_id(client_at: ClientAt) -> None:
    moved = refusal(
        400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-1009
    )
    async with serve(moved) as server:
        client = await client_at(server.url)
        with pytest.raises(Migrated) as sent:
            await client.send(-9, None, HELLO)
        with pytest.raises(Migrated) as edited:
            await client.edit(-9, 4, HELLO)
    assert (sent.value.chat, edited.value.chat) == (-1009, -1009)


async def test_an_edit_without_a_keyboard_leaves_it_out_so_that_the_buttons_go(client_at: ClientAt) -> None:
    async with serve(done()) as server:
        client = await client_at(server.url)
        await client.edit(815, 4, Part(FormattedText("over"), reply_to=3))
        await client.edit(815, 4, Part(FormattedText("on"), keyboard=((Button("x", data="d"),),)))
    over, on = (request.parameters for request in server.requests)
    assert server.requests[0].path.endswith("/editMessageText")
    assert over == {
        "chat_id": 815,
        "message_id": 4,
        "text": "over",
        "link_preview_options": {"is_disabled": True},
    }
    assert on["reply_markup"] == {"inline_keyboard": [[{"text": "x", "callback_data": "d"}]]}


async def test_an_edit_that_changes_nothing_is_success(client_at: ClientAt) -> None:
    words = "Bad Request: message is not modified: specified new message content and reply markup are ..."
    async with serve(refusal(400, words)) as server:
        await (await client_at(server.url)).edit(815, 4, HELLO)
    assert len(server.requests) == 1


async def test_an_edit_of_a_message_that_is_gone_is_rejected(client_at: ClientAt) -> None:
    async with serve(refusal(400, "Bad Request: message to edit not found")) as server:
        with pytest.raises(Rejected, match="send a new one"):
            await (await client_at(server.url)).edit(815, 4, HELLO)


async def test_a_deletion_of_a_message_that_is_gone_is_success(client_at: ClientAt) -> None:
    async with serve(YES, refusal(400, "Bad Request: message to delete not found")) as server:
        client = await client_at(server.url)
        await client.delete(815, 4)
        await client.delete(815, 4)
    assert server.requests[0].path.endswith("/deleteMessage")
    assert server.requests[0].parameters == {"chat_id": 815, "message_id": 4}


async def test_a_deletion_that_telegram_does_not_allow_is_rejected(client_at: ClientAt) -> None:
    async with serve(refusal(400, "Bad Request: message can't be deleted for everyone")) as server:
        with pytest.raises(Rejected, match="48 hours"):
            await (await client_at(server.url)).delete(815, 4)


async def test_buttons_are_taken_away_and_the_text_stays(client_at: ClientAt) -> None:
    async with serve(YES) as server:
        await (await client_at(server.url)).strip(-100, 4)
    [request] = server.requests
    assert request.path.endswith("/editMessageReplyMarkup")
    assert request.parameters == {"chat_id": -100, "message_id": 4}


@pytest.mark.parametrize(
    "words", ["message is not modified: specified …", "message to edit not found", "message can't be edited"]
)
async def test_buttons_that_are_gone_or_too_old_are_as_good_as_taken_away(
    client_at: ClientAt, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(refusal(400, f"Bad Request: {words}")) as server:
        await (await client_at(server.url)).strip(815, 4)
    assert len(server.requests) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_buttons_that_may_not_be_taken_away_are_told(client_at: ClientAt) -> None:
    async with serve(refusal(403, "Forbidden: bot was kicked from the group chat")) as server:
        with pytest.raises(Rejected, match="no member"):
            await (await client_at(server.url)).strip(815, 4)


async def test_a_secret_in_telegram_s_words_is_told_to_nobody(
    client_at: ClientAt, caplog: pytest.LogCaptureFixture
) -> None:
    token = "123456:canary-Token_0123456789"
    words = f"Bad Request: /bot{token}/sendMessage: chat not found"
    async with serve(refusal(400, words)) as server:
        client = await client_at(server.url, token=token)
        for call in (client.send(815, None, HELLO), client.webhook_delete()):
            with pytest.raises(Rejected) as caught:
                await call
            said = (caught.value.failure.description, str(caught.value.__cause__), caplog.text)
            assert said[0] == "Bad Request: /bot(hidden)/sendMessage: chat not found"
            assert "canary" not in "".join(map(str, said))


async def test_a_secret_in_the_webhook_s_last_error_is_told_to_nobody(client_at: ClientAt) -> None:
    token = "123456:canary-Token_0123456789"
    info = {
        "url": "",
        "has_custom_certificate": False,
        "pending_update_count": 0,
        "last_error_date": 1_764_000_000,
        "last_error_message": f"Wrong response from /hook/{token}",
    }
    async with serve(answer(200, {"ok": True, "result": info})) as server:
        state = await (await client_at(server.url, token=token)).webhook_info()
    assert state.last_error == "Wrong response from /hook/(hidden)"


async def test_an_acknowledgement_says_its_text_as_a_toast_or_a_popup(client_at: ClientAt) -> None:
    async with serve(YES) as server:
        client = await client_at(server.url)
        await client.acknowledge("77", "Thank you.", popup=False)
        await client.acknowledge("78", "Not yours.", popup=True)
        await client.acknowledge("79", "", popup=False)
    assert [request.parameters for request in server.requests] == [
        {"callback_query_id": "77", "text": "Thank you."},
        {"callback_query_id": "78", "text": "Not yours.", "show_alert": True},
        {"callback_query_id": "79"},
    ]


async def test_an_acknowledgement_that_comes_too_late_is_success(client_at: ClientAt) -> None:
    words = "Bad Request: query is too old and response timeout expired or query ID is invalid"
    async with serve(refusal(400, words)) as server:
        await (await client_at(server.url)).acknowledge("77", "Thank you.", popup=False)
    assert len(server.requests) == 1


async def test_the_username_is_learned_in_the_background_however_long_it_takes(client_at: ClientAt) -> None:
    me = {"id": 1, "is_bot": True, "first_name": "Gate", "username": "gate_bot"}
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    troubles = [refusal(502, "Bad Gateway")] * 7
    late = refusal(429, "Too Many Requests: retry after 90", retry_after=90)
    nonsense = answer(200, {"ok": True, "result": {"id": 1}})
    async with serve(*troubles, late, nonsense, answer(200, {"ok": True, "result": me})) as server:
        client = await client_at(server.url)
        assert client.username is None
        assert await client.identify(sleep=note) == "gate_bot"
        assert client.username == "gate_bot"
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 90, 60]


async def test_it_is_told_once_that_telegram_answers_again(
    client_at: ClientAt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    refused = refusal(400, "Bad Request: message text is empty")
    async with serve(done(), *[refusal(502, "Bad Gateway")] * 2, refused, done()) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
        for _ in range(2):
            with pytest.raises(DeliveryUnknown):
                await client.send(815, None, HELLO)
        assert "telegram_back" not in [vars(record).get("action") for record in caplog.records]
        with pytest.raises(Rejected):
            await client.send(815, None, HELLO)
        await client.send(815, None, HELLO)
    (back,) = [record for record in caplog.records if vars(record).get("action") == "telegram_back"]
    assert back.levelname == "INFO"
    assert back.getMessage().startswith("Telegram answers again, after ")
    assert vars(back)["seconds"] >= 0


async def test_the_operator_s_calls_go_through_python_telegram_bot_on_the_same_transport(
    client_at: ClientAt, self_signed: Path
) -> None:
    now = int(time.time())
    told = {"url": "https://x/y", "has_custom_certificate": True, "pending_update_count": 2}
    error = {"last_error_date": now, "last_error_message": "Connection refused"}
    async with serve(done(), YES, YES, YES, answer(200, {"ok": True, "result": {**told, **error}})) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
        await client.webhook_set("https://x/y", Secret("s"), self_signed)
        await client.set_commands({"start": "What this bot does"})
        await client.webhook_delete()
        state = await client.webhook_info()
        assert server.connections == 1
    names = [request.path.rpartition("/")[2] for request in server.requests]
    assert names == ["sendMessage", "setWebhook", "setMyCommands", "deleteWebhook", "getWebhookInfo"]
    assert b"-----BEGIN CERTIFICATE-----" in server.requests[1].body
    assert b"drop_pending_updates" not in server.requests[1].body + server.requests[3].body
    assert server.requests[2].parameters == {
        "commands": [{"command": "start", "description": "What this bot does"}]
    }
    assert (state.url, state.pending, state.last_error) == ("https://x/y", 2, "Connection refused")
    at = datetime.fromtimestamp(now, UTC)
    assert state.error_age(at + timedelta(seconds=60)) == 60
    assert state.is_failing(at + timedelta(seconds=60))
    assert not state.is_failing(at + timedelta(hours=1))


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (refusal(429, "Too Many Requests: retry after 1", retry_after=1), NotDelivered),
        (refusal(401, "Unauthorized"), Rejected),
        (refusal(502, "Bad Gateway"), DeliveryUnknown),
        (answer(200, {"ok": True, "result": {"nothing": "useful"}}), DeliveryUnknown),
        (answer(200, b"nonsense"), DeliveryUnknown),
    ],
    ids=["429", "401", "502", "nothing useful", "nonsense"],
)
async def test_the_operator_s_calls_end_in_the_same_classes(
    client_at: ClientAt, behaviour: Behaviour, expected: type[Exception]
) -> None:
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with pytest.raises(expected):
            await client.webhook_info()


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("Forbidden: user is deactivated", "deactivated"),
        ("Forbidden: bot was kicked from the supergroup chat", "Add it to the chat again"),
        ("Forbidden: bot is not a member of the channel chat", "Add it to the chat again"),
        ("Forbidden: bot can't send messages to bots", "Check the chat's id"),
        ("Forbidden: something new", "must press Start first"),
    ],
)
async def test_a_recipient_who_cannot_be_reached_is_told_with_what_to_do(
    client_at: ClientAt, words: str, advice: str
) -> None:
    async with serve(refusal(403, words)) as server:
        client = await client_at(server.url)
        with pytest.raises(Rejected, match=advice) as caught:
            await client.send(815, None, HELLO)
    assert caught.value.failure.code == "recipient_unreachable"


async def test_the_sandbox_shows_what_was_sent_and_takes_the_buttons_away(client_at: ClientAt) -> None:
    async with Sandbox.start() as sandbox:
        client = await client_at(sandbox.api_url, token=sandbox.token)
        ada = sandbox.person(815)
        (body,) = TelegramFormatter().format("**Deploy** 😀 [build](https://e.org/1)?", Format.MARKDOWN)
        keyboard = ((Button("Deploy", data="x" * 32, style=Style.SUCCESS), Button("No", data="y" * 32)),)
        message_id = await client.send(815, None, Part(body, keyboard=keyboard))
        shown = await sandbox.next_message(ada)
        assert (shown.id, shown.text) == (message_id, "Deploy 😀 build?")
        assert [(entity.type, entity.offset, entity.length) for entity in shown.entities] == [
            ("bold", 0, 6),
            ("text_link", 10, 5),
        ]
        assert [button.text for button in shown.buttons] == ["Deploy", "No"]
        await client.edit(815, message_id, Part(FormattedText("Done.")))
        await client.edit(815, message_id, Part(FormattedText("Done.")))
        assert (shown.text, list(shown.buttons)) == ("Done.", [])
        await client.delete(815, message_id)
        await client.delete(815, message_id)
        await client.acknowledge("123", "Too late.", popup=True)


async def test_the_sandbox_s_people_who_cannot_be_reached_are_told_apart_from_other_refusals(
    client_at: ClientAt,
) -> None:
    async with Sandbox.start() as sandbox:
        client = await client_at(sandbox.api_url, token=sandbox.token)
        codes = []
        for chat, topic in ((666, None), (1337, None), (12345678, None), (-1001234567890, 999)):
            with pytest.raises(Rejected) as caught:
                await client.send(chat, topic, HELLO)
            codes.append(caught.value.failure.code)
    assert codes == ["recipient_unreachable"] * 3 + ["telegram_rejected"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("too_many_requests", NotDelivered),
        ("error", DeliveryUnknown),
        ("reset", DeliveryUnknown),
        ("hang", DeliveryUnknown),
        ("drip", DeliveryUnknown),
        ("nonsense", DeliveryUnknown),
        ("huge", DeliveryUnknown),
    ],
)
async def test_each_fault_of_the_sandbox_has_its_class(
    client_at: ClientAt, kind: str, expected: type[Exception]
) -> None:
    async with Sandbox.start() as sandbox:
        client = await client_at(sandbox.api_url, 1.0, sandbox.token)
        sandbox.fault(kind)
        with pytest.raises(expected):
            await client.send(815, None, HELLO)
        assert await client.send(815, None, HELLO) > 0
