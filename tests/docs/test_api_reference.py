"""docs/reference/api.md and errors.md say what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from core.model.transition import FINAL_STATES, TaskState
from core.policy.routes import FOR_EVERY_SERVICE, PUBLIC
from handlers.bodies import MessageBody, QuestionBody
from handlers.openapi import description
from handlers.problems import PROBLEMS_BY_CODE
from handlers.route import Route
from handlers.routes import ROUTES
from tests.docs.pages import Block, Page, rows
from tests.docs.trial import Trial

API = Page("docs/reference/api.md")
ERRORS = Page("docs/reference/errors.md")
OPENAPI = description(ROUTES, "0", None)
SCHEMAS: dict[str, Any] = OPENAPI["components"]["schemas"]

BUILT = [route for route in ROUTES if route.built]
UNBUILT = [route for route in ROUTES if not route.built]
CODES = {code: problem.status for code, problem in PROBLEMS_BY_CODE.items()}


def _name(route: Route) -> str:
    return route.endpoint


def _validate(document: object, schema: str) -> None:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": OPENAPI["components"]}
    jsonschema_rs.validator_for(whole).validate(document)


# Routes


def _permissions(text: str) -> Iterator[tuple[str, str]]:
    for endpoint, permission, *_ in rows(text):
        named = re.search(r"`([A-Z]+ /[^`]*)`", endpoint)
        if named:
            yield named[1], permission


def test_every_route_is_listed_once_where_it_belongs() -> None:
    served = [name for name, _ in _permissions(API.text.split("\n## ")[0])]
    refused = [name for name, _ in _permissions(API.section("Not in this version"))]
    assert sorted(served) == sorted(map(_name, BUILT))
    assert refused == [_name(route) for route in UNBUILT]


@pytest.mark.parametrize("route", ROUTES, ids=_name)
def test_the_permission_of_a_route_is_told(route: Route) -> None:
    (told,) = {permission for name, permission in _permissions(API.text) if name == route.endpoint}
    if route.endpoint in PUBLIC:
        assert told.startswith("public")
    elif route.endpoint in FOR_EVERY_SERVICE:
        assert told.startswith("any service")
    else:
        assert told.startswith("a role that names it")
        assert told.endswith("and the chat") == ("chat_forbidden" in route.codes)


@pytest.mark.parametrize("route", BUILT, ids=_name)
def test_a_served_route_has_a_section_with_its_statuses(route: Route) -> None:
    section = API.section(f"`{route.endpoint}`")
    line = re.search(r"\*\*Statuses:\*\* (`.*`)\.$", section, re.MULTILINE)
    operation = OPENAPI["paths"][route.path][route.method.lower()]
    if line:
        told = re.findall(r"`(\d{3})`", line[1])
        assert told == sorted(told)
        assert set(told) <= set(operation["responses"])
        missing = set(operation["responses"]) - set(told)
        # A path that holds no body, or no preference, cannot be malformed or invalid.
        assert missing <= ({"400", "422"} if route.body is None else set())


# Bodies


def test_every_body_has_a_table_with_all_of_its_fields() -> None:
    described = set(re.findall(r"<!-- body: (\w+) -->", API.text))
    inside = {"LinkButtonBody", "OnExpiryBody"}
    assert described == {name for name in SCHEMAS if name.endswith("Body")} - inside
    for name in inside:
        shape = ", ".join(f'"{field}"' for field in SCHEMAS[name]["properties"])
        assert f"`{{{shape}}}`" in API.text or f"`{{{shape}: id}}`" in API.text


@pytest.mark.parametrize("model", sorted(set(re.findall(r"<!-- body: (\w+) -->", API.text))))
def test_a_table_has_the_fields_of_its_body_with_their_defaults(model: str) -> None:
    table = API.text.split(f"<!-- body: {model} -->\n")[1].split("\n\n")[0]
    schema = SCHEMAS[model]
    told = {cells[0].strip("`"): cells[2].strip("`") for cells in rows(table)}
    assert set(told) == set(schema["properties"])
    for field, default in told.items():
        if field in schema.get("required", []):
            assert default == "required", field
        else:
            assert default == _written(schema["properties"][field].get("default")), field


def _written(default: object) -> str:
    return default if isinstance(default, str) else json.dumps(default)


def test_the_fields_that_are_refused_by_name_are_listed() -> None:
    told = API.section("Not in this version").split("refused by name")[1]
    pointers = MessageBody.not_built | QuestionBody.not_built
    assert pointers
    names = {name for pointer in pointers for name in pointer[1:].split("/")}
    assert set(re.findall(r"`(\w+)`", told)) >= names


# Tasks


def test_the_states_are_those_of_the_code() -> None:
    told = {cells[0].strip("`"): cells[1] for cells in rows(API.section("States"))}
    assert set(told) == set(TaskState)
    assert {state for state, final in told.items() if final == "yes"} == set(FINAL_STATES)


@pytest.mark.parametrize(
    ("schema", "heading"), [("TaskDocument", "The task"), ("AnswerDocument", "The task")]
)
def test_every_field_of_a_task_and_an_answer_is_explained(schema: str, heading: str) -> None:
    explained = {name for cells in rows(API.section(heading)) for name in re.findall(r"`(\w+)`", cells[0])}
    assert set(SCHEMAS[schema]["properties"]) <= explained


# Examples

EXAMPLES = API.blocks("json")
LIVE = {"GET /v1/me": 0, "GET /v1/capabilities": 0, "GET /readyz": 0}


def test_every_example_says_what_it_is_or_is_compared_with_the_server() -> None:
    assert len([block for block in EXAMPLES if not block.mark]) == len(LIVE)


@pytest.mark.parametrize("block", [block for block in EXAMPLES if block.mark], ids=lambda block: block.mark)
def test_an_example_is_what_the_description_describes(block: Block) -> None:
    document = json.loads(block.text)
    _, _, schema = block.mark.partition(": ")
    _validate(document, schema)
    if schema == "Problem":
        assert document["status"] == CODES[document["code"]]
        assert document["title"] == PROBLEMS_BY_CODE[document["code"]].title


@pytest.mark.parametrize("endpoint", LIVE)
def test_an_example_without_a_schema_has_the_fields_of_the_real_answer(trial: Trial, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    _, real = trial.api(method, path)
    section = API.section(f"`{endpoint}`")
    (example,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]
    assert {name: type(value) for name, value in example.items()} == {
        name: type(value) for name, value in real.items()
    }


@pytest.mark.parametrize("endpoint", ["POST /v1/messages", "POST /v1/questions", "POST /enqueue_command"])
def test_the_request_of_an_example_is_accepted(trial: Trial, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    section = API.section(f"`{endpoint}`")
    (body,) = re.findall(r"<!-- request: \w+ -->\n```json\n(.*?)```", section, re.DOTALL)
    status, task = trial.api(method, path, json.loads(body), Prefer="respond-async")
    assert status == 202
    _validate(task, "TaskDocument")


def test_the_message_of_an_example_is_edited_and_deleted(trial: Trial) -> None:
    _, message = trial.api("POST", "/v1/messages", {"chat": "ada", "text": "Build 1234 is live."})
    section = API.section("`PATCH /v1/messages/{id}`")
    (body,) = re.findall(r"<!-- request: EditBody -->\n```json\n(.*?)```", section, re.DOTALL)
    path = f"/v1/messages/{message['id']}"
    for method, given, kind in (("PATCH", json.loads(body), "edit"), ("DELETE", None, "deletion")):
        status, task = trial.api(method, path, given)
        assert (status, task["kind"], task["state"], task["of"]) == (200, kind, "sent", message["id"])
        _validate(task, "TaskDocument")


# Errors


def test_every_code_is_listed_with_its_status() -> None:
    table = ERRORS.text.split("\n## ")[0]
    assert {cells[0]: cells[1] for cells in rows(table)} == {
        f"[`{code}`](#{code})": str(status) for code, status in CODES.items()
    }


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_an_anchor_and_is_explained(code: str) -> None:
    assert code in ERRORS.anchors
    assert ERRORS.section(f"`{code}`").strip().startswith(f"**{CODES[code]}")


def test_no_code_is_explained_that_does_not_exist() -> None:
    assert ERRORS.anchors - {"errors"} == set(CODES)
