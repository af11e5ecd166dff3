"""Refusals, word for word as Telegram writes them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import telegram

from infra.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller

TOKEN = "123456:TEST-token"
OPS = -1001234567890
ADA = 815
CAN_NOT = "Bad Request: can't parse inline keyboard button: "


def keyboard(**button: Any) -> dict[str, Any]:
    return {"inline_keyboard": [[{"text": "a"} | button]]}


async def test_a_wrong_token_is_unauthorized(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    for path in ("bot1:wrong/getMe", "file/bot1:wrong/documents/file_0.txt"):
        async with http.get(f"{sandbox.api_url}/{path}") as response:
            assert response.status == 401
            assert await response.json() == {"ok": False, "error_code": 401, "description": "Unauthorized"}


async def test_an_unknown_method_is_not_found(call: Caller) -> None:
    assert await call.refusal("getGameHighScores") == (404, "Not Found: method not found")


async def test_a_file_that_is_not_there_is_not_found(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{sandbox.api_url}/file/bot{TOKEN}/documents/none") as response:
        assert response.status == 404


async def test_a_body_that_is_not_json_is_refused(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    for body in (b"{", b"[]"):
        url, headers = f"{sandbox.api_url}/bot{TOKEN}/getMe", {"Content-Type": "application/json"}
        async with http.post(url, data=body, headers=headers) as response:
            assert response.status == 400


async def test_a_multipart_body_that_is_broken_is_refused(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    url, headers = f"{sandbox.api_url}/bot{TOKEN}/getMe", {"Content-Type": "multipart/form-data; boundary=x"}
    async with http.post(url, data=b"no boundary at all", headers=headers) as response:
        assert await response.json() == {
            "ok": False,
            "error_code": 400,
            "description": "Bad Request: can't parse multipart body",
        }


async def test_a_body_that_is_too_large_is_refused(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.sandbox.server.LARGEST_BODY", 1000)
    async with Sandbox.start(token=TOKEN) as sandbox:
        url = f"{sandbox.api_url}/bot{TOKEN}/sendMessage"
        async with http.post(url, json={"chat_id": ADA, "text": "x" * 2000}) as response:
            answer = await response.json()
    assert answer == {"ok": False, "error_code": 413, "description": "Request Entity Too Large"}


@pytest.mark.parametrize(
    ("chat", "status", "words"),
    [
        (99, 400, "Bad Request: chat not found"),
        ("@nobody", 400, "Bad Request: chat not found"),
        ("", 400, "Bad Request: chat_id is empty"),
        (666, 403, "Forbidden: bot was blocked by the user"),
        (1337, 403, "Forbidden: bot can't initiate conversation with a user"),
    ],
)
async def test_who_cannot_be_reached_is_said(call: Caller, chat: object, status: int, words: str) -> None:
    assert await call.refusal("sendMessage", chat_id=chat, text="hi") == (status, words)


async def test_a_deactivated_person_cannot_be_reached(call: Caller, sandbox: Sandbox) -> None:
    sandbox.world.persons[ADA].deactivated = True
    refused = await call.refusal("sendMessage", chat_id=ADA, text="hi")
    assert refused == (403, "Forbidden: user is deactivated")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("kicked", "Forbidden: bot was kicked from the supergroup chat"),
        ("left", "Forbidden: bot is not a member of the supergroup chat"),
    ],
)
async def test_a_group_without_the_bot_cannot_be_reached(
    call: Caller, sandbox: Sandbox, status: str, words: str
) -> None:
    sandbox.chat(OPS).set_bot_status(status)
    assert await call.refusal("sendMessage", chat_id=OPS, text="hi") == (403, words)


async def test_an_upgraded_group_tells_its_new_id(call: Caller, sandbox: Sandbox) -> None:
    group = sandbox.add_group(-4242, "Night shift", [sandbox.person(ADA)], kind="group")
    supergroup = group.upgrade()
    answer = await call("sendMessage", chat_id=-4242, text="hi")
    assert answer["description"] == "Bad Request: group chat was upgraded to a supergroup chat"
    assert answer["parameters"] == {"migrate_to_chat_id": supergroup.id}
    assert (await call.result("sendMessage", chat_id=supergroup.id, text="hi"))["chat"][
        "type"
    ] == "supergroup"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Bad Request: message text is empty"),
        (" \n ", "Bad Request: text must be non-empty"),
        ("x" * 4097, "Bad Request: message is too long"),
        ("x" * 40_000, "Bad Request: text is too long"),
    ],
)
async def test_a_text_has_to_have_the_right_length(call: Caller, text: str, words: str) -> None:
    assert await call.refusal("sendMessage", chat_id=ADA, text=text) == (400, words)


async def test_4096_code_points_are_not_too_long_whatever_they_take_in_utf_16(call: Caller) -> None:
    assert len((await call.result("sendMessage", chat_id=ADA, text="😀" * 4096))["text"]) == 4096


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        (keyboard(callback_data="x" * 65), "Bad Request: BUTTON_DATA_INVALID"),
        (keyboard(callback_data="ä" * 33), "Bad Request: BUTTON_DATA_INVALID"),
        (keyboard(callback_data=""), CAN_NOT + "Text buttons are unallowed in the inline keyboard"),
        (keyboard(), CAN_NOT + "Text buttons are unallowed in the inline keyboard"),
        (keyboard(callback_data=1), CAN_NOT + 'Field "callback_data" must be of type String'),
        (keyboard(callback_data="x", style="pink"), CAN_NOT + "invalid button style specified"),
        (
            keyboard(url="http://localhost/x"),
            "Bad Request: inline keyboard button URL 'http://localhost/x' is invalid: Wrong HTTP URL",
        ),
        (keyboard(text="\u2060", callback_data="x"), "Bad Request: BUTTON_TEXT_INVALID"),
        ({"inline_keyboard": [["a"]]}, CAN_NOT + "InlineKeyboardButton must be an Object"),
        ({"inline_keyboard": [[{"callback_data": "x"}]]}, CAN_NOT + 'Can\'t find field "text"'),
        (keyboard(text=1, callback_data="x"), CAN_NOT + 'Field "text" must be of type String'),
        (
            {"inline_keyboard": [{}]},
            'Bad Request: field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays',
        ),
        ({"keyboard": ["a"]}, 'Bad Request: field "keyboard" must be an Array of Arrays'),
        (
            {"keyboard": [[1]]},
            "Bad Request: can't parse keyboard button: KeyboardButton must be a String or an Object",
        ),
        ([], "Bad Request: object expected as reply markup"),
        ("{", "Bad Request: can't parse reply keyboard markup JSON object"),
        (
            {"inline_keyboard": [[{"text": "a", "callback_data": "x"}]] * 101},
            "Bad Request: reply markup is too long",
        ),
        (
            {"inline_keyboard": [[{"text": "a" * 200, "callback_data": "x"}]] * 60},
            "Bad Request: reply markup is too long",
        ),
    ],
)
async def test_buttons_have_to_be_right(call: Caller, markup: object, words: str) -> None:
    assert await call.refusal("sendMessage", chat_id=ADA, text="hi", reply_markup=markup) == (400, words)


async def test_64_bytes_of_button_data_and_every_kind_of_button_pass(call: Caller) -> None:
    row = [
        {"text": "a", "callback_data": "ä" * 32},
        {"text": "b", "url": "https://example.com"},
        {"text": "c", "copy_text": {"text": "x"}},
        {"text": "", "callback_data": "left out"},
    ]
    sent = await call.result("sendMessage", chat_id=ADA, text="hi", reply_markup={"inline_keyboard": [row]})
    shown = sent["reply_markup"]["inline_keyboard"][0]
    assert [button["text"] for button in shown] == ["a", "b", "c"]
    assert shown[1]["url"] == "https://example.com/"
    for markup in ({"keyboard": [["Yes", {"text": "No"}]]}, {"remove_keyboard": True}, {}):
        assert "reply_markup" not in await call.result(
            "sendMessage", chat_id=ADA, text="x", reply_markup=markup
        )


@pytest.mark.parametrize("method", ["editMessageText", "editMessageReplyMarkup"])
async def test_an_edit_of_what_is_not_there_is_refused(call: Caller, method: str) -> None:
    refused = await call.refusal(method, chat_id=ADA, message_id=4242, text="x")
    assert refused == (400, "Bad Request: message to edit not found")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "Bad Request: message identifier is not specified"),
        ({"chat_id": ADA}, "Bad Request: message identifier is not specified"),
        ({"message_id": 1}, "Bad Request: chat_id is empty"),
    ],
)
async def test_an_edit_has_to_name_its_message(call: Caller, values: dict[str, Any], words: str) -> None:
    assert await call.refusal("editMessageText", text="x", **values) == (400, words)


async def test_an_edit_that_changes_nothing_is_refused(call: Caller) -> None:
    sent = await call.result(
        "sendMessage", chat_id=ADA, text="same", reply_markup=keyboard(callback_data="x")
    )
    same = {"chat_id": ADA, "message_id": sent["message_id"], "reply_markup": sent["reply_markup"]}
    words = (
        "Bad Request: message is not modified: specified new message content and reply markup are exactly "
        "the same as a current content and reply markup of the message"
    )
    expected = (400, words)
    assert await call.refusal("editMessageText", text="same", **same) == expected
    assert await call.refusal("editMessageReplyMarkup", **same) == expected


async def test_only_the_bot_s_own_messages_without_forced_reply_can_be_edited(
    call: Caller, sandbox: Sandbox
) -> None:
    said = await sandbox.person(ADA).says(None, "mine")
    asked = await call.result("sendMessage", chat_id=ADA, text="?", reply_markup={"force_reply": True})
    for message_id in (said.id, asked["message_id"]):
        refused = await call.refusal("editMessageText", chat_id=ADA, message_id=message_id, text="x")
        assert refused == (400, "Bad Request: message can't be edited")


async def test_an_edit_must_not_become_too_long_nor_force_a_reply(call: Caller) -> None:
    sent = await call.result("sendMessage", chat_id=ADA, text="short")
    name = {"chat_id": ADA, "message_id": sent["message_id"]}
    refused = await call.refusal("editMessageText", text="x" * 4097, **name)
    assert refused == (400, "Bad Request: MESSAGE_TOO_LONG")
    refused = await call.refusal("editMessageText", text="x", reply_markup={"force_reply": True}, **name)
    assert refused == (400, "Bad Request: inline keyboard expected")


async def test_a_document_has_no_text_to_edit(bot: telegram.Bot, call: Caller) -> None:
    sent = await bot.send_document(ADA, b"x")
    refused = await call.refusal("editMessageText", chat_id=ADA, message_id=sent.message_id, text="x")
    assert refused == (400, "Bad Request: there is no text in the message to edit")


async def test_replies_and_topics_have_to_exist(call: Caller) -> None:
    missing = {"reply_parameters": {"message_id": 4242}}
    assert await call.refusal("sendMessage", chat_id=ADA, text="x", **missing) == (
        400,
        "Bad Request: message to be replied not found",
    )
    for chat, topic in ((OPS, 8), (OPS, 1), (ADA, 7)):
        refused = await call.refusal("sendMessage", chat_id=chat, text="x", message_thread_id=topic)
        assert refused == (400, "Bad Request: message thread not found")
    for wrong in ([1], {"message_id": "x"}, "{"):
        assert (await call.refusal("sendMessage", chat_id=ADA, text="x", reply_parameters=wrong))[0] == 400


async def test_a_message_can_be_deleted_for_two_days_and_others_only_where_the_bot_may(
    call: Caller, sandbox: Sandbox
) -> None:
    refused = await call.refusal("deleteMessage", chat_id=ADA, message_id=4242)
    assert refused == (400, "Bad Request: message to delete not found")
    old = await call.result("sendMessage", chat_id=ADA, text="old")
    sandbox.chat(ADA).last.date = int(time.time()) - 49 * 3600
    refused = await call.refusal("deleteMessage", chat_id=ADA, message_id=old["message_id"])
    assert refused == (400, "Bad Request: message can't be deleted")
    said = await sandbox.person(ADA).says(OPS, "mine")
    refused = await call.refusal("deleteMessage", chat_id=OPS, message_id=said.id)
    assert refused == (400, "Bad Request: message can't be deleted")
    sandbox.chat(OPS).set_bot_status("administrator")
    assert await call.result("deleteMessage", chat_id=OPS, message_id=said.id) is True


async def test_a_press_that_is_unknown_or_too_old_cannot_be_answered(call: Caller, sandbox: Sandbox) -> None:
    await call.result("sendMessage", chat_id=ADA, text="?", reply_markup=keyboard(callback_data="x"))
    late = await sandbox.person(ADA).late(sandbox.chat(ADA).last, "a")
    expected = (
        400,
        "Bad Request: query is too old and response timeout expired or query ID is invalid",
    )
    for query in (late.id, "4242", ""):
        assert await call.refusal("answerCallbackQuery", callback_query_id=query) == expected
    with pytest.raises(TimeoutError, match="Nobody answered the press of 'x'"):
        await late.answered(within=0.01)


async def test_a_toast_has_at_most_200_characters(call: Caller, sandbox: Sandbox) -> None:
    await call.result("sendMessage", chat_id=ADA, text="?", reply_markup=keyboard(callback_data="x"))
    press = await sandbox.person(ADA).taps(sandbox.chat(ADA).last, "a")
    refused = await call.refusal("answerCallbackQuery", callback_query_id=press.id, text="x" * 201)
    assert refused == (400, "Bad Request: MESSAGE_TOO_LONG")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"commands": [{"command": "A", "description": "x"}]}, "BOT_COMMAND_INVALID"),
        ({"commands": [{"command": "", "description": "x"}]}, "command must be non-empty"),
        ({"commands": [{"command": "a" * 33, "description": "x"}]}, "command length must not exceed 32"),
        ({"commands": [{"command": "a", "description": ""}]}, "command description must be non-empty"),
        (
            {"commands": [{"command": "a", "description": "x" * 257}]},
            "command description length must not exceed 256",
        ),
        ({"commands": [{"command": "a"}]}, "can't parse BotCommand: Can't find field \"description\""),
        ({"commands": ["a"]}, "can't parse BotCommand: expected an Object"),
        ({"commands": {}}, "expected an Array of BotCommand"),
        ({"commands": "["}, "can't parse commands JSON object"),
        ({"commands": [{"command": "a", "description": "x"}] * 101}, "BOT_COMMANDS_TOO_MUCH"),
        ({"scope": {"type": "moon"}}, "can't parse BotCommandScope: Unsupported type specified"),
        ({"scope": []}, "can't parse BotCommandScope: BotCommandScope must be an Object"),
        ({"scope": {"type": "chat"}}, "can't parse BotCommandScope: Can't find field \"chat_id\""),
        ({"scope": {"type": "chat", "chat_id": 99}}, "chat not found"),
    ],
)
async def test_commands_have_to_be_right(call: Caller, values: dict[str, Any], words: str) -> None:
    assert await call.refusal("setMyCommands", **values) == (400, f"Bad Request: {words}")


async def test_files_have_to_be_there(call: Caller, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    refused = await call.refusal("sendDocument", chat_id=ADA)
    assert refused == (400, "Bad Request: there is no document in the request")
    refused = await call.refusal("sendPhoto", chat_id=ADA, photo="unknown")
    assert refused == (400, "Bad Request: wrong file identifier/HTTP URL specified")
    assert await call.refusal("getFile", file_id="unknown") == (400, "Bad Request: invalid file_id")
    assert await call.refusal("getFile") == (400, "Bad Request: file_id not specified")
    form = aiohttp.FormData({"chat_id": str(ADA)})
    form.add_field("document", b"", filename="empty.txt")
    async with http.post(f"{sandbox.api_url}/bot{TOKEN}/sendDocument", data=form) as response:
        assert (await response.json())["description"] == "Bad Request: file must be non-empty"


async def test_a_caption_has_at_most_1024_characters(bot: telegram.Bot) -> None:
    with pytest.raises(telegram.error.BadRequest, match="caption is too long"):
        await bot.send_document(ADA, b"x", caption="x" * 1025)


async def test_what_is_over_20_megabytes_cannot_be_downloaded(call: Caller, sandbox: Sandbox) -> None:
    message = await sandbox.person(ADA).sends_file(None, "big.bin", bytes((20 << 20) + 1))
    assert message.file is not None
    assert await call.refusal("getFile", file_id=message.file.id) == (400, "Bad Request: file is too big")


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        ("sendChatAction", {"chat_id": ADA, "action": "dance"}, "wrong parameter action in request"),
        ("getChat", {"chat_id": 99}, "chat not found"),
        ("getChatMember", {"chat_id": OPS, "user_id": 99}, "PARTICIPANT_ID_INVALID"),
        ("getChatMember", {"chat_id": OPS}, "invalid user_id specified"),
        ("sendMessage", {"chat_id": ADA, "text": "x", "link_preview_options": []}, None),
        (
            "sendMessage",
            {"chat_id": ADA, "text": "x", "link_preview_options": [1]},
            "object expected as link preview options",
        ),
    ],
)
async def test_other_parameters_have_to_be_right(
    call: Caller, method: str, values: dict[str, Any], words: str | None
) -> None:
    expected = (400, f"Bad Request: {words or 'object expected as link preview options'}")
    assert await call.refusal(method, **values) == expected
