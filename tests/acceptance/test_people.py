"""What people can type, and what they are told; authority is the numeric id and nothing else."""

from __future__ import annotations

import pytest

from tests.acceptance.gateway import Gate
from tests.acceptance.updates import GROUP_ANONYMOUS_BOT, group_chat, text_update

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOT = "telegate_sandbox_bot"
OPS = -1001234567890


async def test_start_welcomes_by_name(gate: Gate) -> None:
    linus = gate.person(started=False)
    await linus.starts()
    welcome = await gate.next_message(linus)
    assert linus.person.first_name in welcome.text
    assert "/help" in welcome.text


async def test_start_with_a_deep_link_welcomes_too(gate: Gate) -> None:
    linus = gate.person(started=False)
    await linus.starts("abc_DEF-123")
    assert linus.person.first_name in (await gate.next_message(linus)).text


async def test_whoami_tells_the_id_for_the_operator(gate: Gate) -> None:
    ada = gate.person()
    said = await ada.says(None, "/whoami")
    told = await gate.next_message(ada)
    assert str(ada.id) in told.text
    assert told.reply_to in {said, None}


async def test_help_shows_each_person_only_what_he_may_run_here(gate: Gate) -> None:
    stranger, ada = gate.person(), gate.sandbox.person(815)
    await stranger.says(None, "/help")
    told = (await gate.next_message(stranger)).text
    assert "/whoami" in told
    assert "/status" not in told
    assert "/deploy" not in told
    await ada.says(None, "/help")
    private = (await gate.next_message(ada)).text
    assert "/status" in private
    assert "What is running" in private
    assert "/deploy" not in private
    await ada.says(OPS, "/help")
    in_ops = (await gate.next_message(OPS)).text
    assert "/deploy" in in_ops
    assert "<environment>" in in_ops


async def test_an_unknown_command_is_told_to_be_unknown(gate: Gate) -> None:
    ada = gate.person()
    await ada.says(None, "/make_coffee now")
    assert "/help" in (await gate.next_message(ada)).text


@pytest.mark.parametrize("text", ["/status", "/deploy prod", "/status@telegate_sandbox_bot"])
async def test_a_command_that_is_not_allowed_gets_a_polite_no_and_is_logged(gate: Gate, text: str) -> None:
    stranger = gate.person()
    await stranger.says(None, text)
    told = (await gate.next_message(stranger)).text
    assert "sorry" in told.lower()
    refusals = [line for line in gate.server.log.splitlines() if "command_refused" in line]
    assert any(str(stranger.id) in line for line in refusals)


async def test_a_role_without_the_command_is_refused_and_a_wrong_chat_too(gate: Gate) -> None:
    grace, ada = gate.sandbox.person(4711), gate.sandbox.person(815)
    await grace.says(OPS, "/deploy prod")
    refused = (await gate.next_message(OPS)).text
    await ada.says(None, "/deploy prod")
    elsewhere = (await gate.next_message(ada)).text
    assert "sorry" in refused.lower()
    assert refused == elsewhere


async def test_a_command_that_is_allowed_is_not_passed_on_yet_and_says_so(gate: Gate) -> None:
    ada = gate.sandbox.person(815)
    await ada.says(OPS, "/deploy prod")
    allowed = (await gate.next_message(OPS)).text
    grace = gate.sandbox.person(4711)
    await grace.says(OPS, "/deploy prod")
    refused = (await gate.next_message(OPS)).text
    assert allowed != refused
    assert "deploy" in allowed


async def test_a_command_for_another_bot_is_none_of_ours(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    update = text_update(
        {"id": ada.id, "is_bot": False, "first_name": "A"}, group_chat(group), "/whoami@another_bot"
    )
    assert (await gate.webhook(update)).status == 200
    await ada.says(group, f"/whoami@{BOT}")
    assert str(ada.id) in (await gate.next_message(group)).text
    assert gate.sends(group) == 1


async def test_our_own_name_may_be_written_in_any_case(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    await ada.says(group, f"/whoami@{BOT.upper()}")
    assert str(ada.id) in (await gate.next_message(group)).text


async def test_a_homoglyph_is_another_command(gate: Gate) -> None:
    ada = gate.sandbox.person(815)
    await ada.says(None, "/st\u0430tus")
    told = (await gate.next_message(ada)).text
    await ada.says(None, "/status")
    assert told != (await gate.next_message(ada)).text


async def test_an_edited_command_does_not_run(gate: Gate) -> None:
    ada = gate.person()
    said = await ada.says(None, "/whoami")
    assert str(ada.id) in (await gate.next_message(ada)).text
    await ada.edits(said, "/help")
    await ada.says(None, "/start")
    assert ada.person.first_name in (await gate.next_message(ada)).text
    assert gate.sends(ada) == 2


async def test_a_forwarded_command_does_not_run(gate: Gate) -> None:
    ada, mallory = gate.person(), gate.person()
    await ada.says(None, "/whoami", forwarded_from=mallory)
    await ada.says(None, "/start")
    first = (await gate.next_message(ada)).text
    assert str(ada.id) not in first


async def test_an_anonymous_admin_runs_nothing(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    anonymous = {"id": GROUP_ANONYMOUS_BOT, "is_bot": True, "first_name": "Group"}
    chat = group_chat(group)
    assert (await gate.webhook(text_update(anonymous, chat, "/whoami", sender_chat=chat))).status == 200
    await ada.says(group, f"/whoami@{BOT}")
    assert str(ada.id) in (await gate.next_message(group)).text
    assert gate.sends(group) == 1


async def test_a_command_that_was_deleted_meanwhile_is_answered_all_the_same(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada)
    # The update names a message that does not stand in the chat any more.
    update = text_update({"id": ada.id, "is_bot": False, "first_name": "A"}, group_chat(group), "/whoami")
    assert (await gate.webhook(update)).status == 200
    assert str(ada.id) in (await gate.next_message(group)).text


async def test_replies_of_the_gateway_are_no_task_of_any_service(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    await ada.says(None, "/whoami")
    await gate.next_message(ada)
    assert (await service.get("/v1/tasks")).document == {"items": [], "next": None}


async def test_a_reply_stays_in_its_topic(gate: Gate) -> None:
    ada = gate.person()
    group = gate.group(ada, topics={7: "Deploys"})
    await ada.says(group, f"/whoami@{BOT}", topic=7)
    assert (await gate.next_message(group)).topic == 7
