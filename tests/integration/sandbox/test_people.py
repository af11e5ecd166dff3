"""What scripted people do, and what the bot hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import telegram

from infra.sandbox import ChangeKind, Sandbox
from infra.sandbox.world import Change

if TYPE_CHECKING:
    from tests.integration.sandbox.conftest import Caller, Receiver

TOKEN = "123456:TEST-token"
OPS = -1001234567890
ADA, GRACE, LINUS, MALLORY = 815, 4711, 1337, 666


def yes_or_no() -> dict[str, Any]:
    row = [{"text": "Yes, deploy", "callback_data": "y"}, {"text": "No", "callback_data": "n"}]
    return {"inline_keyboard": [row, [{"text": "Docs", "url": "https://example.com/"}]]}


async def test_a_label_may_be_shortened_but_must_be_clear(sandbox: Sandbox, call: Caller) -> None:
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    message, ada = await sandbox.next_message(ADA), sandbox.person(ADA)
    assert (await ada.taps(message, "deploy")).data == "y"
    with pytest.raises(
        LookupError, match=r"0 buttons 'Maybe'; its buttons are \['Yes, deploy', 'No', 'Docs'\]"
    ):
        await ada.taps(message, "Maybe")
    with pytest.raises(LookupError, match="sends nothing"):
        await ada.taps(message, "Docs")


async def test_a_forged_press_carries_any_data(sandbox: Sandbox, call: Caller, hooked: Receiver) -> None:
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    stranger = sandbox.stranger()
    await stranger.forges(await sandbox.next_message(ADA), "forged")
    query = (await hooked.next())["callback_query"]
    assert (query["data"], query["from"]["id"]) == ("forged", stranger.id)


async def test_whoever_lets_people_act_knows_which_update_tells_of_it(
    sandbox: Sandbox, call: Caller, hooked: Receiver
) -> None:
    ada = sandbox.person(ADA)
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    press = await ada.taps(await sandbox.next_message(ADA), "No")
    said = await ada.says(None, "Hello")
    told = {update["update_id"]: update for update in [await hooked.next(), await hooked.next()]}
    assert press.update in told
    assert said.update in told
    assert told[press.update]["callback_query"]["id"] == press.id
    assert told[said.update]["message"]["text"] == "Hello"
    unheard = await ada.says(sandbox.chat(OPS), "not for the bot")
    assert unheard.update is None


async def test_a_press_on_a_deleted_message_shows_an_inaccessible_one(
    sandbox: Sandbox, call: Caller, hooked: Receiver, bot: telegram.Bot
) -> None:
    sent = await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    message = await sandbox.next_message(ADA)
    await call.result("deleteMessage", chat_id=ADA, message_id=sent["message_id"])
    await sandbox.person(ADA).taps(message, "No")
    shown = (await hooked.next())["callback_query"]["message"]
    assert shown == {"message_id": sent["message_id"], "chat": sent["chat"], "date": 0}
    assert isinstance(telegram.MaybeInaccessibleMessage.de_json(shown, bot), telegram.InaccessibleMessage)


async def test_start_opens_the_chat_and_carries_the_payload(
    sandbox: Sandbox, call: Caller, hooked: Receiver
) -> None:
    await sandbox.person(LINUS).starts("invite-42")
    message = (await hooked.next())["message"]
    assert (message["text"], message["chat"]["id"]) == ("/start invite-42", LINUS)
    assert message["entities"] == [{"offset": 0, "length": 6, "type": "bot_command"}]
    assert "username" not in message["from"]
    await call.result("sendMessage", chat_id=LINUS, text="Welcome.")


async def test_blocking_and_unblocking_is_told_and_counts(
    sandbox: Sandbox, call: Caller, hooked: Receiver, bot: telegram.Bot
) -> None:
    ada = sandbox.person(ADA)
    await ada.blocks()
    update = telegram.Update.de_json(await hooked.next(), bot)
    assert update.my_chat_member is not None
    statuses = update.my_chat_member.old_chat_member.status, update.my_chat_member.new_chat_member.status
    assert statuses == ("member", "kicked")
    assert (await call("sendMessage", chat_id=ADA, text="x"))["status"] == 403
    with pytest.raises(ValueError, match="unblock"):
        await ada.says(None, "hi")
    await ada.unblocks()
    await ada.unblocks()
    assert (await hooked.next())["my_chat_member"]["new_chat_member"]["status"] == "member"
    await call.result("sendMessage", chat_id=ADA, text="x")


async def test_start_unblocks(sandbox: Sandbox, call: Caller) -> None:
    await sandbox.person(MALLORY).starts()
    await call.result("sendMessage", chat_id=MALLORY, text="x")


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("good morning", False),
        ("/deploy", True),
        ("/deploy@telegate_sandbox_bot now", True),
        ("/deploy@Telegate_Sandbox_Bot", True),
        ("/deploy@other_bot", False),
        ("see /deploy", False),
    ],
)
async def test_privacy_mode_keeps_ordinary_talk_from_the_bot(
    sandbox: Sandbox, hooked: Receiver, text: str, heard: bool
) -> None:
    ada = sandbox.person(ADA)
    await ada.says(OPS, text)
    await ada.says(OPS, "/last")
    expected = [text, "/last"] if heard else ["/last"]
    assert [(await hooked.next())["message"]["text"] for _ in expected] == expected


async def test_replies_to_the_bot_are_heard_and_so_is_everything_without_privacy_or_as_administrator(
    sandbox: Sandbox, call: Caller, hooked: Receiver
) -> None:
    await call.result("sendMessage", chat_id=OPS, text="Why?", message_thread_id=7)
    asked, ada = await sandbox.next_message(OPS), sandbox.person(ADA)
    said = await ada.says(OPS, "because", reply_to=asked)
    heard = (await hooked.next())["message"]
    assert heard["reply_to_message"]["text"] == "Why?"
    assert (heard["message_thread_id"], said.topic) == (7, 7)
    sandbox.world.privacy_mode = False
    await ada.says(OPS, "talk")
    assert (await hooked.next())["message"]["text"] == "talk"
    sandbox.world.privacy_mode = True
    sandbox.chat(OPS).set_bot_status("administrator")
    await ada.says(OPS, "more talk")
    texts = [update.get("message", {}).get("text") for update in [await hooked.next(), await hooked.next()]]
    assert "more talk" in texts


async def test_a_bot_that_left_hears_nothing(sandbox: Sandbox, hooked: Receiver) -> None:
    sandbox.chat(OPS).set_bot_status("left")
    assert "my_chat_member" in await hooked.next()
    await sandbox.person(ADA).says(OPS, "/deploy")
    await sandbox.wait_for(lambda: sandbox.updates.pending == 0)
    assert hooked.posts.empty()


async def test_edits_are_told(sandbox: Sandbox, hooked: Receiver) -> None:
    ada = sandbox.person(ADA)
    message = await ada.says(None, "1.41")
    await hooked.next()
    await ada.edits(message, "1.42")
    edited = (await hooked.next())["edited_message"]
    assert (edited["text"], edited["message_id"]) == ("1.42", message.id)
    with pytest.raises(ValueError, match="is not Grace Hopper's"):
        await sandbox.person(GRACE).edits(message, "1.43")


async def test_files_places_and_forwarded_messages_arrive_as_such(
    sandbox: Sandbox, hooked: Receiver, bot: telegram.Bot
) -> None:
    ada = sandbox.person(ADA)
    await ada.sends_file(None, "log.txt", b"x", content_type="text/plain")
    await ada.sends_location(None, 51.5, -0.12)
    await ada.says(None, "look", forwarded_from=sandbox.person(GRACE))
    updates = [telegram.Update.de_json(await hooked.next(), bot) for _ in range(3)]
    document, place, forwarded = (update.message for update in updates)
    assert document is not None
    assert document.document is not None
    assert (document.document.file_name, document.document.mime_type) == ("log.txt", "text/plain")
    assert place is not None
    assert place.location is not None
    assert (place.location.latitude, place.location.longitude) == (51.5, -0.12)
    assert forwarded is not None
    assert isinstance(forwarded.forward_origin, telegram.MessageOriginUser)
    assert forwarded.forward_origin.sender_user.id == GRACE


async def test_an_upgrade_is_told_in_both_chats(sandbox: Sandbox, hooked: Receiver) -> None:
    group = sandbox.add_group(-42, "Night shift", [sandbox.person(ADA)], kind="group")
    supergroup = group.upgrade()
    told = {}
    for update in (await hooked.next(), await hooked.next()):
        told[update["message"]["chat"]["id"]] = update["message"]
    assert told[-42]["migrate_to_chat_id"] == supergroup.id
    assert told[supergroup.id]["migrate_from_chat_id"] == -42
    with pytest.raises(ValueError, match="not a group that can be upgraded"):
        group.upgrade()


async def test_nobody_writes_where_he_is_not(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="is not in chat"):
        await sandbox.person(LINUS).says(OPS, "hi")
    with pytest.raises(ValueError, match="no chat 5"):
        await sandbox.person(ADA).says(5, "hi")
    with pytest.raises(ValueError, match="no topic 8"):
        await sandbox.person(ADA).says(OPS, "hi", topic=8)
    with pytest.raises(ValueError, match="needs a text"):
        await sandbox.person(ADA).says(sandbox.chat(ADA), "  ")


async def test_a_script_presses_the_button_of_every_question(
    sandbox: Sandbox, call: Caller, hooked: Receiver
) -> None:
    script = sandbox.script(sandbox.person(ADA), answer="No", times=2)
    for _ in range(3):
        await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    await call.result("sendMessage", chat_id=GRACE, text="Deploy?", reply_markup=yes_or_no())
    data = [(await hooked.next())["callback_query"]["data"] for _ in range(2)]
    assert data == ["n", "n"]
    assert len(script.answered) == 2
    await sandbox.wait_for(lambda: sandbox.updates.pending == 0)
    assert hooked.posts.empty()


async def test_a_script_replies_when_a_reply_is_asked_for(
    sandbox: Sandbox, call: Caller, hooked: Receiver
) -> None:
    script = sandbox.script(sandbox.person(ADA), answer="1.42", delay=0.001)
    await call.result("sendMessage", chat_id=ADA, text="no question")
    asked = await call.result("sendMessage", chat_id=ADA, text="Version?", reply_markup={"force_reply": True})
    reply = (await hooked.next())["message"]
    assert (reply["text"], reply["reply_to_message"]["message_id"]) == ("1.42", asked["message_id"])
    script.lift()
    script.lift()
    await call.result("sendMessage", chat_id=ADA, text="Version?", reply_markup={"force_reply": True})
    assert len(script.answered) == 1


async def test_a_script_does_not_answer_a_question_that_has_vanished(sandbox: Sandbox, call: Caller) -> None:
    def vanish(change: Change) -> None:
        if change.kind is ChangeKind.SENT and change.message is not None and change.message.chat.id == ADA:
            sandbox.world.delete_message(change.message)

    script = sandbox.script(sandbox.person(ADA), answer="No")
    sandbox.world.watchers.append(vanish)
    await call.result("sendMessage", chat_id=ADA, text="Deploy?", reply_markup=yes_or_no())
    assert len(script.answered) == 1
    sandbox.script(sandbox.person(GRACE), answer="No")
    await call.result("sendMessage", chat_id=GRACE, text="Deploy?", reply_markup=yes_or_no())
    await sandbox.wait_for(lambda: sandbox.world.presses)
    assert [press.person.id for press in sandbox.world.presses.values()] == [GRACE]


async def test_each_message_is_handed_out_once_and_in_order(sandbox: Sandbox, call: Caller) -> None:
    for text in ("one", "two"):
        await call.result("sendMessage", chat_id=ADA, text=text)
    ada = sandbox.person(ADA)
    assert [(await sandbox.next_message(ada)).text for _ in range(2)] == ["one", "two"]
    with pytest.raises(TimeoutError, match="a message in chat 815 in vain; the last calls were"):
        await sandbox.next_message(sandbox.chat(ADA), within=0.01)


async def test_what_is_not_there_is_said_at_once(sandbox: Sandbox) -> None:
    with pytest.raises(LookupError, match="no person 5"):
        sandbox.person(5)
    with pytest.raises(LookupError, match="no chat 5"):
        sandbox.chat(5)


async def test_a_sandbox_that_was_never_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = Sandbox(token=TOKEN).api_url


async def test_a_port_that_is_taken_is_an_error(sandbox: Sandbox) -> None:
    taken = int(sandbox.api_url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        async with Sandbox.start(token=TOKEN, port=taken):
            pass


async def test_the_oldest_files_are_forgotten(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.sandbox.world.KEPT_BYTES", 5)
    for name in ("one", "two", "three"):
        await sandbox.person(ADA).sends_file(None, name, name.encode())
    assert [stored.name for stored in sandbox.world.files.values()] == ["three"]


async def test_a_chat_forgets_its_oldest_messages(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.sandbox.world.SEEN_MESSAGES", 2)
    for text in ("one", "two", "three"):
        message = await sandbox.person(ADA).says(None, text)
        await sandbox.person(ADA).forges(message, text)
    assert [message.text for message in sandbox.chat(ADA).messages] == ["two", "three"]
    assert [press.data for press in sandbox.world.presses.values()] == ["two", "three"]
