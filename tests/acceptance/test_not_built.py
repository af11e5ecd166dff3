"""What the contract has and this version has not is refused by name: never ignored, never half done."""

from __future__ import annotations

import pytest

from tests.acceptance.contract import Json, Response
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS_OF_BOTH: list[tuple[Json, str]] = [
    ({"attachments": [{"kind": "photo", "url": "https://example.com/a.png"}]}, "/attachments"),
    ({"callback": {"url": "https://ci.example.com/telegram"}}, "/callback"),
]
FIELDS_OF_QUESTIONS: list[tuple[Json, str]] = [
    ({"exclude": [815]}, "/exclude"),
    ({"quorum": 2}, "/quorum"),
    ({"reminders": [60]}, "/reminders"),
    ({"escalate": {"after": 60, "chat": "ops", "respondents": {"anyone": True}}}, "/escalate"),
    ({"input": {"type": "number"}}, "/input/type"),
    ({"input": {"type": "integer", "min": 1, "max": 9}}, "/input/type"),
    ({"input": {"type": "date"}}, "/input/type"),
    ({"input": {"type": "email"}}, "/input/type"),
    ({"input": {"type": "pattern", "pattern": "[a-z]+"}}, "/input/type"),
    ({"input": {"type": "file"}}, "/input/type"),
    ({"input": {"type": "location"}}, "/input/type"),
    ({"input": {"type": "text", "pattern": "[a-z]+"}}, "/input/pattern"),
    ({"options": [{"id": "no", "label": "No", "reason": True}]}, "/options/0/reason"),
]


@pytest.mark.parametrize(("fields", "pointer"), FIELDS_OF_BOTH)
async def test_a_message_with_a_field_that_is_not_built_is_refused(
    gate: Gate, service: Service, fields: Json, pointer: str
) -> None:
    ada = gate.person()
    response = await service.send(message(ada, **fields))
    assert any(found.startswith(pointer) for found in response.pointers()), response.told()
    assert gate.sends(ada) == 0


@pytest.mark.parametrize(("fields", "pointer"), [*FIELDS_OF_BOTH, *FIELDS_OF_QUESTIONS])
async def test_a_question_with_a_field_that_is_not_built_is_refused(
    gate: Gate, service: Service, fields: Json, pointer: str
) -> None:
    ada = gate.person()
    response = await service.ask(question(ada, **fields))
    assert any(found.startswith(pointer) for found in response.pointers()), response.told()
    assert gate.sends(ada) == 0


def told(response: Response, pointer: str) -> str:
    """What is said about one place."""
    (detail,) = (
        error["detail"] for error in response.problem("invalid")["errors"] if error["pointer"] == pointer
    )
    return str(detail)


async def test_what_is_not_built_is_named_as_json_writes_it(gate: Gate, service: Service) -> None:
    options = [{"id": "no", "label": "No", "reason": True}]
    response = await service.ask(question(1, options=options, input={"type": "number", "min": 1}, quorum=2))
    assert told(response, "/options/0/reason") == "This version has no true here yet."
    assert told(response, "/input/type") == 'This version has no "number" here yet.'
    assert told(response, "/input/min") == "This version does not have min yet."
    assert told(response, "/quorum") == "This version does not have quorum yet."


UNKNOWN_THERE: list[tuple[str, Json, str]] = [
    ("POST /v1/messages", {"chat": 1, "text": "a", "exclude": [815]}, "/exclude"),
    ("POST /v1/messages", {"chat": 1, "text": "a", "quorum": 2}, "/quorum"),
    ("POST /v1/messages", {"chat": 1, "text": "a", "min": 2}, "/min"),
    ("POST /v1/questions", {"chat": 1, "text": "a", "min": 2}, "/min"),
    ("POST /v1/questions", {"chat": 1, "text": "a", "input.min": 2}, "/input.min"),
    ("POST /v1/questions", {"chat": 1, "text": "a", "input/min": 2}, "/input~1min"),
    (
        "POST /v1/questions",
        {"chat": 1, "text": "a", "input": {"type": "text", "callback": {}}},
        "/input/callback",
    ),
    (
        "PATCH /v1/messages/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H",
        {"text": "a", "attachments": []},
        "/attachments",
    ),
]


@pytest.mark.parametrize(("endpoint", "body", "pointer"), UNKNOWN_THERE)
async def test_a_field_that_the_contract_has_elsewhere_is_unknown_and_promises_nothing(
    gate: Gate, service: Service, endpoint: str, body: Json, pointer: str
) -> None:
    method, path = endpoint.split()
    response = await service.call(method, path, body)
    assert told(response, pointer) == "There is no such field; check its name."


@pytest.mark.parametrize("kind", ["zzz", "Text", "", 3, True, None])
async def test_an_input_of_no_type_of_the_contract_promises_nothing(
    gate: Gate, service: Service, kind: Json
) -> None:
    assert "version" not in told(await service.ask(question(1, input={"type": kind})), "/input/type")


async def test_values_that_mean_what_this_version_does_are_taken(gate: Gate, service: Service) -> None:
    ada = gate.person()
    options = [{"id": "no", "label": "No", "reason": False, "style": None}]
    asked = await service.asked(question(ada, options=options, on_unknown="report"))
    assert asked["state"] == "asked"
    assert (await service.send(message(ada, on_unknown="report"))).task(200)["state"] == "sent"


ROUTES = [
    ("GET", "/v1/tasks/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H/history"),
    ("POST", "/v1/tasks/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H/consume"),
    ("DELETE", "/v1/tasks?idempotency_key=deploy-1234&route=/v1/questions"),
    ("GET", "/v1/audit?since=2026-11-22T10:00:00Z"),
    ("POST", "/v1/telegram/setChatTitle"),
    ("GET", "/v1/files/BQACAgIAAx"),
    ("GET", "/v1/chats"),
    ("POST", "/v1/broadcasts"),
    ("GET", "/v1/commands/events"),
    ("POST", "/v1/commands/cmd_01K3ZQ8T7M9V5B2N4C6D8F0G1H/take"),
    ("POST", "/v1/commands/cmd_01K3ZQ8T7M9V5B2N4C6D8F0G1H/replies"),
    ("GET", "/v1/deliveries"),
    ("GET", "/v1/deliveries/dlv_01K3ZQ8T7M9V5B2N4C6D8F0G1H"),
    ("POST", "/v1/deliveries/dlv_01K3ZQ8T7M9V5B2N4C6D8F0G1H/redeliver"),
    ("POST", "/v1/deliveries/test"),
    ("POST", "/mcp"),
    ("POST", "/v1/hooks/claude-code"),
]
PUBLIC_ROUTES = [("GET", "/docs"), ("GET", "/.well-known/telegate.json")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_route_that_is_not_built_says_so_to_whom_it_would_serve(
    gate: Gate, service: Service, method: str, path: str
) -> None:
    body: Json = {} if method == "POST" else None
    (await service.call(method, path, body)).problem("not_built")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_route_that_is_not_built_is_authenticated_and_authorized_first(
    gate: Gate, service: Service, method: str, path: str
) -> None:
    assert (await gate.request(method, path)).problem("unauthenticated")
    (await service.with_roles("reader").call(method, path)).problem("forbidden")


@pytest.mark.parametrize(("method", "path"), PUBLIC_ROUTES)
async def test_a_public_route_that_is_not_built_says_so_to_everybody(
    gate: Gate, method: str, path: str
) -> None:
    (await gate.request(method, path)).problem("not_built")


@pytest.mark.parametrize("method", ["broadcast", "call", "chats"])
async def test_a_command_for_what_is_not_built_is_refused(gate: Gate, service: Service, method: str) -> None:
    response = await service.call("POST", "/enqueue_command", {"command": method, "arguments": {}})
    assert response.status in {422, 501}, response.told()
