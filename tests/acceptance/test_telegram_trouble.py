"""Telegram is down, slow, broken or overloaded: what was done, what was not, and what nobody knows."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.contract import Json, Response
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNCLEAR: list[tuple[str, Json]] = [
    ("error", {"status": 500}),
    ("error", {"status": 502}),
    ("error", {"status": 504}),
    ("error", {"status": 500, "effect": True}),
    ("reset", {}),
    ("reset", {"effect": True}),
    ("nonsense", {}),
    ("huge", {}),
]


# Not reached


async def test_a_message_waits_for_a_telegram_that_is_down_and_is_sent_when_it_is_back(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()

    async def look() -> tuple[Response, Response]:
        again = await service.send(message(ada), prefer="respond-async", key="k")
        return again, await service.get("/v1/tasks?state=queued")

    async with gate.sandbox.down():
        held = (await service.send(message(ada), prefer="wait=1", key="k")).task(202)
        task, (response, listed) = await service.between_tries(held["id"], look)
        assert response.task(202) == task
        assert (task["state"], task["message_ids"]) == ("queued", [])
        assert task["error"]["code"] == "telegram_unavailable"
        assert task["error"]["telegram"] is None
        assert int(response.headers["Retry-After"]) >= 1
        assert listed.document["items"] == [task]
    sent = await service.until(task["id"], "sent")
    assert sent["error"] is None
    assert (await service.send(message(ada), key="k")).task(200) == sent
    assert [each.text for each in gate.sandbox.chat(ada.id).messages] == ["All is well."]


async def test_a_request_holds_over_an_outage(gate: Gate, service: Service) -> None:
    ada = gate.person()
    async with gate.sandbox.down():
        sending = service.sending(message(ada))
        asking = service.asking(question(ada))
        await gate.until_waiting(2)
    assert (await sending).task(200)["state"] == "sent"
    asked = await gate.sandbox.wait_for(
        lambda: next((each for each in gate.sandbox.chat(ada.id).messages if each.buttons), None)
    )
    await ada.taps(asked, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_a_queued_question_can_be_cancelled_and_is_then_never_asked(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    async with gate.sandbox.down():
        task = (await service.ask(question(ada), prefer="respond-async")).task(202)
        await service.until(task["id"], "queued")
        kept = (await service.send(message(ada), prefer="respond-async")).task(202)
        await service.until(kept["id"], "queued")
        cancelled = (await service.call("DELETE", f"/v1/tasks/{task['id']}")).task(200)
        assert cancelled["state"] == "cancelled"
    # What was queued later is tried again later: by then the question would stand there.
    await service.until(kept["id"], "sent")
    assert [each.text for each in gate.sandbox.chat(ada.id).messages] == ["All is well."]


async def test_what_is_not_sent_before_it_expires_has_failed(gate: Gate, service: Service) -> None:
    ada = gate.person()
    async with gate.sandbox.down():
        sending = service.sending(message(ada, expires_in=5))
        asking = service.asking(question(ada, expires_in=5))
        for response in (await sending, await asking):
            task = response.problem("telegram_unavailable")["task"]
            assert (task["state"], task["error"]["code"]) == ("failed", "telegram_unavailable")
            assert int(response.headers["Retry-After"]) > 0
    (await service.send(message(ada, "Later"))).task(200)
    assert [each.text for each in gate.sandbox.chat(ada.id).messages] == ["Later"]


async def test_an_edit_waits_for_telegram_too(gate: Gate, service: Service) -> None:
    ada = gate.person()
    sent = (await service.send(message(ada))).task(200)
    path = f"/v1/messages/{sent['id']}"
    async with gate.sandbox.down():
        edit = (await service.call("PATCH", path, {"text": "Edited"}, prefer="respond-async")).task(202)
        waiting = await service.until(edit["id"], "queued")
        assert waiting["error"]["code"] == "telegram_unavailable"
    await service.until(edit["id"], "sent")
    assert (await gate.next_message(ada)).text == "Edited"


# Nobody knows


@pytest.mark.parametrize(("kind", "details"), UNCLEAR)
async def test_a_message_whose_outcome_is_unclear_is_unknown_and_never_sent_twice(
    gate: Gate, service: Service, kind: str, details: Json
) -> None:
    ada = gate.person()
    gate.sandbox.fault(kind, method="sendMessage", chat=ada.id, **details)
    first = (await service.send(message(ada), key="k")).problem("outcome_unknown")
    task = first["task"]
    assert (task["state"], task["error"]["code"]) == ("unknown", "outcome_unknown")
    assert (await service.send(message(ada), key="k")).problem("outcome_unknown")["task"] == task
    assert await service.task(task["id"]) == task
    assert gate.sends(ada) == 1
    assert (await service.send(message(ada, "Next"))).task(200)["state"] == "sent"


async def test_a_message_that_may_arrive_twice_is_sent_again(gate: Gate, service: Service) -> None:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True)
    task = (await service.send(message(ada, on_unknown="resend"))).task(200)
    assert task["state"] == "sent"
    assert [each.text for each in gate.sandbox.chat(ada.id).messages] == ["All is well."] * 2


async def test_a_question_whose_outcome_is_unclear_is_asked_again_and_answered_once(
    gate: Gate, service: Service
) -> None:
    async def ask(kind: str, details: Json) -> None:
        ada = gate.person()
        gate.sandbox.fault(kind, method="sendMessage", chat=ada.id, **details)
        asking = service.asking(question(ada), key=str(ada.id))
        await gate.sandbox.wait_for(lambda: gate.sends(ada) == 2, what="the second send")
        again = await service.ask(question(ada), key=str(ada.id), prefer="respond-async")
        await service.until(again.task(202)["id"], "asked")
        copies = gate.sandbox.chat(ada.id).messages
        await ada.taps(copies[-1], "Yes")
        task = (await asking).task(200)
        assert (task["answer"]["choice"], len(task["answers"])) == ("yes", 1), (kind, details)
        await gate.until_edited(copies[-1])
        assert copies[-1].buttons == []

    await asyncio.gather(*(ask(kind, details) for kind, details in UNCLEAR))


async def test_a_press_on_a_copy_that_nobody_knew_to_be_delivered_counts(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True)
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    press = await (await ada.taps(asked, "Yes")).answered()
    assert press.alert is None
    task = (await asking).task(200)
    assert (task["state"], task["answer"]["choice"]) == ("answered", "yes")
    assert asked.id in task["message_ids"]
    await gate.until_edited(asked)
    assert asked.buttons == []


async def test_a_press_on_the_first_copy_counts_and_closes_every_copy(gate: Gate, service: Service) -> None:
    ada = gate.person()
    gate.sandbox.fault("reset", method="sendMessage", chat=ada.id, effect=True)
    asking = service.asking(question(ada))
    first, second = await gate.next_message(ada), await gate.next_message(ada)
    await ada.taps(first, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    for copy in (first, second):
        await gate.until_edited(copy)
        assert copy.buttons == []


async def test_a_press_that_overtakes_the_answer_of_the_send_counts(gate: Gate, service: Service) -> None:
    ada = gate.person()
    with gate.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=0.5):
        asking = service.asking(question(ada))
        asked = await gate.next_message(ada)
        press = await (await ada.taps(asked, "No")).answered()
        assert press.alert is None
        task = (await asking).task(200)
    assert (task["state"], task["answer"]["choice"]) == ("answered", "no")
    await gate.until_edited(asked)
    assert asked.buttons == []
    assert (await service.task(task["id"]))["state"] == "answered"


async def test_edits_and_deletions_are_tried_again(gate: Gate, service: Service) -> None:
    async def correct(kind: str, details: Json) -> None:
        ada = gate.person()
        path = f"/v1/messages/{(await service.send(message(ada))).task(200)['id']}"
        gate.sandbox.fault(kind, method="editMessageText", chat=ada.id, **details)
        edit = (await service.call("PATCH", path, {"text": "Edited"})).task(200)
        assert edit["state"] == "sent", (kind, details)
        assert gate.sandbox.chat(ada.id).last.text == "Edited"
        if not details.get("effect") and kind not in {"nonsense", "huge"}:
            gate.sandbox.fault(kind, method="deleteMessage", chat=ada.id, **details)
        assert (await service.call("DELETE", path)).task(200)["state"] == "sent", (kind, details)
        assert gate.sandbox.chat(ada.id).messages == []

    await asyncio.gather(*(correct(kind, details) for kind, details in UNCLEAR))


async def test_a_deletion_that_was_done_although_nobody_said_so_is_success(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    sent = (await service.send(message(ada))).task(200)
    gate.sandbox.fault("reset", method="deleteMessage", chat=ada.id, effect=True)
    deletion = (await service.call("DELETE", f"/v1/messages/{sent['id']}")).task(200)
    assert deletion["state"] == "sent"
    assert gate.sandbox.chat(ada.id).messages == []


async def test_the_outcome_is_shown_even_when_telegram_fails_at_that_moment(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    gate.sandbox.fault("error", method="editMessageText", chat=ada.id, status=500)
    await ada.taps(asked, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    await gate.sandbox.wait_for(lambda: not asked.buttons, within=30)


async def test_an_acknowledgement_that_fails_does_not_cost_the_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    fault = gate.sandbox.fault("error", method="answerCallbackQuery", status=500, times=1)
    asking = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"
    await gate.sandbox.wait_for(lambda: fault.hits, what="the acknowledgement")


async def test_an_acknowledgement_whose_outcome_is_unclear_is_tried_again(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    fault = gate.sandbox.fault("error", method="answerCallbackQuery", status=500, times=1)
    await service.asked(question(ada))
    press = await ada.taps(await gate.next_message(ada), "Yes")
    await press.answered()
    assert fault.hits == 1


@pytest.mark.slow
async def test_a_telegram_that_hangs_is_given_twenty_seconds_and_other_chats_none(
    gate: Gate, service: Service
) -> None:
    ada, grace, alan = gate.person(), gate.person(), gate.person()
    gate.sandbox.fault("hang", method="sendMessage", chat=ada.id)
    gate.sandbox.fault("drip", method="sendMessage", chat=grace.id, seconds=1)
    hanging, dripping = service.sending(message(ada)), service.sending(message(grace))
    await gate.sandbox.wait_for(lambda: gate.sends(ada) and gate.sends(grace))
    # Only now: requests that are made at the same time may arrive in any order.
    behind = service.sending(message(ada, "Behind it"))
    assert (await service.send(message(alan))).task(200)["state"] == "sent"
    assert not hanging.done()
    for response in (await hanging, await dripping):
        assert response.problem("outcome_unknown")["task"]["state"] == "unknown"
    assert (await behind).task(200)["state"] == "sent"
    assert [gate.sends(each) for each in (ada, grace, alan)] == [2, 1, 1]


# Telegram says no


async def test_other_refusals_are_told_in_telegram_s_words(gate: Gate, service: Service) -> None:
    ada = gate.person()
    gate.sandbox.fault("error", method="sendMessage", chat=ada.id, status=400, description="CHAT_RESTRICTED")
    problem = (await service.send(message(ada))).problem("telegram_rejected")
    assert problem["task"]["error"]["telegram"] == {
        "error_code": 400,
        "description": "Bad Request: CHAT_RESTRICTED",
    }
    assert gate.sends(ada) == 1


async def test_a_part_that_is_refused_fails_the_message_and_tells_what_arrived(
    gate: Gate, service: Service
) -> None:
    grace = gate.person()
    # The answer to the first part comes when the fault is lifted; until then the second is not sent.
    with gate.sandbox.fault("drip", method="sendMessage", chat=grace.id, seconds=60):
        sending = service.sending(message(grace, "word " * 2000))
        arrived = await gate.next_message(grace)
        await grace.blocks()
    task = (await sending).problem("recipient_unreachable")["task"]
    assert (task["state"], task["message_ids"]) == ("failed", [arrived.id])
    assert [each.id for each in gate.sandbox.chat(grace.id).messages] == [arrived.id]
    assert gate.sends(grace) == 2
