"""The same key is the same task: never asked twice, never sent twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_fifty_parallel_posts_with_one_key_are_one_question_and_fifty_equal_answers(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    posts = [service.asking(question(ada), key="deploy-1234") for _ in range(50)]
    asked = await gate.next_message(ada)
    await gate.until_waiting(50)
    await ada.taps(asked, "Yes")
    answers = [(await post).task(200) for post in posts]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["answer"]["choice"] == "yes"
    assert gate.sends(ada) == 1
    assert [task["id"] for task in (await service.get("/v1/tasks")).document["items"]] == [answers[0]["id"]]


async def test_fifty_parallel_messages_with_one_key_are_one_message(gate: Gate, service: Service) -> None:
    ada = gate.person()
    posts = await asyncio.gather(*(service.send(message(ada), key="hello") for _ in range(50)))
    tasks = [post.task(200) for post in posts]
    assert all(task == tasks[0] for task in tasks)
    assert gate.sends(ada) == 1


async def test_the_same_key_with_another_body_is_refused_and_the_original_stays(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    asking = service.asking(question(ada), key="k")
    asked = await gate.next_message(ada)
    others: list[Json] = [{"text": "Deploy another build?"}, {"silent": False}, {"metadata": {}}]
    for other in others:
        (await service.ask(question(ada, **other), key="k")).problem("idempotency_mismatch")
    assert gate.sends(ada) == 1
    assert asked.text == "Deploy build 1234?"
    await ada.taps(asked, "Yes")
    assert (await asking).task(200)["answer"]["choice"] == "yes"


async def test_order_of_keys_and_white_space_do_not_make_another_body(gate: Gate, service: Service) -> None:
    ada = gate.person()
    body = question(ada, metadata={"a": "1", "b": "é"})
    turned = dict(reversed(body.items())) | {"metadata": {"b": "é", "a": "1"}}
    first = (await service.ask(body, key="k", prefer="respond-async")).task(202)
    for raw in (
        json.dumps(turned, indent=4).encode(),
        json.dumps(turned, ensure_ascii=False).encode(),
        json.dumps(body, separators=(",", ":")).encode() + b"\r\n\t ",
    ):
        again = await service.call("POST", "/v1/questions", raw=raw, key="k", prefer="respond-async")
        assert again.task(202)["id"] == first["id"]
    await gate.next_message(ada)
    assert gate.sends(ada) == 1


async def test_prefer_and_the_token_do_not_count(gate: Gate, service: Service) -> None:
    ada = gate.person()
    first = (await service.ask(question(ada), key="k", prefer="respond-async")).task(202)
    other_token = service.with_roles("everything", "reader")
    again = (await other_token.ask(question(ada), key="k", prefer="wait=1")).task(202)
    assert again["id"] == first["id"]


async def test_a_key_belongs_to_one_service_and_one_route(gate: Gate, service: Service) -> None:
    ada, other = gate.person(), gate.service()
    asked = (await service.ask(question(ada), key="k", prefer="respond-async")).task(202)
    others = (await other.ask(question(ada), key="k", prefer="respond-async")).task(202)
    sent = (await service.send(message(ada), key="k")).task(200)
    assert len({asked["id"], others["id"], sent["id"]}) == 3


async def test_a_final_task_is_returned_again_to_the_same_key(gate: Gate, service: Service) -> None:
    ada = gate.person()
    sent = (await service.send(message(ada), key="k")).task(200)
    assert (await service.send(message(ada), key="k")).task(200) == sent
    assert gate.sends(ada) == 1


async def test_a_failed_task_answers_the_same_key_with_the_same_problem(gate: Gate, service: Service) -> None:
    linus = 1337
    first = (await service.send(message(linus), key="k")).problem("recipient_unreachable")
    calls = gate.sends(linus)
    again = (await service.send(message(linus), key="k")).problem("recipient_unreachable")
    assert again["task"] == first["task"]
    assert gate.sends(linus) == calls


REFUSED: list[tuple[str, Json]] = [
    ("invalid", {"chat": 815}),
    ("invalid", {"chat": "nowhere", "text": "Hello"}),
]


@pytest.mark.parametrize(("code", "body"), REFUSED)
async def test_a_refused_request_does_not_use_up_its_key(
    gate: Gate, service: Service, code: str, body: Json
) -> None:
    ada = gate.person()
    (await service.send(body, key="k")).problem(code)
    assert (await service.send(message(ada), key="k")).task(200)["state"] == "sent"


async def test_a_request_to_a_forbidden_chat_does_not_use_up_its_key(gate: Gate, service: Service) -> None:
    ada = gate.person()
    (await service.with_roles("approver").send(message(ada), key="k")).problem("chat_forbidden")
    assert (await service.send(message(ada, "Another"), key="k")).task(200)["state"] == "sent"


async def test_enqueue_command_shares_the_keys_of_the_endpoint_that_it_names(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    body = question(ada)
    first = (await service.ask(body, key="k", prefer="respond-async")).task(202)
    enqueued = {"command": "question", "arguments": body}
    again = await service.call("POST", "/enqueue_command", enqueued, key="k", prefer="respond-async")
    assert again.task(202)["id"] == first["id"]
    other = {"command": "question", "arguments": question(ada, text="Another?")}
    (await service.call("POST", "/enqueue_command", other, key="k")).problem("idempotency_mismatch")
    await gate.next_message(ada)
    assert gate.sends(ada) == 1


async def test_edits_and_deletions_have_keys_too(gate: Gate, service: Service) -> None:
    ada = gate.person()
    sent = (await service.send(message(ada))).task(200)
    path = f"/v1/messages/{sent['id']}"
    edits = await asyncio.gather(
        *(service.call("PATCH", path, {"text": "Edited"}, key="k") for _ in range(10))
    )
    assert len({edit.task(200)["id"] for edit in edits}) == 1
    assert len(gate.sandbox.calls.of("editMessageText", ada.id)) == 1
    (await service.call("PATCH", path, {"text": "Other"}, key="k")).problem("idempotency_mismatch")
    first = (await service.call("DELETE", path, key="k")).task(200)
    assert (await service.call("DELETE", path, key="k")).task(200)["id"] == first["id"]


async def test_a_key_for_one_message_is_not_the_key_for_another(gate: Gate, service: Service) -> None:
    ada = gate.person()
    ids = [(await service.send(message(ada, text))).task(200)["id"] for text in ("One", "Two")]
    edits = [await service.call("PATCH", f"/v1/messages/{each}", {"text": "Edited"}, key="k") for each in ids]
    # The key's scope is the route, so the second request is another body under the same key, or another
    # task: never the first message's edit in disguise.
    first = edits[0].task(200)
    assert edits[1].status == 422 or edits[1].task(200)["of"] == ids[1]
    assert first["of"] == ids[0]


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "schlüssel"])
async def test_a_key_that_is_no_key_is_malformed(gate: Gate, service: Service, key: str) -> None:
    ada = gate.person()
    (await service.send(message(ada), key=key)).problem("malformed")
    assert gate.sends(ada) == 0


@pytest.mark.parametrize("key", ["k", "k" * 255, "with space", '"quoted"', "~!@#$%^&*()"])
async def test_every_printable_key_is_a_key(gate: Gate, service: Service, key: str) -> None:
    ada = gate.person()
    first = (await service.send(message(ada), key=key)).task(200)
    assert (await service.send(message(ada), key=key)).task(200) == first
