"""For operators and for services that look around: health, readiness, who am I, the description."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import jsonschema_rs
import pytest
import pytest_asyncio

from tests.acceptance.contract import STATUS_OF, Json, Response
from tests.acceptance.gateway import ROOT, Gate, Service, message, opened, question
from tests.acceptance.policies import POLICY

in_module_loop = pytest.mark.asyncio(loop_scope="module")

PUBLIC = {
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "POST /telegram/webhook",
    "GET /.well-known/telegate.json",
}
EVERY_SERVICE = {"GET /v1/me", "GET /v1/capabilities", "POST /enqueue_command"}
ROUTES = {
    "POST /v1/messages",
    "PATCH /v1/messages/{id}",
    "DELETE /v1/messages/{id}",
    "POST /v1/questions",
    "GET /v1/tasks",
    "GET /v1/tasks/{id}",
    "GET /v1/tasks/{id}/events",
    "DELETE /v1/tasks/{id}",
    "GET /v1/tasks/{id}/history",
    "POST /v1/tasks/{id}/consume",
    "DELETE /v1/tasks",
    "GET /v1/audit",
    "POST /v1/telegram/{method}",
    "GET /v1/files/{file_id}",
    "GET /v1/chats",
    "POST /v1/broadcasts",
    "GET /v1/commands/events",
    "POST /v1/commands/{id}/take",
    "POST /v1/commands/{id}/replies",
    "GET /v1/deliveries",
    "GET /v1/deliveries/{id}",
    "POST /v1/deliveries/{id}/redeliver",
    "POST /v1/deliveries/test",
    "POST /mcp",
    "POST /v1/hooks/claude-code",
    "POST /v1/sweep",
    "GET /metrics",
}
BUILT = {
    "POST /v1/messages",
    "PATCH /v1/messages/{id}",
    "DELETE /v1/messages/{id}",
    "POST /v1/questions",
    "GET /v1/tasks",
    "GET /v1/tasks/{id}",
    "GET /v1/tasks/{id}/events",
    "DELETE /v1/tasks/{id}",
    *EVERY_SERVICE,
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "POST /telegram/webhook",
}


async def eventually(look: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    """Look until it is so; for what another process does in its own time."""
    async with asyncio.timeout(within):
        while not await look():  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.1)


# Health


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@in_module_loop
async def test_platforms_can_probe(gate: Gate, path: str, method: str) -> None:
    assert (await gate.request(method, path)).status == 200


@in_module_loop
async def test_readiness_tells_what_it_looked_at(gate: Gate) -> None:
    async def all_is_well() -> bool:
        return set((await gate.request("GET", "/readyz")).document["checks"].values()) == {"ok"}

    await eventually(all_is_well)
    document = (await gate.request("GET", "/readyz")).document
    assert document["ready"] is True
    assert {"database", "webhook"} <= set(document["checks"])
    assert document["waiters"] == 0


@in_module_loop
async def test_every_call_to_telegram_for_a_task_is_found_in_the_log_by_its_id(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    waiting = service.asking(question(ada))
    asked = await gate.next_message(ada)
    await ada.taps(asked, "Yes")
    await gate.until_edited(asked)
    task = (await waiting).task(200)
    with gate.sandbox.fault("error", method="sendMessage", times=1, status=429, retry_after=1):
        retried = (await service.send(message(ada))).task(200)

    def calls(task_id: str) -> list[tuple[str, str]]:
        lines = [json.loads(line) for line in gate.server.log.splitlines() if line.startswith("{")]
        return [
            (line["method"], line["outcome"])
            for line in lines
            if line.get("action") == "telegram_call" and line.get("task") == task_id
        ]

    async def all_told() -> bool:
        return len(calls(task["id"])) == len(calls(retried["id"])) == 2

    await eventually(all_told)
    assert calls(task["id"]) == [("sendMessage", "done"), ("editMessageText", "done")]
    assert calls(retried["id"]) == [("sendMessage", "refused"), ("sendMessage", "done")]


@in_module_loop
async def test_no_response_tells_what_it_runs_on(gate: Gate) -> None:
    for path in ("/healthz", "/v1/me", "/nowhere"):
        server = (await gate.request("GET", path)).headers.get("Server", "")
        assert "aiohttp" not in server.lower()
        assert "python" not in server.lower()


# Who am I


@in_module_loop
async def test_me_tells_a_service_what_it_may_do(gate: Gate) -> None:
    service = gate.service("approver")
    me = (await service.get("/v1/me")).document
    assert me["service"] == service.name
    assert set(me["roles"]) == {"approver", "notifier"}
    assert set(me["endpoints"]) == {
        "POST /v1/messages",
        "PATCH /v1/messages/{id}",
        "DELETE /v1/messages/{id}",
        "POST /v1/questions",
        "GET /v1/tasks/{id}",
        "DELETE /v1/tasks/{id}",
        *EVERY_SERVICE,
    }
    assert me["chats"] == ["ops"]


@in_module_loop
async def test_me_of_a_service_without_limits(gate: Gate, service: Service) -> None:
    me = (await service.get("/v1/me")).document
    assert me["chats"] == ["*"]
    assert BUILT - PUBLIC <= set(me["endpoints"]) <= ROUTES | EVERY_SERVICE


@in_module_loop
async def test_capabilities_tell_what_this_gateway_promises(gate: Gate, service: Service) -> None:
    told = (await service.get("/v1/capabilities")).document
    assert told["version"]
    assert told["durability"]
    assert told["durability"] != "until_redeploy"
    assert told["processes"] == 1
    assert 25 in told.values()


@in_module_loop
async def test_a_disk_that_a_deploy_throws_away_is_told_and_probes_do_not_fill_the_log(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, settings={"DYNO": "web.1", "LOG_LEVEL": "info"}) as gate:
        told = (await gate.service().get("/v1/capabilities")).document
        assert told["durability"] == "until_redeploy"
        assert "warning" in gate.server.log
        assert "volume" in gate.server.log
        before = gate.server.log.count("/healthz")
        for _ in range(5):
            await gate.request("GET", "/healthz")
        last = await gate.service().get("/v1/me")

        async def last_is_logged() -> bool:
            return last.headers["X-Request-Id"] in gate.server.log

        await eventually(last_is_logged)
        assert gate.server.log.count("/healthz") == before


# The description


@pytest_asyncio.fixture(loop_scope="module")
async def description(gate: Gate) -> Json:
    response = await gate.request("GET", "/openapi.json")
    assert response.headers["Content-Type"].startswith("application/json")
    return response.document


def operations(description: Json) -> Iterator[tuple[str, Json]]:
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if method in {"get", "put", "post", "delete", "patch", "head", "options"}:
                yield f"{method.upper()} {path}", operation


def references(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(description: Json, node: Json) -> Json:
    while "$ref" in node:
        place = description
        for step in node["$ref"].removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]
        node = place
    return node


def test_the_description_is_openapi_3_1(description: Json) -> None:
    assert description["openapi"].startswith("3.1.")
    assert description["info"]["title"]
    assert description["info"]["version"]
    for reference in references(description):
        assert reference.startswith("#/")
        resolve(description, {"$ref": reference})
    for schema in description["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    names = [operation["operationId"] for _, operation in operations(description)]
    assert len(names) == len(set(names))


def test_every_route_that_is_built_is_described_and_nothing_else(description: Json) -> None:
    described = {name for name, _ in operations(description)}
    assert described >= BUILT
    assert described <= ROUTES | EVERY_SERVICE | PUBLIC


def test_every_operation_says_what_it_is_and_how_it_can_end(description: Json) -> None:
    for name, operation in operations(description):
        assert operation.get("summary") or operation.get("description"), name
        assert operation["responses"], name
        parameters = [resolve(description, each) for each in operation.get("parameters", [])]
        in_path = {each["name"] for each in parameters if each["in"] == "path"}
        wanted = {part.strip("{}") for part in name.split()[1].split("/") if part.startswith("{")}
        assert in_path == wanted, name
        for status, response in operation["responses"].items():
            content = resolve(description, response).get("content", {})
            if status.startswith(("4", "5")) and name != "GET /readyz":
                assert "application/problem+json" in content, (name, status)


TOLD_HEADERS = {"X-Request-Id", "Location", "Preference-Applied", "Retry-After", "WWW-Authenticate"}


@in_module_loop
async def test_the_headers_of_a_response_are_those_that_are_described(
    description: Json, gate: Gate, service: Service
) -> None:
    body = message(gate.person())
    sent = await service.send(body)
    task = f"/v1/tasks/{sent.task(200)['id']}"
    told = [
        ("post /v1/messages", 200, sent),
        ("post /v1/messages", 200, await service.send(body, prefer="wait=5")),
        ("post /v1/messages", 202, await service.send(body, prefer="respond-async")),
        ("post /v1/messages", 422, await service.send(message(1337), prefer="wait=5")),
        ("post /v1/messages", 422, await service.send({})),
        ("post /v1/messages", 400, await service.send(body, prefer="wait=x")),
        ("post /v1/messages", 401, await gate.request("POST", "/v1/messages")),
        ("get /v1/tasks/{id}", 200, await service.get(task, prefer="wait=1")),
        ("get /v1/tasks", 200, await service.get("/v1/tasks")),
        ("get /v1/tasks/{id}", 404, await service.get("/v1/tasks/x")),
        ("delete /v1/tasks/{id}", 409, await service.call("DELETE", task)),
        ("get /healthz", 200, await gate.request("GET", "/healthz")),
    ]
    for operation, status, response in told:
        assert response.status == status, response.told()
        method, path = operation.split()
        described = description["paths"][path][method]["responses"][str(status)].get("headers", {})
        always = {name for name, each in described.items() if resolve(description, each).get("required")}
        given = {name for name in TOLD_HEADERS if name in response.headers}
        assert always <= given <= set(described), (operation, response.told())


def test_what_a_client_does_next_is_described_where_it_is_told(description: Json) -> None:
    for name, operation in operations(description):
        for status, response in operation["responses"].items():
            headers = response["headers"]
            assert "X-Request-Id" in headers, (name, status)
            assert ("WWW-Authenticate" in headers) == (status == "401"), (name, status)
            come_back = status in {"202", "429"} or (status == "503" and name != "GET /readyz")
            assert ("Retry-After" in headers) == come_back, (name, status)


def test_every_operation_that_needs_a_token_says_so(description: Json) -> None:
    everywhere = description.get("security")
    for name, operation in operations(description):
        security = operation.get("security", everywhere)
        if name in PUBLIC:
            assert not security or name == "POST /telegram/webhook", name
        else:
            assert security, name
            assert "401" in operation["responses"], name
            assert "403" in operation["responses"], name


def test_the_codes_of_problems_are_named(description: Json) -> None:
    text = str(description)
    missing = {code for code in STATUS_OF if f"{code}" not in text} - {
        "rate_limited",
        "overloaded",
        "internal",
    }
    assert missing == set()


@in_module_loop
async def test_what_is_answered_agrees_with_the_description(
    gate: Gate, service: Service, description: Json
) -> None:
    ada = gate.person()
    asked = await service.asked(question(ada))
    sent = await service.send(message(ada))
    exchanges: list[tuple[str, Response]] = [
        ("POST /v1/messages", sent),
        ("PATCH /v1/messages/{id}", await _edit(service, sent.task(200)["id"])),
        ("POST /v1/messages", await service.send(message(1337))),
        ("POST /v1/messages", await service.send({})),
        ("POST /v1/questions", await service.ask(question(ada), prefer="respond-async")),
        ("GET /v1/tasks", await service.get("/v1/tasks")),
        ("GET /v1/tasks/{id}", await service.get(f"/v1/tasks/{asked['id']}")),
        ("GET /v1/tasks/{id}", await service.get("/v1/tasks/x")),
        ("DELETE /v1/tasks/{id}", await service.call("DELETE", f"/v1/tasks/{asked['id']}")),
        ("DELETE /v1/tasks/{id}", await service.call("DELETE", f"/v1/tasks/{asked['id']}")),
        ("GET /v1/me", await service.get("/v1/me")),
        ("GET /v1/me", await gate.request("GET", "/v1/me")),
        ("GET /v1/capabilities", await service.get("/v1/capabilities")),
        ("GET /readyz", await gate.request("GET", "/readyz")),
        ("GET /healthz", await gate.request("GET", "/healthz")),
    ]
    for name, response in exchanges:
        method, path = name.split()
        responses = description["paths"][path][method.lower()]["responses"]
        assert str(response.status) in responses, (name, response.told())
        content = resolve(description, responses[str(response.status)])["content"]
        schema = content[response.headers["Content-Type"].split(";")[0]]["schema"]
        whole = {**schema, "components": description["components"]}
        jsonschema_rs.validator_for(whole).validate(response.document)


async def _edit(service: Service, message_id: str) -> Response:
    return await service.call("PATCH", f"/v1/messages/{message_id}", {"text": "Edited"})


# The policy while the server runs


@in_module_loop
async def test_a_changed_policy_takes_effect_and_a_broken_one_does_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        service, file = gate.service(), tmp_path / "permissions.yaml"
        assert (await service.get("/v1/tasks")).status == 200

        def write(text: str) -> None:
            fresh = tmp_path / "fresh.yaml"
            fresh.write_text(text)
            fresh.replace(file)

        write(POLICY.replace("      - GET /v1/tasks\n", ""))

        async def forbidden() -> bool:
            return (await service.get("/v1/tasks")).status == 403

        await eventually(forbidden)
        write("version: 1\nservice_rolls: {}\n")

        async def told() -> bool:
            checks = (await gate.request("GET", "/readyz")).document["checks"]
            return bool(checks["policy"] != "ok")

        await eventually(told)
        assert (await service.get("/v1/me")).status == 200
        assert await forbidden()
        assert "service_rolls" in gate.server.log


@in_module_loop
async def test_sighup_takes_a_good_policy_at_once_and_never_a_broken_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        service, file = gate.service(), tmp_path / "permissions.yaml"
        assert (await service.get("/v1/tasks")).status == 200
        file.write_text(POLICY.replace("      - GET /v1/tasks\n", ""))
        await gate.server.reload()
        (await service.get("/v1/tasks")).problem("forbidden")
        file.write_text("version: 1\nservice_rolls: {}\n")
        await gate.server.reload()
        assert "service_rolls" in gate.server.log
        (await service.get("/v1/tasks")).problem("forbidden")
        assert (await service.get("/v1/me")).status == 200


@in_module_loop
async def test_sighup_does_not_end_a_waiting_request_without_a_word(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        service, ada = gate.service(), gate.person()
        asking = service.asking(question(ada), key="k")
        asked = await gate.next_message(ada)
        await gate.until_waiting(1)
        await gate.server.reload()
        task = (await asking).task(202)
        again = service.asking(question(ada), key="k")
        await gate.until_waiting(1)
        await ada.taps(asked, "Yes")
        answered = (await again).task(200)
        assert (answered["id"], answered["answer"]["choice"]) == (task["id"], "yes")
        assert gate.sends(ada) == 1
        await gate.end_test()


# The files that say how it is started


def test_the_procfile_starts_what_these_tests_start() -> None:
    lines = dict(line.split(":", 1) for line in (ROOT / "Procfile").read_text().splitlines() if ":" in line)
    assert lines["web"].strip() == "gunicorn -c python:infra.server.gunicorn infra.app:create_app"
    assert "migrate" in lines["release"]
    assert "webhook set" in lines["release"]


async def test_what_an_operator_has_to_know_of_refused_requests_is_logged_and_not_for_each_of_them(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as gate:
        for _ in range(5):
            outside = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
            (await gate.request("POST", "/telegram/webhook", headers=outside)).problem("tls_required")
            (await gate.request("POST", "/telegram/webhook")).problem("unauthenticated")
        lines = [json.loads(line) for line in gate.server.log.splitlines()]
        warnings = {line["action"]: line["message"] for line in lines if line["level"] == "warning"}
        assert "TRUSTED_PROXIES has to be the number of such routers; it is 0." in warnings["tls_required"]
        assert warnings["webhook_secret_refused"].endswith("run: telegate webhook set")
        assert (
            gate.server.log.count('"tls_required"') == gate.server.log.count('"webhook_secret_refused"') == 1
        )
        await gate.end_test()


async def test_a_token_that_telegram_refuses_is_told_where_an_operator_looks(tmp_path: Path) -> None:
    async with opened(tmp_path, started=False, settings={"BOT_TOKEN": "999:" + "A" * 35}) as gate:
        await gate.server.spawn()
        await gate.server.until_answered("/readyz", 200)

        async def is_told() -> bool:
            checks = (await gate.request("GET", "/readyz")).document["checks"]
            return "has not answered yet" not in checks["telegram"] and checks["telegram"] != "ok"

        await eventually(is_told)
