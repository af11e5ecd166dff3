"""Every method of the Bot API that the sandbox knows, read by python-telegram-bot and without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
import telegram
from telegram import BotCommand, ForceReply, InlineKeyboardButton, InlineKeyboardMarkup
from telegram.constants import ChatAction, ParseMode

from infra.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller

TOKEN = "123456:TEST-token"
OPS = -1001234567890
ADA = 815


async def test_get_me_tells_who_the_bot_is_and_that_privacy_mode_is_on(bot: telegram.Bot) -> None:
    me = await bot.get_me()
    assert (me.id, me.is_bot, me.username) == (123456, True, "telegate_sandbox_bot")
    assert me.can_read_all_group_messages is False


async def test_a_message_comes_back_as_telegram_gives_it(bot: telegram.Bot, sandbox: Sandbox) -> None:
    keyboard = InlineKeyboardMarkup(
        [[InlineKeyboardButton("Yes", callback_data="y", api_kwargs={"style": "success"})]]
    )
    sent = await bot.send_message(ADA, "<b>Deploy</b> now?", ParseMode.HTML, reply_markup=keyboard)
    assert (sent.text, sent.chat.id, sent.chat.type) == ("Deploy now?", ADA, "private")
    assert sent.from_user is not None
    assert sent.from_user.is_bot
    assert [(each.type, each.offset, each.length) for each in sent.entities] == [("bold", 0, 6)]
    assert sent.reply_markup is not None
    assert sent.reply_markup.to_dict() == {
        "inline_keyboard": [[{"text": "Yes", "callback_data": "y", "style": "success"}]]
    }
    seen = await sandbox.next_message(ADA)
    assert (seen.id, seen.text, seen.labels) == (sent.message_id, "Deploy now?", ["Yes"])


async def test_a_reply_quotes_the_message_it_answers(bot: telegram.Bot, sandbox: Sandbox) -> None:
    said = await sandbox.person(ADA).says(None, "status?")
    sent = await bot.send_message(ADA, "fine", reply_to_message_id=said.id)
    assert sent.reply_to_message is not None
    assert sent.reply_to_message.text == "status?"


async def test_the_older_way_to_reply_works_too(call: Caller, sandbox: Sandbox) -> None:
    said = await sandbox.person(ADA).says(None, "status?")
    sent = await call.result("sendMessage", chat_id=ADA, text="fine", reply_to_message_id=said.id)
    assert sent["reply_to_message"]["message_id"] == said.id


async def test_a_missing_message_may_be_replied_to_when_that_is_allowed(bot: telegram.Bot) -> None:
    reply = telegram.ReplyParameters(4242, allow_sending_without_reply=True)
    sent = await bot.send_message(ADA, "anyway", reply_parameters=reply)
    assert sent.reply_to_message is None


async def test_a_message_goes_into_its_topic(bot: telegram.Bot, sandbox: Sandbox) -> None:
    sent = await bot.send_message(OPS, "deployed", message_thread_id=7)
    assert (sent.message_thread_id, sent.is_topic_message, sent.chat.is_forum) == (7, True, True)
    assert (await sandbox.next_message(OPS)).topic == 7


async def test_protection_silence_and_link_preview_are_kept(bot: telegram.Bot, sandbox: Sandbox) -> None:
    sent = await bot.send_message(
        ADA,
        "https://example.com",
        disable_notification=True,
        protect_content=True,
        link_preview_options=telegram.LinkPreviewOptions(is_disabled=True),
    )
    assert sent.has_protected_content
    assert sent.link_preview_options is not None
    assert sent.link_preview_options.is_disabled
    seen = await sandbox.next_message(ADA)
    assert (seen.silent, seen.protected) == (True, True)


async def test_a_forced_reply_carries_its_placeholder(bot: telegram.Bot, sandbox: Sandbox) -> None:
    await bot.send_message(ADA, "Which version?", reply_markup=ForceReply(input_field_placeholder="1.42"))
    asked = (await sandbox.next_message(ADA)).force_reply
    assert asked is not None
    assert asked.placeholder == "1.42"


async def test_an_inline_keyboard_may_force_a_reply_as_well(call: Caller, sandbox: Sandbox) -> None:
    markup = {"inline_keyboard": [[{"text": "Skip", "callback_data": "s"}]], "force_reply": True}
    sent = await call.result("sendMessage", chat_id=ADA, text="Why?", reply_markup=markup)
    assert sent["reply_markup"]["force_reply"] is True
    seen = await sandbox.next_message(ADA)
    assert seen.force_reply is not None
    assert seen.labels == ["Skip"]


async def test_an_edit_changes_the_text_and_without_markup_removes_the_buttons(
    bot: telegram.Bot, sandbox: Sandbox
) -> None:
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y")]])
    sent = await bot.send_message(ADA, "Deploy?", reply_markup=keyboard)
    message = await sandbox.next_message(ADA)
    edited = await bot.edit_message_text("Deployed.", ADA, sent.message_id)
    assert isinstance(edited, telegram.Message)
    assert edited.edit_date is not None
    assert edited.reply_markup is None
    assert (message.text, message.buttons) == ("Deployed.", [])
    assert [(old.text, old.markup is not None) for old in message.history] == [("Deploy?", True)]


async def test_the_buttons_alone_can_be_changed(bot: telegram.Bot, sandbox: Sandbox) -> None:
    sent = await bot.send_message(ADA, "Deploy?")
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Go", callback_data="g")]])
    await bot.edit_message_reply_markup(ADA, sent.message_id, reply_markup=keyboard)
    message = sandbox.chat(ADA).last
    assert (message.text, message.labels) == ("Deploy?", ["Go"])
    await bot.edit_message_reply_markup(ADA, sent.message_id)
    assert message.buttons == []


async def test_a_deleted_message_is_gone(bot: telegram.Bot, sandbox: Sandbox) -> None:
    sent = await bot.send_message(ADA, "oops")
    message = sandbox.chat(ADA).last
    assert await bot.delete_message(ADA, sent.message_id)
    assert message.deleted
    assert sandbox.chat(ADA).messages == []


async def test_the_answer_to_a_press_is_a_toast_or_an_alert(bot: telegram.Bot, sandbox: Sandbox) -> None:
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y")]])
    await bot.send_message(ADA, "Deploy?", reply_markup=keyboard)
    message = await sandbox.next_message(ADA)
    first, second = await sandbox.person(ADA).double_taps(message, "Yes")
    await bot.answer_callback_query(first.id, "Thank you.")
    await bot.answer_callback_query(second.id, "You have answered already.", show_alert=True)
    assert (await first.answered()).toast == "Thank you."
    assert (await second.answered()).alert == "You have answered already."
    assert (first.alert, second.toast) == (None, "")


async def test_commands_are_kept_by_scope_and_language(bot: telegram.Bot, sandbox: Sandbox) -> None:
    deploy = BotCommand("deploy", "Deploy a version")
    status = BotCommand("status", "What runs where")
    await bot.set_my_commands([deploy])
    await bot.set_my_commands([status], scope=telegram.BotCommandScopeChat(ADA))
    assert await bot.get_my_commands() == (deploy,)
    assert await bot.get_my_commands(scope=telegram.BotCommandScopeChat(ADA)) == (status,)
    assert await bot.get_my_commands(language_code="de") == ()
    await bot.delete_my_commands(scope=telegram.BotCommandScopeChat(ADA))
    assert await bot.get_my_commands(scope=telegram.BotCommandScopeChat(ADA)) == ()
    member = telegram.BotCommandScopeChatMember(OPS, ADA)
    await bot.set_my_commands([status], scope=member)
    assert await bot.get_my_commands(scope=member) == (status,)


async def test_a_chat_action_is_seen(bot: telegram.Bot, sandbox: Sandbox) -> None:
    assert await bot.send_chat_action(ADA, ChatAction.TYPING)
    assert sandbox.truth[-1].text == "typing"


async def test_get_chat_knows_persons_and_groups(bot: telegram.Bot) -> None:
    ada, ops = await bot.get_chat(ADA), await bot.get_chat(OPS)
    assert (ada.first_name, ada.username, ada.type) == ("Ada", "ada", "private")
    assert (ops.title, ops.type, ops.is_forum) == ("Ops", "supergroup", True)


async def test_get_chat_member_tells_members_from_others(bot: telegram.Bot, sandbox: Sandbox) -> None:
    assert (await bot.get_chat_member(OPS, ADA)).status == "member"
    assert (await bot.get_chat_member(OPS, 1337)).status == "left"
    sandbox.chat(OPS).set_bot_status("administrator")
    itself = await bot.get_chat_member(OPS, 123456)
    assert isinstance(itself, telegram.ChatMemberAdministrator)
    sandbox.chat(OPS).set_bot_status("kicked")
    assert (await bot.get_chat_member(OPS, 123456)).status == "kicked"


async def test_a_document_is_uploaded_and_downloaded_again(bot: telegram.Bot) -> None:
    sent = await bot.send_document(
        ADA, b"%PDF-1.7", caption="<i>the report</i>", parse_mode="HTML", filename="r.pdf"
    )
    assert sent.document is not None
    assert (sent.document.file_name, sent.document.file_size, sent.caption) == ("r.pdf", 8, "the report")
    assert [each.type for each in sent.caption_entities] == ["italic"]
    stored = await bot.get_file(sent.document.file_id)
    assert bytes(await stored.download_as_bytearray()) == b"%PDF-1.7"
    again = await bot.send_document(ADA, sent.document.file_id)
    assert again.document == sent.document


async def test_a_photo_is_uploaded(bot: telegram.Bot, sandbox: Sandbox) -> None:
    sent = await bot.send_photo(ADA, b"\xff\xd8\xff\xe0", filename="disk.jpg")
    assert sent.photo[0].file_size == 4
    assert sandbox.chat(ADA).last.file is not None


async def test_what_a_person_sends_can_be_fetched(bot: telegram.Bot, sandbox: Sandbox) -> None:
    message = await sandbox.person(ADA).sends_file(None, "log.txt", b"all is well", caption="here")
    assert message.file is not None
    stored = await bot.get_file(message.file.id)
    assert bytes(await stored.download_as_bytearray()) == b"all is well"


@pytest.mark.parametrize("method", ["sendmessage", "SENDMESSAGE", "sendMessage"])
async def test_the_case_of_a_method_does_not_matter(call: Caller, method: str) -> None:
    assert (await call.result(method, chat_id=ADA, text="hi"))["text"] == "hi"


async def test_a_call_may_be_a_get_a_form_or_a_multipart_body(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    url = f"{sandbox.api_url}/bot{TOKEN}/sendMessage"
    values = {
        "chat_id": str(ADA),
        "text": "hi",
        "protect_content": "true",
        "reply_markup": json.dumps({"inline_keyboard": [[{"text": "a", "callback_data": "b"}]]}),
    }
    multipart = aiohttp.FormData(values, default_to_multipart=True)
    for answer in (http.get(url, params=values), http.post(url, data=values), http.post(url, data=multipart)):
        async with answer as response:
            result = (await response.json())["result"]
            assert result["reply_markup"]["inline_keyboard"][0][0]["callback_data"] == "b"
            assert result["has_protected_content"] is True


async def test_a_field_of_a_multipart_body_may_have_a_type_of_its_own(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\nContent-Type: application/x-own\r\n\r\n{}\r\n'
    body = part.format("chat_id", ADA) + part.format("text", "typed") + "--x--\r\n"
    url, headers = (
        f"{sandbox.api_url}/bot{TOKEN}/sendMessage",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    async with http.post(url, data=body.encode(), headers=headers) as response:
        assert (await response.json())["result"]["text"] == "typed"


async def test_a_body_of_an_unknown_type_counts_for_nothing(
    sandbox: Sandbox, http: aiohttp.ClientSession
) -> None:
    url = f"{sandbox.api_url}/bot{TOKEN}/sendMessage?chat_id={ADA}&text=hi"
    async with http.post(url, data=b"<xml/>", headers={"Content-Type": "text/xml"}) as response:
        assert (await response.json())["result"]["text"] == "hi"


async def test_every_call_is_in_the_log_with_its_outcome(call: Caller, sandbox: Sandbox) -> None:
    await call("sendMessage", chat_id=ADA, text="one")
    await call("sendMessage", chat_id=1, text="two")
    await call("noSuchThing")
    log = [(entry.method, entry.chat, entry.status, entry.outcome) for entry in sandbox.calls]
    assert log == [
        ("sendMessage", ADA, 200, "ok"),
        ("sendMessage", 1, 400, "Bad Request: chat not found"),
        ("noSuchThing", None, 404, "Not Found: method not found"),
    ]
    assert sandbox.calls[0].text("text") == "one"
    assert [entry.number for entry in sandbox.calls.of("sendMessage", chat=ADA)] == [1]
    sandbox.calls.clear()
    assert (len(sandbox.calls), sandbox.calls.total) == (0, 3)


async def test_the_log_of_calls_is_bounded(http: aiohttp.ClientSession) -> None:
    async with Sandbox.start(token=TOKEN, kept=2) as sandbox:
        for _ in range(3):
            async with http.get(f"{sandbox.api_url}/bot{TOKEN}/getMe") as response:
                assert response.status == 200
        assert [entry.number for entry in sandbox.calls] == [2, 3]
        assert len(sandbox.truth) == 2
