"""Whatever is sent is answered: never by a 500, never by a dropped connection, always as promised."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.acceptance.contract import Json, Response
from tests.acceptance.gateway import Gate, Service, environment, message, opened, question

in_module_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """A server that holds no request for long: fuzzers ask questions that nobody answers."""
    async with opened(tmp_path_factory.mktemp("fuzz"), settings={"MAX_WAIT_SECONDS": "1"}) as gate:
        yield gate


FUZZ = settings(
    max_examples=150,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)

NASTY_VALUES: list[Json] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    2**31,
    2**53 + 1,
    2**63,
    -(2**63),
    10**40,
    "",
    " ",
    "0",
    "null",
    "ops",
    "@ops",
    "-1001234567890",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "\uffff",
    "🎉" * 70,
    "a" * 5000,
    "<b>",
    "**",
    "](",
    "%00",
    "'; DROP TABLE tasks; --",
    "../../etc/passwd",
    [],
    {},
    [[]],
    [None],
    {"": ""},
    {"__proto__": {}},
    {"$ref": "#"},
    [{"id": "yes", "label": "Yes"}] * 51,
    {"anyone": True, "people": [], "roles": []},
    {"people": [0]},
    {"people": [2**70]},
    {"type": "text", "placeholder": "\n"},
    {"choice": "yes"},
    {f"k{number}": "v" for number in range(17)},
]
NASTY = st.sampled_from(NASTY_VALUES)
SCALARS = st.one_of(
    NASTY, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=80)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = (
    "chat text format topic reply_to buttons silent protect preview expires_in on_unknown metadata options "
    "input respondents on_expiry attachments callback exclude quorum reminders escalate id __class__ a/b é"
)
NAMES = st.sampled_from(["", *FIELDS.split()])


def places(body: Json, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body, the whole of it first."""
    found = [at]
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for step, value in inside:
        found += places(value, (*at, step))
    return found


@st.composite
def mutated(draw: st.DrawFn, valid: Json) -> Json:
    """A valid body with one to three things in it changed, added or taken away."""
    body = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(body)))
        what = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if what == "add" or not place:
            if isinstance(body, dict):
                body[draw(NAMES)] = copy.deepcopy(draw(ANYTHING))
            continue
        parent = body
        for step in place[:-1]:
            parent = parent[step]
        if what == "replace":
            parent[place[-1]] = copy.deepcopy(draw(ANYTHING))
        else:
            del parent[place[-1]]
    return body


FULL_MESSAGE: Json = message(
    815,
    "Build 1234",
    format="markdown",
    topic=None,
    reply_to=1,
    buttons=[[{"text": "Log", "url": "https://example.com/"}]],
    silent=True,
    protect=False,
    preview=True,
    expires_in=60,
    on_unknown="resend",
    metadata={"build": "1234"},
)
FULL_QUESTION: Json = question(
    815,
    format="html",
    options=[
        {"id": "yes", "label": "Yes", "style": "success", "reason": False},
        {"id": "no", "label": "No", "style": None},
    ],
    input={"type": "text", "placeholder": "or in words"},
    respondents={"people": [815, 4711], "roles": ["operator"]},
    on_expiry={"choice": "no"},
    expires_in=60,
    metadata={"build": "1234"},
)
FULL_EDIT: Json = {"text": "Edited", "format": "html", "buttons": [[{"text": "a", "url": "https://b.c/"}]]}


def as_json(body: Json) -> bytes:
    """JSON with lone surrogates escaped, as a careless program writes them."""
    return json.dumps(body).encode()


def was_answered(response: Response) -> None:
    """Done, accepted, or refused as a problem; the harness has checked its shape."""
    assert response.status < 500 or response.status in {501, 504}, response.told()
    if response.status >= 400 and response.document["code"] == "invalid":
        assert response.document["errors"], response.told()


# Hypothesis drives an event loop of its own making badly; the examples are drawn first and sent together.


def drawn(strategy: st.SearchStrategy[Json]) -> list[Json]:
    """What Hypothesis comes up with, the same in every run."""
    found: list[Json] = []

    @FUZZ
    @given(strategy)
    def collect(example: Json) -> None:
        found.append(example)

    collect()
    return found


BODIES = {
    "POST /v1/messages": FULL_MESSAGE,
    "POST /v1/questions": FULL_QUESTION,
    "PATCH /v1/messages/tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H": FULL_EDIT,
    "POST /enqueue_command": {"command": "question", "arguments": FULL_QUESTION},
}


@in_module_loop
@pytest.mark.parametrize("endpoint", BODIES)
async def test_any_body_gets_an_answer(gate: Gate, service: Service, endpoint: str) -> None:
    method, path = endpoint.split()
    valid = await service.call(method, path, raw=as_json(BODIES[endpoint]), prefer="respond-async")
    assert valid.status == 202 or method == "PATCH", valid.told()
    for body in [*drawn(mutated(BODIES[endpoint])), *drawn(ANYTHING)[:50]]:
        response = await service.call(method, path, raw=as_json(body), prefer="respond-async")
        was_answered(response)


@in_module_loop
async def test_any_bytes_get_an_answer(gate: Gate, service: Service) -> None:
    for body in drawn(st.binary(max_size=300)):
        was_answered(await service.call("POST", "/v1/messages", raw=body))
        assert (await gate.webhook(body)).status == 200


TOKEN_CHARACTERS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60)
HEADER_VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60
)


@in_module_loop
@pytest.mark.parametrize(
    "name", ["Prefer", "Idempotency-Key", "X-Request-Id", "Content-Type", "Accept", "Range"]
)
async def test_any_header_gets_an_answer(gate: Gate, service: Service, name: str) -> None:
    for value in drawn(HEADER_VALUES)[:80]:
        headers = {name: value.strip()}
        was_answered(await service.call("POST", "/v1/messages", raw=b"{}", headers=headers))


@in_module_loop
async def test_any_token_gets_an_answer(gate: Gate) -> None:
    for token in drawn(TOKEN_CHARACTERS):
        headers = {"Authorization": f"Bearer {token}"}
        (await gate.request("GET", "/v1/me", headers=headers)).problem("unauthenticated")


@in_module_loop
async def test_any_query_gets_an_answer(gate: Gate, service: Service) -> None:
    names = st.sampled_from(["limit", "cursor", "state", "kind", "chat", "since", "x"])
    queries = st.lists(
        st.tuples(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=30)), max_size=4
    )
    for query in drawn(queries):
        response = await gate.request(
            "GET", "/v1/tasks", params=query, headers={"Authorization": f"Bearer {service.token}"}
        )
        was_answered(response)


@in_module_loop
async def test_any_update_is_taken(gate: Gate) -> None:
    person = {"id": 815, "is_bot": False, "first_name": "Ada"}
    chat = {"id": 815, "type": "private", "first_name": "Ada"}
    press = {"id": "1", "from": person, "chat_instance": "1", "data": "x"}
    about = {"message_id": 5, "date": 1, "chat": chat, "from": person, "text": "/help"}
    entity = [{"type": "bot_command", "offset": 0, "length": 5}]
    valid: list[Json] = [
        {"update_id": 7_000_000, "message": {**about, "entities": entity, "reply_to_message": about}},
        {"update_id": 7_000_001, "callback_query": {**press, "message": about}},
        {"update_id": 7_000_002, "my_chat_member": {"chat": chat, "from": person, "date": 1}},
    ]
    for each in valid:
        for body in drawn(mutated(each)):
            assert (await gate.webhook(as_json(body))).status == 200, body
    assert (await gate.request("GET", "/readyz")).status == 200


SCHEMATHESIS = """
[checks]
# 501 is what this version says of a part of the contract that it does not have yet.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "504"]
"""


@in_module_loop
async def test_schemathesis_finds_nothing(gate: Gate, tmp_path: Path) -> None:
    """Schemathesis reads /openapi.json by itself and sends what it describes, and what it does not."""
    service = gate.service()
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    command: list[str | os.PathLike[str]] = [
        *(Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml"),
        *("run", f"{gate.server.address}/openapi.json", "--exclude-path", "/telegram/webhook"),
        *("--header", f"Authorization: Bearer {service.token}", "--header", "Prefer: respond-async"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1"),
        *("--continue-on-failure", "--no-shrink", "--suppress-health-check", "all", "--no-color"),
        *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
    ]
    with (tmp_path / "report.txt").open("wb") as report:
        process = await _run(command, tmp_path, report.fileno())
    text = (tmp_path / "report.txt").read_text(errors="replace")
    assert process == 0, text[-8000:]


async def _run(command: list[str | os.PathLike[str]], folder: Path, output: int) -> int:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment({"HOME": str(folder)}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        return await process.wait()
